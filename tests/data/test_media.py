import pickle

import pytest

from coefvq.data import media as media_module
from coefvq.data.media import Media, UnreadableClip


def test_the_timeline_counts_frames_where_the_header_does_not(write_clip, tmp_path):
    path = write_clip(tmp_path / "a.webm", 20, codec="libvpx-vp9")
    with Media(path) as media:
        line = media.timeline()
        assert media.video.frames == 0  # the header does not say
        assert line.shown.sum() == 20
        assert not line.truncated


def test_times_are_in_the_order_of_packets_not_of_frames(write_clip, tmp_path):
    path = write_clip(tmp_path / "a.mp4", 24)  # x264 uses B frames
    with Media(path) as media:
        pts = media.timeline().pts.tolist()
    assert pts != sorted(pts)
    assert len(set(pts)) == 24


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.mp4", b"", "the file is empty"),
        ("text.mp4", b"not a video\n" * 100, "no media file that can be opened"),
        ("noise.mkv", bytes(range(256)) * 40, "no media file that can be opened"),
    ],
)
def test_a_file_that_is_no_video_is_refused_in_one_sentence(tmp_path, name, content, reason):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UnreadableClip) as caught:
        Media(path)
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)
    assert "data.on_bad_clip=skip" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UnreadableClip, match="there is no such file"):
        Media(tmp_path / "gone.mp4")
    with pytest.raises(UnreadableClip, match="it is a folder"):
        Media(tmp_path)


def test_nothing_is_printed_about_a_damaged_file(tmp_path, capfd):
    path = tmp_path / "noise.mp4"
    path.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 8)
    with pytest.raises(UnreadableClip):
        Media(path)
    assert capfd.readouterr() == ("", "")


def test_a_colon_in_a_name_is_not_a_protocol(write_clip, tmp_path):
    original = write_clip(tmp_path / "a.mp4", 2)
    odd = tmp_path / "http:x,y.mp4"
    original.rename(odd)
    with Media(odd) as media:
        assert media.timeline().shown.sum() == 2


def test_the_error_survives_a_worker_process():
    error = UnreadableClip.because("a.mp4", "it is damaged")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert again.reason == "it is damaged"
    assert UnreadableClip("only a sentence").reason == "only a sentence"


def test_large_files_are_read_again_instead_of_kept(write_clip, tmp_path, monkeypatch):
    path = write_clip(tmp_path / "a.mp4", 24, gop=6)
    with Media(path) as media:
        kept = [(number, bytes(packet)) for number, packet in media.packets(5, 9)]
    monkeypatch.setattr(media_module, "KEEP_BYTES", 0)
    with Media(path) as media:
        assert not media.video_packets
        again = [(number, bytes(packet)) for number, packet in media.packets(5, 9)]
    assert again == kept
    assert [number for number, _ in kept] == [5, 6, 7, 8, 9]


def test_truncation_is_noticed(write_clip, tmp_path):
    path = write_clip(tmp_path / "a.mkv", 240, paint=lambda k, w, h: _noise(k, w, h))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with Media(path) as media:
        line = media.timeline()
    assert line.truncated
    assert line.announced_end * line.time_base == pytest.approx(20, abs=0.1)


def _noise(number, width, height):
    import numpy as np

    return np.random.default_rng(number).integers(0, 255, (height, width, 3), np.uint8)
