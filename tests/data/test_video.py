import numpy as np
import pytest

from coefvq.data import media as media_module
from coefvq.data.media import Media, UnreadableClip
from coefvq.data.video import decode_frames, frames_of, probe

# 24 frames in 4 segments of 6: the middles fall on frames 3, 9, 15 and 21.
EXPECTED = [3, 9, 15, 21]


def _studio_grey(number, width, height):
    """The grey of frame `number` as H.264 means it unless told otherwise: black is 16."""
    return np.full((height, width), round(16 + (16 + 8 * number) * 219 / 255), np.uint8)


FORMATS = {
    "h264.mp4": {},
    "h264.mkv": {},
    "h264.ts": {},
    "h264.h264": {"container": "h264"},
    "vp8.webm": {"codec": "libvpx"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "hevc.mp4": {"codec": "libx265", "codec_options": {"x265-params": "log-level=none"}},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg4_b.avi": {"codec": "mpeg4", "codec_options": {"bf": "2"}},
    "ten_bit.mp4": {"pix_fmt": "yuv420p10le"},
    "yuv444.mp4": {"pix_fmt": "yuv444p"},
    "grey.mp4": {"pix_fmt": "gray", "painted": "gray", "paint": _studio_grey},
    "bgr0.mkv": {"codec": "ffv1", "pix_fmt": "bgr0"},
    "rgba.mov": {"codec": "png", "pix_fmt": "rgba"},
    "palette.mov": {"codec": "png", "pix_fmt": "pal8"},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "odd.mp4": {"width": 65, "height": 49, "pix_fmt": "yuv444p"},
    "key_frames.mp4": {"gop": 4},
    "open_gop.mp4": {"gop": 8, "codec_options": {"x264-params": "open-gop=1:bframes=3"}},
}


def numbers(frames, mask, frame_number):
    return [frame_number(frame) for frame, real in zip(frames, mask, strict=True) if real]


@pytest.mark.parametrize("name", FORMATS)
def test_the_right_frames_of_every_format(name, write_clip, frame_number, tmp_path):
    options = dict(FORMATS[name])
    if options.get("pix_fmt") == "pal8":
        path = _palette_clip(tmp_path / name)
    else:
        path = write_clip(tmp_path / name, **options)
    frames, mask, times = decode_frames(path, 4, size=32)
    assert frames.shape == (4, 3, 32, 32) and frames.dtype == np.uint8
    assert numbers(frames, mask, frame_number) == EXPECTED
    if not name.endswith(".h264"):  # a raw stream has no times of its own
        assert times.tolist() == pytest.approx([k / 12 for k in EXPECTED], abs=0.002)


def _palette_clip(path):
    import av

    with av.open(str(path), "w") as out:
        stream = out.add_stream("png", rate=12)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "pal8"
        palette = np.stack([np.full(256, 255), *[np.arange(256)] * 3], axis=1).astype(np.uint8)
        for number in range(24):
            image = np.full((48, 64), 16 + 8 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray((image, palette), format="pal8")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("gop", [1, 5, 250])
@pytest.mark.parametrize("count", [1, 3, 8, 24])
def test_short_cuts_change_nothing(gop, count, write_clip, tmp_path):
    path = write_clip(tmp_path / "a.mp4", 24, gop=gop, paint=_moving)
    with Media(path) as media:
        quick = frames_of(media, count, "uniform", 48, "crop")
    with Media(path) as media:
        slow = frames_of(media, count, "uniform", 48, "crop", shortcuts=False)
    assert np.array_equal(quick[0], slow[0])
    assert quick[1].all()


def test_files_too_large_to_keep_give_the_same_frames(write_clip, tmp_path, monkeypatch):
    path = write_clip(tmp_path / "a.mp4", 24, gop=5, paint=_moving)
    kept = decode_frames(path, 4, size=48)[0]
    monkeypatch.setattr(media_module, "KEEP_BYTES", 0)
    assert np.array_equal(decode_frames(path, 4, size=48)[0], kept)


def test_a_frame_that_the_short_cut_misses_is_found_from_the_start(
    write_clip, frame_number, tmp_path, monkeypatch
):
    path = write_clip(tmp_path / "a.mp4", 24, gop=5)
    # As if the container had marked its key frames wrongly: decoding begins in mid-air.
    monkeypatch.setattr("coefvq.data.video._runs", lambda line, wanted: [(7, 9)])
    frames, mask, _ = decode_frames(path, 4, size=16)
    assert numbers(frames, mask, frame_number) == EXPECTED


def _moving(number, width, height):
    x = np.arange(width)[None] + 3 * number
    y = np.arange(height)[:, None] - 2 * number
    return np.stack([(x * 5 + y) % 256, (x + y * 3) % 256, (x * y) % 256], -1).astype(np.uint8)


def test_variable_frame_rate_is_sampled_by_time(write_clip, frame_number, tmp_path):
    # Ten frames in the first 100 ms, then one every 300 ms: the last ten fill almost all the time.
    pts = [10 * k for k in range(10)] + [100 + 300 * k for k in range(10)]
    path = write_clip(tmp_path / "a.mkv", 20, pts=pts)
    frames, mask, times = decode_frames(path, 5, size=16)
    # The middles of fifths of about 3 s: .3, .9, 1.5, 2.1, 2.7 s.
    assert numbers(frames, mask, frame_number) == [10, 12, 14, 16, 18]
    assert np.allclose(times, [0.1, 0.7, 1.3, 1.9, 2.5], atol=0.002)


def test_a_clip_of_one_frame_fills_one_place(write_clip, frame_number, tmp_path):
    for name in ("a.mp4", "a.mkv"):
        path = write_clip(tmp_path / name, 1)
        frames, mask, times = decode_frames(path, 4, size=16)
        assert mask.tolist() == [True, False, False, False]
        assert frame_number(frames[0]) == 0
        assert not frames[1:].any()
        assert times[0] == 0 and np.isnan(times[1:]).all()


def test_fewer_frames_than_asked_for_are_each_taken_once(write_clip, frame_number, tmp_path):
    path = write_clip(tmp_path / "a.mp4", 3)
    frames, mask, _ = decode_frames(path, 8, size=16)
    assert numbers(frames, mask, frame_number) == [0, 1, 2]


def test_per_second_and_random_policies(write_clip, frame_number, tmp_path):
    path = write_clip(tmp_path / "a.mp4", 24)
    frames, mask, _ = decode_frames(path, 4, "per_second", size=16)
    assert numbers(frames, mask, frame_number) == [6, 18]  # the middles of two seconds
    found = set()
    for seed in range(6):
        rng = np.random.default_rng(seed)
        drawn = numbers(*decode_frames(path, 2, "random_segments", 16, rng=rng)[:2], frame_number)
        assert drawn[0] < 12 <= drawn[1]
        found.add(tuple(drawn))
    assert len(found) > 2


def _corners(number, width, height):
    """Red above left, green above right, blue below left, white below right."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2, 0] = 255
    image[: height // 2, width // 2 :, 1] = 255
    image[height // 2 :, : width // 2, 2] = 255
    image[height // 2 :, width // 2 :] = 255
    return image


def _read_corners(frame):
    size = frame.shape[-1]
    places = [(size // 4, size // 4), (size // 4, -size // 4), (-size // 4, size // 4)]
    names = {(1, 0, 0): "red", (0, 1, 0): "green", (0, 0, 1): "blue", (1, 1, 1): "white"}
    found = [tuple((frame[:, y, x] > 128).astype(int).tolist()) for y, x in places]
    return [names[colour] for colour in found]


@pytest.mark.parametrize(
    ("rotation", "expected"),
    [
        (None, ["red", "green", "blue"]),
        # Turned counterclockwise by 90 degrees, the upper right corner is upper left.
        (90, ["green", "white", "red"]),
        (180, ["white", "blue", "green"]),
        (-90, ["blue", "red", "white"]),
    ],
)
@pytest.mark.parametrize("fit", ["crop", "squash", "letterbox"])
def test_rotation_is_applied(rotation, expected, fit, write_clip, tmp_path):
    import av

    if rotation is not None and not hasattr(av.VideoStream, "set_display_rotation"):
        pytest.skip("this PyAV cannot write a display matrix")
    path = write_clip(tmp_path / "a.mp4", 2, paint=_corners, rotation=rotation, width=64, height=64)
    assert _read_corners(decode_frames(path, 1, size=32, fit=fit)[0][0]) == expected


def test_mirror_images_are_applied(write_clip, tmp_path, monkeypatch):
    import av

    if not hasattr(av.VideoStream, "set_display_rotation"):
        pytest.skip("this PyAV cannot write a display matrix")
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=12)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.set_display_rotation(0, hflip=True)
        frame = av.VideoFrame.from_ndarray(_corners(0, 64, 64))
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    frame = decode_frames(tmp_path / "a.mp4", 1, size=32)[0][0]
    assert _read_corners(frame) == ["green", "red", "white"]


def _stripes(number, width, height):
    """Left third red, middle third green, right third blue."""
    image = np.zeros((height, width, 3), np.uint8)
    for channel in range(3):
        image[:, channel * width // 3 : (channel + 1) * width // 3, channel] = 255
    return image


def test_fits(write_clip, tmp_path):
    path = write_clip(tmp_path / "a.mp4", 1, paint=_stripes, width=144, height=48)
    middle = {
        fit: decode_frames(path, 1, size=48, fit=fit)[0][0, :, 24] > 128
        for fit in ("crop", "squash", "letterbox")
    }
    assert middle["crop"][1].mean() > 0.9  # only the middle third is left
    for fit in ("squash", "letterbox"):
        assert [middle[fit][c, 16 * c + 8] for c in range(3)] == [True] * 3
    bars = decode_frames(path, 1, size=48, fit="letterbox")[0][0]
    assert not bars[:, :15].any() and not bars[:, -15:].any()
    assert bars[:, 17:31].max() > 200


def test_pixels_that_are_not_square(write_clip, tmp_path):
    from fractions import Fraction

    # 48 x 48 stored pixels, each three times as wide as high: shown, it is the 144 x 48 of above.
    path = write_clip(
        tmp_path / "a.mp4", 1, paint=_stripes, width=48, height=48, aspect=Fraction(3, 1)
    )
    centre = decode_frames(path, 1, size=48, fit="crop")[0][0] > 128
    assert centre[1, 24].mean() > 0.9
    assert not decode_frames(path, 1, size=48, fit="letterbox")[0][0][:, :15].any()


def test_an_unknown_fit_is_refused(write_clip, tmp_path):
    path = write_clip(tmp_path / "a.mp4", 1)
    with pytest.raises(ValueError, match="fit 'zoom' is unknown; choose one of crop, squash"):
        decode_frames(path, 1, fit="zoom")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm"])
def test_a_truncated_file_says_how_much_could_be_decoded(name, write_clip, tmp_path):
    options = {"options": {"movflags": "faststart"}} if name == "a.mp4" else {}
    codec = "libvpx-vp9" if name == "a.webm" else "libx264"
    path = write_clip(tmp_path / name, 48, paint=_moving, gop=4, codec=codec, **options)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * 0.6)])
    with pytest.raises(UnreadableClip, match=r"it is truncated .* 2 of 4 sampled frames could"):
        decode_frames(path, 4, size=16)


def test_an_index_at_the_end_that_is_cut_off(write_clip, tmp_path):
    path = write_clip(tmp_path / "a.mp4", 24)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableClip, match="no media file that can be opened"):
        decode_frames(path, 4)


def test_damage_in_the_middle_is_not_passed_over(write_clip, tmp_path):
    path = write_clip(tmp_path / "a.mp4", paint=_moving, codec="mjpeg", pix_fmt="yuvj420p")
    content = bytearray(path.read_bytes())
    with Media(path) as media:
        packet = media.video_packets[9]
        start, size = packet.pos, packet.size
    content[start : start + size] = bytes(size)
    path.write_bytes(content)
    with pytest.raises(UnreadableClip, match="it is damaged, and 3 of 4 sampled frames could be"):
        decode_frames(path, 4, size=16)
    # Frames that are not sampled may be damaged: 24 frames in 3 segments are 4, 12 and 20.
    assert decode_frames(path, 3, size=16)[1].all()


def test_sound_alone_is_no_clip(tmp_path):
    import av

    with av.open(str(tmp_path / "a.m4a"), "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=16_000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        frame.sample_rate = 16_000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with pytest.raises(UnreadableClip, match="no video stream"):
        decode_frames(tmp_path / "a.m4a", 1)


def test_probe(write_clip, tone, tmp_path):
    path = write_clip(tmp_path / "a.mp4", 24, sound=tone(440, 1))
    info = probe(path)
    assert (info.width, info.height, info.num_frames, info.codec) == (64, 48, 24, "h264")
    assert info.fps == pytest.approx(12) and info.seconds == pytest.approx(2)
    assert info.has_sound and not info.truncated


def test_every_real_clip_decodes(real_clips):
    files = sorted(
        path for path in real_clips.iterdir() if path.suffix in (".mp4", ".webm", ".mkv")
    )
    assert len(files) == 33
    for path in files:
        frames, mask, _ = decode_frames(path, 2, size=64)
        assert mask.all() and frames.std() > 5 and not probe(path).truncated


def _equal_with_and_without_short_cuts(path, count=4):
    with Media(path) as media:
        quick = frames_of(media, count, "uniform", 96, "crop")
    with Media(path) as media:
        slow = frames_of(media, count, "uniform", 96, "crop", shortcuts=False)
    assert np.array_equal(quick[0], slow[0]), path
    assert np.array_equal(quick[2], slow[2])


@pytest.mark.parametrize(
    "name", ["asl_help.mkv", "nasa.mp4", "pancake.mkv", "cars_a.mp4", "mdn_rabbit320.webm"]
)
def test_short_cuts_change_nothing_on_real_clips(name, real_clips):
    _equal_with_and_without_short_cuts(real_clips / name)


@pytest.mark.slow
def test_short_cuts_change_nothing_on_all_real_clips(real_clips):
    for path in sorted(real_clips.iterdir()):
        if path.suffix != ".csv":
            _equal_with_and_without_short_cuts(path, 7)


@pytest.mark.parametrize("name", ["mdn_pig", "mdn_rabbit320"])
def test_two_codings_of_one_recording_agree(name, real_clips):
    first = decode_frames(real_clips / f"{name}.mp4", 4, size=96)
    second = decode_frames(real_clips / f"{name}.webm", 4, size=96)
    assert np.allclose(first[2], second[2], atol=0.002)
    difference = np.abs(first[0].astype(int) - second[0]).mean(axis=(1, 2, 3))
    # The same moments differ by coding noise; a neighbouring moment by the toy's motion.
    assert (difference < 8).all()
    away = np.abs(first[0].astype(int) - np.roll(second[0], 1, axis=0)).mean(axis=(1, 2, 3))
    assert (difference < away).all()
