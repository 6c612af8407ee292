"""Small real clips with sound whose halves differ, and the embedded pairs, made once."""

import numpy as np
import pytest

from coefvq.data.pairs.pool import PairPool

RATE = 12


def halves(number, width, height):
    """Left dark, right bright, brighter with every frame."""
    image = np.full((height, width, 3), 40 + 3 * number, np.uint8)
    image[:, width // 2 :] += 100
    return image


@pytest.fixture(scope="session")
def halves_of():
    """Mean grey of the left and the right half of frames (F, 3, H, W)."""

    def measure(frames):
        middle = frames.shape[-1] // 2
        return frames[..., :middle].mean((1, 2, 3)), frames[..., middle:].mean((1, 2, 3))

    return measure


@pytest.fixture(scope="session")
def original(tmp_path_factory, write_clip, tone):
    """Two seconds, 96 x 64, a tone of 400 Hz."""
    path = tmp_path_factory.mktemp("original") / "original.mp4"
    return write_clip(path, 2 * RATE, width=96, height=64, paint=halves, sound=tone(400, 2.0))


@pytest.fixture(scope="session")
def donor(tmp_path_factory, write_clip, tone):
    """Two seconds, 64 x 64, black, a tone of 1500 Hz."""
    path = tmp_path_factory.mktemp("donor") / "donor.mp4"
    black = lambda k, w, h: np.zeros((h, w, 3), np.uint8)  # noqa: E731
    return write_clip(path, 2 * RATE, width=64, height=64, paint=black, sound=tone(1500, 2.0))


@pytest.fixture(scope="session")
def pair_pool(home):
    """The pool of seed 0 in the session's home, with at least four blocks."""
    pool = PairPool(0, home)
    pool.ensure(4)
    return pool


@pytest.fixture(scope="session")
def few_clips(tmp_path_factory, write_clip, tone):
    """Ten clips of a second or two in two folders; one content is there as mp4 and as webm."""
    folder = tmp_path_factory.mktemp("few")
    for number in range(9):
        place = folder / ("a" if number < 5 else "b")
        place.mkdir(exist_ok=True)

        def paint(k, w, h, n=number):
            image = np.full((h, w, 3), 20 + 20 * n, np.uint8)
            image[:, (4 * k) % w :] = 250 - 20 * n
            return image

        sound = None if number == 8 else tone(200 + 150 * number, 2.0)
        write_clip(place / f"clip {number}.mp4", 2 * RATE, paint=paint, sound=sound)
        if number == 0:
            write_clip(
                place / "clip 0.webm", 2 * RATE, paint=paint, sound=sound, codec="libvpx-vp9",
                sound_codec="libopus", sound_rate=16_000,
            )  # fmt: skip
    return folder


@pytest.fixture
def pair_rows():
    """Correct rows over c0 to c11 (`clip_files`): 6 train (2 unlabelled), 2 val, 2 test."""
    train = [(k, (k + 1) % 6) for k in range(6)]
    sides = [*train, (6, 8), (7, 8), (9, 11), (10, 11)]
    return [
        {
            "query": f"c{query}",
            "candidate": f"c{candidate}",
            "label": "" if number in (4, 5) else number % 2,
            "sub_crop": "" if number == 2 else int(number % 4 == 1),
            "sub_flip": 0,
            "split": "train" if number < 6 else "val" if number < 8 else "test",
        }
        for number, (query, candidate) in enumerate(sides)
    ]


@pytest.fixture
def clip_rows():
    """The manifest of those clips."""
    return [
        {"id": f"c{n}", "path": f"clip{n:02d}.mp4", "title": f"about thing {n % 3}"}
        for n in range(12)
    ]


@pytest.fixture
def pair_options(write_manifest, clip_rows, clip_files, tmp_path):
    """What `PairTable` needs besides the rows."""
    return {
        "clips": write_manifest(clip_rows, "manifest.csv"),
        "root": clip_files,
        "cache_dir": tmp_path / "home",
    }
