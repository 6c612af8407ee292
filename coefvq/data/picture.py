"""A decoded picture of any pixel format, shape and orientation to a square of RGB."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import VideoReformatter

FITS = ("crop", "squash", "letterbox")
"""How a picture becomes a square."""

BILINEAR = 2  # swscale widens the filter when it shrinks, so this does not alias
# PyAV 17 and later scale with one thread per core unless told otherwise.
ONE_THREAD = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}


class Square:
    """Bring a decoded picture of any pixel format to (3, size, size) uint8 RGB, upright.

    Scaling, colour conversion and reduction to eight bits are one pass of FFmpeg's swscale,
    straight to the size that is asked for.

    Args:
        size: side of the square in pixels.
        fit: `"crop"` (short side to `size`, then the centre), `"squash"`, or `"letterbox"` (long
            side to `size`, black bars).
        pixel_aspect: width of a stored pixel over its height.

    Raises:
        ValueError: unknown fit.
    """

    def __init__(self, size: int, fit: str, pixel_aspect: float = 1.0) -> None:
        if fit not in FITS:
            raise ValueError(f"fit {fit!r} is unknown; choose one of {', '.join(FITS)}")
        self.size = size
        self.fit = fit
        self.pixel_aspect = pixel_aspect
        self.reformatter = VideoReformatter()

    def __call__(self, picture: Any) -> np.ndarray:
        """Convert one `av.VideoFrame`, whose display matrix says which way is up."""
        size = self.size
        width, height = picture.width * self.pixel_aspect, float(picture.height)
        if self.fit == "squash":
            new_width = new_height = size
        else:
            side = min(width, height) if self.fit == "crop" else max(width, height)
            new_width = max(1, round(width * size / side))
            new_height = max(1, round(height * size / side))
        scaled = self.reformatter.reformat(
            picture, new_width, new_height, "rgb24", interpolation=BILINEAR, **ONE_THREAD
        )
        image = upright(scaled.to_ndarray(), picture)
        if self.fit == "letterbox":
            square = np.zeros((size, size, 3), np.uint8)
            top, left = (size - image.shape[0]) // 2, (size - image.shape[1]) // 2
            square[top : top + image.shape[0], left : left + image.shape[1]] = image
            image = square
        top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
        return np.ascontiguousarray(image[top : top + size, left : left + size].transpose(2, 0, 1))


def upright(image: np.ndarray, picture: Any) -> np.ndarray:
    """Turn and mirror an (h, w, 3) image as the file's display matrix says.

    The matrix maps a stored point (x, y) to (a·x + c·y, b·x + d·y); quarter turns and mirror
    images have exactly two entries that are not 0.
    """
    try:
        side_data = picture.side_data[SideDataType.DISPLAYMATRIX]
    except KeyError:
        return image
    a, b, _, c, d = np.frombuffer(bytes(side_data), np.int32)[:5].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        image = image.transpose(1, 0, 2)
        a, d = c, b
    if a < 0:
        image = image[:, ::-1]
    if d < 0:
        image = image[::-1]
    return image


__all__ = ["FITS", "Square"]
