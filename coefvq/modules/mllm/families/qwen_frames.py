"""What Qwen's models share: patches of frame pairs, and positions on three axes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from coefvq.modules.mllm.backbone import Piece

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""CLIP's, which these towers were trained with."""


def patches_of(frames: Tensor, patch: int, merge: int, step: int) -> tuple[Tensor, tuple[int, ...]]:
    """Cut a clip into patches in the order of Qwen's processors.

    Args:
        frames: (F, 3, h, w); the last one is repeated until `step` divides F.
        patch: side of a patch, in pixels.
        merge: patches per side that become one token; neighbours of a token lie together.
        step: frames per patch.

    Returns:
        (n, 3 · step · patch²) patches, and their numbers along time, height and width.
    """
    missing = -len(frames) % step
    frames = torch.cat([frames, *[frames[-1:]] * missing])
    rows, columns = frames.shape[-2] // patch, frames.shape[-1] // patch
    x = frames.reshape(-1, step, 3, rows // merge, merge, patch, columns // merge, merge, patch)
    # time, token row, token column, row in token, column in token, colour, frame, pixels
    x = x.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return x.flatten(5).flatten(0, 4), (len(x), rows, columns)


def positions_of(
    sequences: Sequence[Sequence[Piece]], length: int, interval: int, *, time_counts: bool
) -> Tensor:
    """Positions of padded sequences on the axes time, height, width (M-RoPE).

    Args:
        sequences: pieces; those with a grid are frames, the others run like text.
        length: T of the padded sequences.
        interval: time positions between two steps of a clip.
        time_counts: what follows a clip starts after its last time position too, not only after
            its height and width.

    Returns:
        (3, B, length) int64, 0 in the padding.
    """
    positions = torch.zeros(3, len(sequences), length, dtype=torch.long)
    for row, pieces in enumerate(sequences):
        parts, start = [], 0
        for piece in pieces:
            if piece.grid is None:
                parts.append(torch.arange(len(piece.tokens)).expand(3, -1) + start)
                start += len(piece.tokens)
                continue
            time, height, width = (torch.arange(n) for n in piece.grid)
            grid = torch.meshgrid(time * interval, height, width, indexing="ij")
            parts.append(torch.stack(grid).flatten(1) + start)
            last = (piece.grid[0] - 1) * interval + 1 if time_counts else 0
            start += max(last, piece.grid[1], piece.grid[2])
        joined = torch.cat(parts, dim=1)
        positions[:, row, : joined.shape[1]] = joined
    return positions


def sections_of(head_width: int) -> list[int]:
    """How the angles of a head are shared by time, height and width: 2 : 3 : 3 as published."""
    half = head_width // 2
    side = half * 3 // 8
    return [half - 2 * side, side, side]


def whole_attention(layers: int) -> list[int]:
    """Layers of the tower that see the whole frame: four, evenly spread, as published."""
    step = max(1, layers // 4)
    return list(range(step - 1, layers, step))


__all__ = ["MEAN", "STD", "patches_of", "positions_of", "sections_of", "whole_attention"]
