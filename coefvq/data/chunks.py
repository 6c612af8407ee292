"""The video around each sampled frame, for models that look at motion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from coefvq.data.fragments import Fragments
from coefvq.data.media import Timeline
from coefvq.data.picture import Square
from coefvq.data.sampling import chunk_times, frame_on_screen

Shown = tuple[Any, Any]
"""A picture as a frame and as a part of a chunk; None for what it is not."""


@dataclass(frozen=True)
class Chunks:
    """How the video around each frame is read.

    Args:
        num_frames: K, pictures per chunk.
        seconds: how long a chunk lasts.
        size: side of the square that its pictures are brought to, in pixels.
    """

    num_frames: int
    seconds: float
    size: int


def chunk_shape(chunks: Chunks | None) -> tuple[int, int, int, int]:
    """(K, 3, h, h); K and h are 0 where no chunks are read."""
    if chunks is None:
        return 0, 3, 0, 0
    return chunks.num_frames, 3, chunks.size, chunks.size


def around_frames(
    middles: list[int], line: Timeline, visible: np.ndarray, length: float, chunks: Chunks | None
) -> np.ndarray:
    """Choose the pictures of the chunk around each of n frames.

    Args:
        middles: (n,) times of the frames, in the unit of `line`.
        line: of the file.
        visible: (m,) sorted times at which frames appear.
        length: of the clip, in seconds.
        chunks: None: none are read.

    Returns:
        (n, K) times out of `visible`. In a truncated file a chunk near the end shows the last
        picture that there is.
    """
    if chunks is None:
        return np.zeros((len(middles), 0), np.int64)
    start = float(visible[0])
    if line.truncated:
        length = (line.end - start) * line.time_base
    # The middle of the time that a frame is on the screen, so that a chunk is centred on it.
    seconds = (np.array(middles, float) - start + 0.5 * line.frame_ticks) * line.time_base
    moments = chunk_times(seconds, chunks.num_frames, chunks.seconds, length)
    return visible[frame_on_screen(start + moments / line.time_base, visible, line.frame_ticks)]


class Pictures:
    """Bring a decoded picture to what its moment is wanted as.

    Args:
        square: makes frames.
        frames: the moments that are wanted as frames.
    """

    def __init__(self, square: Square | Fragments, frames: set[int]) -> None:
        self.square, self.frames = square, frames
        self.motion: Square | None = None
        self.in_chunks: set[int] = set()

    def add_chunks(self, motion: Square, moments: set[int]) -> None:
        """Also make what chunks are put together from."""
        self.motion, self.in_chunks = motion, moments

    def __call__(self, tick: int, picture: Any) -> Shown:
        """Convert the picture that is on the screen at `tick`."""
        frame = self.square(picture) if tick in self.frames else None
        if self.motion is None or tick not in self.in_chunks:
            return frame, None
        alike = isinstance(self.square, Square) and self.motion.size == self.square.size
        if frame is not None and alike:
            return frame, frame
        return frame, self.motion(picture)


__all__ = ["Chunks", "Pictures", "Shown", "around_frames", "chunk_shape"]
