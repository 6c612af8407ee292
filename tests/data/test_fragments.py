import numpy as np
import pytest

from coefvq.data.fragments import GRID, Fragments, cut, fitted
from coefvq.data.picture import Square
from coefvq.data.reader import ClipReader, read_file
from coefvq.data.video import decode_frames
from coefvq.types import Clip, InputSpec


def noise(number, width, height):
    rng = np.random.default_rng(number // 8)  # still for eight frames
    return np.repeat(rng.integers(0, 255, (height, width, 1), dtype=np.uint8), 3, 2)


def test_patches_are_pixels_of_the_picture_in_the_middle_of_their_cells():
    image = np.arange(70 * 105, dtype=np.int32).reshape(70, 105, 1).repeat(3, 2)
    mosaic = cut(image, 28, np.full((2, GRID, GRID), 0.5))
    assert mosaic.shape == (3, 28, 28)
    # Cells of 10 x 15: patches of 4 start at 3 of 0..6 down, and at 6 of 0..11 across.
    for i in range(GRID):
        for j in range(GRID):
            top, left = 10 * i + 3, 15 * j + 6
            patch = mosaic[0, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4]
            assert (patch == image[top : top + 4, left : left + 4, 0]).all()


@pytest.mark.parametrize("shape", [(28, 28), (29, 61), (55, 28), (200, 31)])
def test_cells_of_any_size_hold_their_patches(shape):
    image = np.ones((*shape, 3), np.uint8)
    for place in (0.0, 0.5, 1 - 1e-12):
        assert (cut(image, 28, np.full((2, GRID, GRID), place)) == 1).all()


def test_a_grid_as_large_as_the_picture_is_the_picture():
    image = np.random.default_rng(0).integers(0, 255, (28, 28, 3), dtype=np.uint8)
    assert (cut(image, 28, np.zeros((2, 7, 7))) == image.transpose(2, 0, 1)).all()


@pytest.mark.parametrize("size", [7, 100, 127])
def test_sizes_that_do_not_fit_the_grid(size):
    with pytest.raises(ValueError, match="must be a multiple of 7 of at least 14, got"):
        fitted(size, "fragments")


def test_fits_are_told_apart():
    assert isinstance(fitted(28, "crop"), Square) and isinstance(fitted(28, "fragments"), Fragments)
    with pytest.raises(ValueError, match="fit 'zoom' is unknown; choose one of crop, squash"):
        fitted(28, "zoom")


class TestFiles:
    def test_patches_are_the_same_in_still_frames_and_every_time(self, write_clip, tmp_path):
        clip = write_clip(tmp_path / "a.mp4", 8, width=160, height=120, paint=noise,
                          codec_options={"crf": "10"})  # fmt: skip
        first, mask, _ = decode_frames(clip, 4, "uniform", 56, "fragments")
        again = decode_frames(clip, 4, "uniform", 56, "fragments", np.random.default_rng(5))[0]
        assert mask.all() and (first == again).all()  # uniform: no chance, whoever hands one in
        drawn = [
            decode_frames(clip, 2, "random_segments", 56, "fragments", np.random.default_rng(s))[0]
            for s in (1, 1, 2)
        ]
        assert (drawn[0] == drawn[1]).all() and not (drawn[0] == drawn[2]).all()
        for frames in (first, drawn[0]):  # aligned over time
            assert np.abs(frames[0].astype(int) - frames[1]).mean() < 10

    @pytest.mark.parametrize(
        ("width", "height", "options"),
        [
            (48, 64, {}),  # portrait, and smaller than the grid
            (34, 190, {}),
            (190, 34, {}),
            (226, 118, {"rotation": 90}),
            (130, 98, {"codec": "libx265", "pix_fmt": "yuv420p10le"}),
            (98, 130, {"aspect": 2}),
        ],
    )
    def test_odd_sizes_portrait_and_ten_bits(self, width, height, options, write_clip, tmp_path):
        clip = write_clip(tmp_path / "a.mp4", 6, width=width, height=height, **options)
        inputs = InputSpec(num_frames=3, frame_size=56, fit="fragments", audio=False)
        frames = read_file(clip, inputs, "uniform").frames
        assert frames.shape == (3, 3, 56, 56) and frames.dtype == np.uint8
        # Grey pictures that grow brighter: nothing black is left from outside the picture.
        assert frames.reshape(3, -1).std(1).max() < 5 and np.diff(frames.mean((1, 2, 3))).min() > 5

    def test_a_turned_clip_is_cut_upright(self, write_clip, tmp_path):
        def half(number, width, height):
            image = np.zeros((height, width, 3), np.uint8)
            image[:, width // 2 :] = 200
            return image

        clip = write_clip(tmp_path / "a.mp4", 2, width=160, height=120, paint=half, rotation=-90)
        frame = decode_frames(clip, 1, "uniform", 56, "fragments")[0][0]
        top, bottom = frame[:, :28].mean(), frame[:, 28:].mean()
        assert abs(top - bottom) > 150 and frame[:, :, :28].mean() == pytest.approx(100, abs=20)

    def test_real_files(self, real_clips):
        inputs = InputSpec(num_frames=2, frame_size=224, fit="fragments", audio=False)
        for name in ("cars_a.mp4", "mdn_rabbit320.webm", "nasa.mp4"):
            sample = ClipReader(inputs).read(Clip(name, real_clips / name))
            assert sample.frames.shape == (2, 3, 224, 224) and sample.frame_mask.all()
