"""Real media files, written on the spot."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

RATE = 12
SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "clips"


def grey(number):
    """Grey level that says which frame this is."""
    return 16 + 8 * number


def number_of(frame):
    """Undo `grey` for a (3, h, w) frame."""
    return round((float(frame.mean()) - 16) / 8)


def picture(number, width, height):
    return np.full((height, width, 3), grey(number), np.uint8)


def write(
    path,
    frames=24,
    *,
    width=64,
    height=48,
    rate=RATE,
    codec="libx264",
    pix_fmt="yuv420p",
    gop=None,
    pts=None,
    paint=picture,
    painted="rgb24",
    rotation=None,
    aspect=None,
    sound=None,
    sound_rate=16_000,
    sound_codec="aac",
    container=None,
    options=None,
    codec_options=None,
):
    """Write a clip whose frame k is `paint(k, width, height)`, of format `painted`."""
    path = Path(path)
    with av.open(str(path), "w", format=container, options=options or {}) as out:
        video = out.add_stream(codec, rate=rate, options=codec_options or {})
        video.width, video.height, video.pix_fmt = width, height, pix_fmt
        if gop is not None:
            video.gop_size = gop
        if aspect is not None:
            video.codec_context.sample_aspect_ratio = aspect
        if rotation is not None:
            video.set_display_rotation(rotation)
        voice = None
        if sound is not None:
            voice = out.add_stream(sound_codec, rate=sound_rate)
            voice.layout = "mono"
        if pts is not None:
            video.codec_context.time_base = Fraction(1, 1000)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(paint(number, width, height), format=painted)
            frame.pts = number if pts is None else pts[number]
            if pts is not None:
                frame.time_base = Fraction(1, 1000)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if voice is not None:
            for start in range(0, len(sound), 1024):
                chunk = np.ascontiguousarray(sound[None, start : start + 1024], np.float32)
                frame = av.AudioFrame.from_ndarray(chunk, format="fltp", layout="mono")
                frame.sample_rate, frame.pts = sound_rate, start
                frame.time_base = Fraction(1, sound_rate)
                out.mux(voice.encode(frame))
            out.mux(voice.encode(None))
    return path


@pytest.fixture(scope="session")
def write_clip():
    return write


@pytest.fixture(scope="session")
def frame_number():
    return number_of


@pytest.fixture(scope="session")
def tone():
    def make(hertz, seconds, rate=16_000):
        return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)

    return make


@pytest.fixture(scope="session")
def clip_files(tmp_path_factory, tone):
    """Twelve small clips with sound, a second each."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(12):
        write(
            folder / f"clip{number:02d}.mp4",
            RATE,
            paint=lambda k, w, h, n=number: picture((k + n) % 24, w, h),
            sound=tone(200 + 100 * number, 1.0),
        )
    return folder


@pytest.fixture(scope="session")
def real_clips():
    """The real clips beside the repository."""
    if not SHARED.is_dir():
        pytest.skip("the folder ../shared/data/clips with real clips is not there")
    return SHARED


@pytest.fixture
def write_manifest(tmp_path):
    """Write rows (dicts) as CSV; None is an empty cell."""
    import csv

    def make(rows, name="clips.csv"):
        columns = list(dict.fromkeys(column for row in rows for column in row))
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
        return tmp_path / name

    return make


@pytest.fixture
def rows(clip_files):
    """Twelve correct rows: 8 train (2 unlabelled), 2 val, 2 test; two privileged columns."""
    made = []
    for number in range(12):
        split = "train" if number < 8 else "val" if number < 10 else "test"
        made.append(
            {
                "id": f"c{number}",
                "path": f"clip{number:02d}.mp4",
                "title": f"a clip about thing {number % 3}",
                "label": "" if number in (6, 7) else number % 2,
                "split": split,
                "dense_a": number * 1.5,
                "dense_b": "" if number % 4 == 0 else number**2,
                "group": f"g{number}",
            }
        )
    return made
