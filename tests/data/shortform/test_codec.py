import av
import numpy as np
import pytest

from coefvq.data.shortform import codec, measures
from coefvq.data.shortform.sound import RATE, make_sound

SILENCE = np.zeros(2 * RATE, np.float32)


@pytest.fixture
def write(moving, tmp_path):
    """Write a clip and return its path: `write(crf=30)`."""

    def write(frames=moving, sound=SILENCE, crf=20.0, title="look fractal zoom again"):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.mp4"
        codec.write_clip(path, frames, sound, RATE, crf=crf, title=title)
        return path

    return write


def test_two_streams_come_in_step(picture_of):
    pristine, filtered = codec.render(picture_of("life"), [("negate", "components=y")])
    assert pristine.shape == filtered.shape == (24, 192, 128)
    # Both show the same moment of a picture that changes; chroma is left alone.
    assert np.array_equal(pristine[:, 128:], filtered[:, 128:])
    total = pristine[:, :128].astype(int) + filtered[:, :128]
    assert np.ptp(total) <= 2


def test_without_filters_both_are_equal(picture_of):
    pristine, filtered = codec.render(picture_of("testsrc2"), [])
    assert np.array_equal(pristine, filtered)


def test_a_file_is_h264_and_aac_with_a_title(write):
    with av.open(str(write())) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert video.codec_context.name == "h264" and audio.codec_context.name == "aac"
        assert (video.width, video.height, video.frames) == (128, 128, 24)
        assert video.codec_context.pix_fmt == "yuv420p" and video.average_rate == 12
        assert audio.rate == 16_000 and audio.layout.name == "mono"
        assert float(video.duration * video.time_base) == 2.0
        assert float(audio.duration * audio.time_base) == 2.0
        assert container.metadata["title"] == "look fractal zoom again"
        assert sum(1 for _ in container.decode(video=0)) == 24


def test_what_was_written_is_read_back(write, moving):
    sound = make_sound(np.random.default_rng(2))
    luma, heard, features = codec.read_back(write(sound=sound, crf=10.0))
    assert luma.shape == (24, 128, 128) and luma.dtype == np.uint8
    reference, shown = (x.astype(np.float32) for x in (moving[:, :128], luma))
    assert measures.psnr(reference, shown).min() > 40, "frames are in order"
    assert len(heard) >= 2 * RATE and measures.si_sdr(sound, heard) > 15
    assert list(features) == ["qp_mean", "qp_std", "bytes_first", "bytes_mean", "bytes_std"]
    assert np.isfinite(list(features.values())).all()


@pytest.mark.parametrize("kind", ["mandelbrot", "testsrc2", "life"])
def test_the_quantiser_rises_with_crf_and_packets_shrink(write, picture_of, kind):
    frames, _ = codec.render(picture_of(kind), [])
    found = [codec.read_back(write(frames, crf=crf))[2] for crf in (18, 28, 38, 48)]
    quantisers = [features["qp_mean"] for features in found]
    assert quantisers == sorted(quantisers) and quantisers[-1] > quantisers[0] + 20
    assert all(0 <= q <= 51 for q in quantisers)
    for name in ("bytes_first", "bytes_mean"):
        sizes = [features[name] for features in found]
        assert sizes == sorted(sizes, reverse=True) and sizes[-1] < 0.5 * sizes[0]


def test_packet_sizes_are_those_of_the_file(write):
    path = write()
    features = codec.read_back(path)[2]
    with av.open(str(path)) as container:
        sizes = [packet.size for packet in container.demux(video=0) if packet.size]
    assert len(sizes) == 24 and features["bytes_first"] == sizes[0]
    assert features["bytes_mean"] == pytest.approx(sum(sizes[1:]) / 23)
    assert features["bytes_std"] == pytest.approx(np.std(sizes[1:]))


@pytest.mark.parametrize("position", [1500, 16_000, 30_000])
def test_sound_stays_where_it_was(write, position):
    click = SILENCE.copy()
    click[position] = 0.9
    heard = codec.read_back(write(sound=click))[1]
    assert abs(int(np.abs(heard).argmax()) - position) <= RATE // 1000


def test_a_file_appears_whole_or_not_at_all(tmp_path, moving):
    def failing():
        yield from moving[:12]
        raise RuntimeError("the power is gone")

    path = tmp_path / "clip.mp4"
    with pytest.raises(RuntimeError, match="the power"):
        codec.write_clip(path, failing(), SILENCE, RATE, crf=20, title="")
    assert not path.exists()
    codec.write_clip(path, moving, SILENCE, RATE, crf=20, title="")
    assert len(codec.read_back(path)[0]) == 24


def test_a_clip_without_encoder_statistics_says_so(write, monkeypatch):
    path = write()
    monkeypatch.setattr(codec, "_mean_qp", lambda frame: float("nan"))
    features = codec.read_back(path)[2]
    assert np.isnan(features["qp_mean"]) and features["bytes_mean"] > 0
