"""Real encodes: every transformation changes what it says, and leaves the rest."""

import numpy as np
import pytest

from coefvq.data.audio import decode_audio
from coefvq.data.media import UnreadableClip
from coefvq.data.pairs import transforms
from coefvq.data.pairs.films import look_at
from coefvq.data.pairs.plan import CODECS, Plan
from coefvq.data.pairs.transforms import LEAST, make_copy, picture_filters, suffix_of
from coefvq.data.video import decode_frames, probe


@pytest.fixture
def copy(original, donor, tmp_path):
    """Make a copy by this plan; answers with its path."""

    def make(**options):
        plan = Plan(**options)
        path = tmp_path / f"copy{suffix_of(plan.codec)}"
        make_copy(original, path, plan, donor)
        assert [p.name for p in tmp_path.iterdir()] == [path.name]
        return path

    return make


def frames_of(path, count=4, fit="squash"):
    return decode_frames(path, count, size=64, fit=fit)[0].astype(float)


def pitch(path, start=0.0, seconds=10.0):
    """The loudest frequency between two moments, in Hz; None where there is silence."""
    wave = decode_audio(path, 16_000, start + seconds)[int(start * 16_000) :]
    if np.abs(wave).max() < 0.02:
        return None
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    return float(spectrum.argmax() * 16_000 / len(wave))


def test_a_plain_copy_is_nearly_the_original(copy, original):
    path = copy()
    info, before = probe(path), probe(original)
    assert (info.width, info.height, info.num_frames) == (96, 64, 24)
    assert info.seconds == pytest.approx(before.seconds, abs=0.05) and info.codec == "h264"
    assert np.abs(frames_of(path) - frames_of(original)).mean() < 2
    assert pitch(path) == pytest.approx(400, abs=5)


@pytest.mark.parametrize(
    ("codec", "name"),
    [("libx264", "h264"), ("libx265", "hevc"), ("libvpx-vp9", "vp9"), ("libsvtav1", "av1")],
)
def test_reencode(copy, original, codec, name):
    sizes = []
    for crf in (CODECS[codec][0], CODECS[codec][-1]):
        path = copy(how=("reencode",), codec=codec, crf=crf)
        found = probe(path).codec
        assert name in found or (name == "av1" and "dav1d" in found)
        assert np.abs(frames_of(path) - frames_of(original)).mean() < 8
        assert probe(path).num_frames == 24 and pitch(path) == pytest.approx(400, abs=5)
        sizes.append(path.stat().st_size)
        path.unlink()
    assert sizes[1] <= sizes[0]


def test_flip_mirrors(copy, original, halves_of):
    left, right = halves_of(frames_of(copy(how=("flip",), flip=True)))
    before_left, before_right = halves_of(frames_of(original))
    assert (left > right + 80).all()
    assert left == pytest.approx(before_right, abs=4) and right == pytest.approx(before_left, abs=4)


def test_crop_keeps_the_part(copy):
    path = copy(how=("crop",), crop=(0.5, 0.0, 0.5, 1.0))  # the bright half: 48 x 64, then grown
    assert (probe(path).width, probe(path).height) == (64, 86)
    frames = frames_of(path)
    assert (frames.std(axis=(2, 3)) < 5).all() and frames[0].mean() > 120


def test_scale(copy, original):
    path = copy(how=("scale",), scale=(1.5, 1.25))
    assert (probe(path).width, probe(path).height) == (144, 80)
    assert np.abs(frames_of(path) - frames_of(original)).mean() < 5


def test_letterbox_adds_bars(copy):
    path = copy(how=("letterbox",), letterbox=1.0, colours=(0x0000FF, 0, 0))
    assert (probe(path).width, probe(path).height) == (96, 96)
    frame = frames_of(path)[0]
    red, green, blue = frame[:, :8].mean((1, 2))  # the upper bar
    assert blue > 200 and red < 40 and green < 40
    assert frame[:, 24:40].std() > 30  # the picture between the bars


def test_overlay_covers_its_box_only(copy, original):
    path = copy(how=("overlay",), overlay=(0.0, 0.5, 1.0, 0.5), colours=(0, 0x00FF00, 0xFF0000))
    new, old = frames_of(path)[0], frames_of(original)[0]
    assert np.abs(new[:, :28] - old[:, :28]).mean() < 6
    assert new[1, 34:38].mean() > 200  # green
    assert (new[0] > 200).any()  # the mark in it


@pytest.mark.parametrize("speed", [0.8, 1.6])
def test_speed_changes_the_duration_and_not_the_pitch(copy, original, speed):
    path = copy(how=("speed",), speed=speed)
    assert probe(path).seconds == pytest.approx(2.0 / speed, abs=0.1)
    assert probe(path).fps == pytest.approx(12, abs=0.2)
    wave = decode_audio(path, 16_000, 10.0)
    assert len(wave) / 16_000 == pytest.approx(2.0 / speed, abs=0.1)
    assert pitch(path) == pytest.approx(400, abs=10)
    assert np.abs(frames_of(path) - frames_of(original)).mean() < 6  # the same course, faster


def test_trim_keeps_the_span(copy, original):
    path = copy(how=("trim",), span=(0.5, 1.0))
    assert probe(path).seconds == pytest.approx(1.0, abs=0.1)
    late = frames_of(original, 4)[2:]
    assert np.abs(frames_of(path, 2) - late).mean() < 4
    assert len(decode_audio(path, 16_000, 9.0)) == pytest.approx(16_000, abs=1100)


