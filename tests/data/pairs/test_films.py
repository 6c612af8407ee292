import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from coefvq.data.media import UnreadableClip
from coefvq.data.pairs.films import encode, even, look_at, pictures_of, sound_of_part, upright
from coefvq.data.pairs.plan import Plan


def test_looking_at_a_clip(original):
    film = look_at(original)
    assert (film.width, film.height, film.rate, film.turn) == (96, 64, Fraction(12), 0)
    assert film.seconds == pytest.approx(2.0, abs=0.05) and film.sound_rate == 16_000


def test_a_clip_without_sound(write_clip, tmp_path):
    assert look_at(write_clip(tmp_path / "c.mp4", 6)).sound_rate == 0


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_turned_clips_come_out_upright(write_clip, tmp_path, degrees):
    from coefvq.data.video import decode_frames

    def corner(number, width, height):
        image = np.zeros((height, width, 3), np.uint8)
        image[: height // 2, : width // 2] = 250
        return image

    path = write_clip(tmp_path / "c.mp4", 6, paint=corner, rotation=degrees)
    film = look_at(path)
    assert (film.width, film.height) == ((48, 64) if degrees % 180 else (64, 48))
    first = next(pictures_of(film, (0.0, 0.5), 1.0, upright(film), film.rate))
    mine = first.to_ndarray(format="rgb24").mean(2)
    wanted = decode_frames(path, 1, size=64, fit="squash")[0][0].mean(0)
    mine_corner = np.unravel_index(_quarters(mine).argmax(), (2, 2))
    assert mine_corner == np.unravel_index(_quarters(wanted).argmax(), (2, 2))


def _quarters(image):
    h, w = image.shape[0] // 2, image.shape[1] // 2
    return np.array([[image[:h, :w].mean(), image[:h, w:].mean()],
                     [image[h:, :w].mean(), image[h:, w:].mean()]])  # fmt: skip


def test_pixels_become_square(write_clip, tmp_path):
    path = write_clip(tmp_path / "c.mp4", 6, width=64, height=64, aspect=Fraction(2, 1))
    assert (look_at(path).width, look_at(path).height) == (128, 64)


def test_a_part_has_the_frames_of_that_part(original):
    film = look_at(original)
    found = [
        frame.to_ndarray(format="gray").mean()
        for frame in pictures_of(film, (0.5, 1.5), 1.0, upright(film), film.rate)
    ]
    assert len(found) == 12
    # Grey is 40 + 3 k in the left half and 100 more in the right; luma is 16 to 235 of that.
    steps = np.diff(found)
    assert steps == pytest.approx([3] * 11, abs=1.5)


def test_sound_is_as_long_as_asked(original, write_clip, tmp_path):
    film = look_at(original)
    assert len(sound_of_part(film, (0.5, 1.5), 1.0)) == 16_000
    assert len(sound_of_part(film, (0.0, 2.0), 1.25)) == 25_600
    beyond = sound_of_part(film, (1.5, 3.0), 1.0)
    assert len(beyond) == 24_000 and np.abs(beyond[12_000:]).max() == 0
    silent = look_at(write_clip(tmp_path / "c.mp4", 6))
    assert np.abs(sound_of_part(silent, (0.0, 0.5), 1.0, 16_000)).max() == 0


def test_truncated_and_missing_files_are_refused(original, tmp_path):
    data = original.read_bytes()
    (tmp_path / "half.mp4").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.mp4").write_text("this is no video")
    for name in ("half.mp4", "text.mp4", "none.mp4"):
        with pytest.raises(UnreadableClip):
            look_at(tmp_path / name)


def test_a_file_appears_whole_or_not_at_all(original, tmp_path):
    film = look_at(original)

    def some():
        frames = pictures_of(film, (0.0, 2.0), 1.0, upright(film), film.rate)
        yield next(frames)
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        encode(tmp_path / "c.mp4", some(), (96, 64), film.rate, Plan(), None, 0)
    assert list(tmp_path.iterdir()) == []


def test_even_sides():
    assert [even(n) for n in (0.3, 3.2, 63.0, 64.9)] == [2, 4, 64, 64]


_TWICE = """
import hashlib, sys
from pathlib import Path
import av
from coefvq.data.pairs.films import encode, look_at, pictures_of, sound_of_part, upright
from coefvq.data.pairs.plan import Plan
av.logging.set_level(None)
film, folder = look_at(sys.argv[1]), Path(sys.argv[2])
size, span = (film.width, film.height), (0.0, 2.0)
for codec in ("libx264", "libx265", "libvpx-vp9", "libsvtav1"):
    target = folder / (codec + (".webm" if "vpx" in codec else ".mp4"))
    frames = pictures_of(film, span, 1.0, upright(film), film.rate)
    wave = sound_of_part(film, span, 1.0)
    encode(target, frames, size, film.rate, Plan(codec=codec, crf=30), wave, film.sound_rate)
    print(codec, hashlib.sha256(target.read_bytes()).hexdigest())
    target.unlink()
"""


def test_bytes_are_the_same_whatever_was_in_the_memory_before(write_clip, tone, tmp_path):
    """x264's macroblock tree reads past its rows in pictures that are 20 blocks wide."""

    def moving(number, width, height):
        noise = np.random.default_rng(0).integers(0, 255, (height // 8, 2 * width // 8, 3), "uint8")
        return np.kron(noise, np.ones((8, 8, 1), "uint8"))[:, 5 * number : 5 * number + width]

    path = tmp_path / "c.mp4"
    write_clip(path, 24, width=320, height=240, paint=moving, sound=tone(400, 2.0))
    outputs = []
    for filling in ("1", "200"):  # what the C library of Linux puts into new memory
        environment = os.environ | {"MALLOC_PERTURB_": filling, "SVT_LOG": "0"}
        outputs.append(
            subprocess.run(
                [sys.executable, "-c", _TWICE, path, tmp_path], env=environment, text=True,
                cwd=Path(__file__).parents[3], check=True, capture_output=True,
            ).stdout
        )  # fmt: skip
    assert outputs[0] == outputs[1] and len(outputs[0].splitlines()) == 4
