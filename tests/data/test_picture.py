import av
import numpy as np
import pytest

from coefvq.data.picture import Square

# Rotation, mirror images and odd pixel formats are tested through whole files in test_video.py.


def frame(width, height, value=200):
    return av.VideoFrame.from_ndarray(np.full((height, width, 3), value, np.uint8))


@pytest.mark.parametrize("fit", ["crop", "squash", "letterbox"])
@pytest.mark.parametrize("shape", [(64, 64), (1, 1), (2, 99), (333, 7), (16, 9), (1921, 3)])
@pytest.mark.parametrize("aspect", [1.0, 0.5, 2.0])
def test_any_shape_becomes_the_square(fit, shape, aspect):
    image = Square(24, fit, aspect)(frame(*shape))
    assert image.shape == (3, 24, 24) and image.dtype == np.uint8
    assert image.flags["C_CONTIGUOUS"]
    assert abs(int(image[:, 11:13, 11:13].max()) - 200) <= 1  # the centre is picture, never bar


def test_bars_are_where_the_picture_is_not():
    image = Square(20, "letterbox")(frame(40, 20))
    rows = image.any(axis=(0, 2))
    assert rows.tolist() == [False] * 5 + [True] * 10 + [False] * 5
    # Pixels twice as high as wide make the same picture a square.
    assert Square(20, "letterbox", 0.5)(frame(40, 20)).all()


def test_shrinking_does_not_alias():
    lines = np.zeros((240, 240, 3), np.uint8)
    lines[:, ::2] = 255  # finer than the result can show: it must become grey
    image = Square(40, "squash")(av.VideoFrame.from_ndarray(lines)).astype(float)
    assert image.std() < 10 and abs(image.mean() - 127.5) < 5