def test_splice_puts_the_clip_between_parts_of_another(copy, original):
    path = copy(how=("splice",), splice=(0.5, 0.5))  # one second before, one after
    assert probe(path).seconds == pytest.approx(4.0, abs=0.1)
    frames = frames_of(path, 8)
    bright = frames.mean((1, 2, 3)) > 60
    assert bright.tolist() == [False] * 2 + [True] * 4 + [False] * 2
    assert np.abs(frames[2:6] - frames_of(original)).mean() < 4
    assert pitch(path, 0.2, 0.6) == pytest.approx(1500, abs=10)
    assert pitch(path, 1.3, 1.2) == pytest.approx(400, abs=10)
    assert pitch(path, 3.2, 0.6) == pytest.approx(1500, abs=10)


def test_splice_behind_only(copy):
    path = copy(how=("splice",), splice=(0.0, 0.5))
    bright = frames_of(path, 6).mean((1, 2, 3)) > 60
    assert bright.tolist() == [True] * 4 + [False] * 2


def test_sound_replaced_removed_and_reencoded(copy, original):
    path = copy(how=("audio_replaced",))
    assert pitch(path) == pytest.approx(1500, abs=10)
    assert np.abs(frames_of(path) - frames_of(original)).mean() < 2
    path.unlink()
    path = copy(how=("audio_removed",))
    assert not probe(path).has_sound and probe(path).num_frames == 24
    path.unlink()
    plain = copy()
    size = plain.stat().st_size
    plain.unlink()
    path = copy(how=("audio_reencoded",), bitrate=12_000)
    assert pitch(path) == pytest.approx(400, abs=10) and path.stat().st_size < size


def test_all_at_once_in_webm(copy):
    path = copy(
        how=("reencode", "crop", "scale", "letterbox", "overlay", "flip", "speed", "trim",
             "splice", "audio_replaced"),
        codec="libvpx-vp9", crf=40, crop=(0.1, 0.1, 0.8, 0.8), scale=(0.7, 0.6), letterbox=1.7778,
        overlay=(0.2, 0.2, 0.3, 0.3), flip=True, speed=1.25, span=(0.1, 0.9), splice=(0.25, 0.25),
    )  # fmt: skip
    # 0.8 of two seconds, 1.25 times as fast, and half as much of the donor.
    assert probe(path).seconds == pytest.approx(0.8 * 2 / 1.25 * 1.5, abs=0.2)
    assert probe(path).codec.startswith(("vp9", "libvpx")) and pitch(path) == pytest.approx(
        1500, abs=10
    )


def test_a_silent_clip_can_get_sound(donor, write_clip, tmp_path):
    silent = write_clip(tmp_path / "silent.mp4", 12)
    make_copy(silent, tmp_path / "plain.mp4", Plan(how=("flip",), flip=True))
    assert not probe(tmp_path / "plain.mp4").has_sound
    make_copy(silent, tmp_path / "copy.mp4", Plan(how=("audio_replaced",)), donor)
    assert pitch(tmp_path / "copy.mp4") == pytest.approx(1500, abs=20)


def test_small_pictures_are_grown_to_what_encoders_take(write_clip, tmp_path):
    small = write_clip(tmp_path / "small.mp4", 4, width=32, height=16)
    _, width, height = picture_filters(look_at(small), Plan())
    assert (width, height) == (2 * LEAST, LEAST)
    make_copy(small, tmp_path / "c.mp4", Plan(how=("reencode",), codec="libsvtav1", crf=40))
    assert probe(tmp_path / "c.mp4").height == LEAST


def test_without_a_donor_the_plan_is_refused(original, tmp_path):
    with pytest.raises(ValueError, match="copy with splice needs a donor"):
        make_copy(original, tmp_path / "c.mp4", Plan(how=("splice",), splice=(0.5, 0.0)))


def test_a_damaged_original_leaves_no_file(original, tmp_path):
    broken = tmp_path / "in" / "broken.mp4"
    broken.parent.mkdir()
    data = bytearray(original.read_bytes())
    data[200 : len(data) // 2] = bytes(len(data) // 2 - 200)
    broken.write_bytes(bytes(data))
    with pytest.raises(UnreadableClip):
        make_copy(broken, tmp_path / "copy.mp4", Plan())
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_a_source_of_one_frame_is_to_blame_and_not_its_donor(write_clip, donor, tmp_path):
    source = write_clip(tmp_path / "one.mp4", 1)
    plan = Plan(how=("splice",), splice=(0.1, 0.1))
    with pytest.raises(UnreadableClip, match="it is too short to be spliced") as caught:
        make_copy(source, tmp_path / "copy.mp4", plan, donor)
    assert caught.value.path == source and not (tmp_path / "copy.mp4").exists()


def test_a_donor_without_the_frames_is_to_blame(original, donor, tmp_path, monkeypatch):
    """A whole second was asked for, of a place where it ends already."""
    monkeypatch.setattr(transforms, "_within", lambda span, _: (40.0, 41.0))
    plan = Plan(how=("splice",), splice=(0.5, 0.0))
    with pytest.raises(UnreadableClip, match=r"no frame between 40\.00 and 41\.00 s") as caught:
        make_copy(original, tmp_path / "copy.mp4", plan, donor)
    assert caught.value.path == donor
