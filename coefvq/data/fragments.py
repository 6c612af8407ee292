"""A decoded picture to a mosaic of small patches at native resolution, for judging quality.

Resizing hides what a quality model has to see. Fragments (Wu et al., "FAST-VQA", ECCV 2022) keep
it: the picture is divided into 7 × 7 cells, a small patch is cut out of each without any scaling,
and the patches are laid side by side.
"""

from __future__ import annotations

from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from coefvq.data.picture import BILINEAR, FITS, ONE_THREAD, Square, upright

GRID = 7
"""Cells per side."""

ALL_FITS = (*FITS, "fragments")
"""How a picture becomes a square: three that scale it, one that cuts it up."""


class Fragments:
    """Cut a decoded picture of any pixel format into (3, size, size) uint8 RGB, upright.

    Every patch has `size / 7` pixels a side and lies in the middle of its cell, or, given a random
    generator, at a place that is drawn once: all pictures of a clip are cut at the same places, so
    that motion stays visible in each patch.

    A picture whose shorter side is below `size` is first enlarged until it is not; that blurs it,
    and the model has to know such clips from training. Stored pixels are cut as they are, even if
    they are not square. 10-bit and HDR pictures are reduced to eight bits without tone mapping.

    Args:
        size: side of the mosaic in pixels, a multiple of 7.
        rng: for random places; None: the middle, the same every time.

    Raises:
        ValueError: `size` is not a multiple of 7 of at least 14.
    """

    def __init__(self, size: int, rng: np.random.Generator | None = None) -> None:
        if size < 2 * GRID or size % GRID:
            raise ValueError(
                f"fit=fragments lays {GRID} x {GRID} patches side by side, so frame_size must be a "
                f"multiple of {GRID} of at least {2 * GRID}, got {size}; 224 gives patches of 32 "
                "pixels"
            )
        self.size = size
        self.places = np.full((2, GRID, GRID), 0.5) if rng is None else rng.random((2, GRID, GRID))
        self.reformatter = VideoReformatter()

    def __call__(self, picture: av.VideoFrame) -> np.ndarray:
        """Cut one picture, whose display matrix says which way is up."""
        width, height = picture.width, picture.height
        scale = max(1.0, self.size / min(width, height))
        if scale > 1:
            width, height = (max(self.size, round(side * scale)) for side in (width, height))
        rgb: Any = self.reformatter.reformat(
            picture, width, height, "rgb24", interpolation=BILINEAR, **ONE_THREAD
        )
        return cut(upright(rgb.to_ndarray(), picture), self.size, self.places)


def cut(image: np.ndarray, size: int, places: np.ndarray) -> np.ndarray:
    """Cut an (h, w, 3) image, both sides at least `size`, into a (3, size, size) mosaic.

    Args:
        image: any dtype.
        size: a multiple of 7.
        places: (2, 7, 7) in [0, 1): where in its cell each patch lies, down and across; 0.5 is
            the middle.
    """
    patch = size // GRID
    out = np.empty((3, size, size), image.dtype)
    edges = [np.arange(GRID + 1) * side // GRID for side in image.shape[:2]]
    free = [np.diff(edge) - patch for edge in edges]  # places to choose from, less one
    for i in range(GRID):
        for j in range(GRID):
            top = edges[0][i] + int(places[0, i, j] * (free[0][i] + 1))
            left = edges[1][j] + int(places[1, i, j] * (free[1][j] + 1))
            piece = image[top : top + patch, left : left + patch]
            rows, columns = slice(i * patch, (i + 1) * patch), slice(j * patch, (j + 1) * patch)
            out[:, rows, columns] = piece.transpose(2, 0, 1)
    return out


def fitted(
    size: int, fit: str, pixel_aspect: float = 1.0, rng: np.random.Generator | None = None
) -> Square | Fragments:
    """What brings a picture to `size` pixels a side.

    Args:
        size: side in pixels.
        fit: one of `ALL_FITS`.
        pixel_aspect: width of a stored pixel over its height; fragments don't scale, so they
            don't read it.
        rng: for random fragments; None: the same every time.

    Raises:
        ValueError: unknown fit, or a size that it cannot make.
    """
    if fit not in ALL_FITS:
        raise ValueError(f"fit {fit!r} is unknown; choose one of {', '.join(ALL_FITS)}")
    return Fragments(size, rng) if fit == "fragments" else Square(size, fit, pixel_aspect)


__all__ = ["ALL_FITS", "GRID", "Fragments", "cut", "fitted"]
