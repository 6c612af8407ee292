"""What `make_pairs` does to files, on decoded tensors: cheap enough for every step of a training.

Coding losses and speed are not imitated, and only the sound's part and presence are changed. All
of it works on the CPU, where batches are put together.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BANNER = 0.25
"""Height of the highest banner, as a share of the picture."""


def uniform(rows: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """(rows,) numbers between low and high."""
    return low + (high - low) * torch.rand(rows, generator=generator)


def chance(rows: int, share: float, generator: torch.Generator) -> Tensor:
    """(rows,) bool, True with this probability."""
    return torch.rand(rows, generator=generator) < share


def part_of_frames(frames: Tensor, mask: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Show a part of each clip, in as many frames as before; some come twice then.

    Args:
        frames: (B, F, 3, H, W).
        mask: (B, F) bool, True where a frame is real.
        start: (B,) share of the clip where the part begins, in [0, 1).
        end: (B,) share where it ends, above `start`.

    Returns:
        (B, F, 3, H, W), all of them real where the clip has any frame.

    Example:
        >>> clip = torch.arange(4).reshape(1, 4, 1, 1, 1).expand(1, 4, 3, 1, 1)
        >>> mask, start, end = torch.ones(1, 4).bool(), torch.zeros(1), torch.tensor([0.5])
        >>> part_of_frames(clip, mask, start, end)[0, :, 0, 0, 0].tolist()
        [0, 0, 1, 1]
    """
    size, count = frames.shape[1], mask.sum(1).clamp(min=1)
    middles = (torch.arange(size) + 0.5) / size
    times = start[:, None] + (end - start)[:, None] * middles
    nth = (times * count[:, None]).long().clamp(min=0)
    nth = torch.minimum(nth, count[:, None] - 1)
    # Where the n-th real frame stands: real ones first, in their order.
    places = (~mask).int().argsort(dim=1, stable=True).gather(1, nth)
    return frames[torch.arange(len(frames))[:, None], places]


def part_of_sound(audio: Tensor, mask: Tensor, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Play a part of each clip's sound.

    Args:
        audio: (B, mel_bins, M).
        mask: (B, M) bool, True where there is sound, from the beginning.
        start: (B,) share of the sound.
        end: (B,) share of the sound.

    Returns:
        (B, mel_bins, M), moved to the beginning and 0 after its end, and its (B, M) bool mask.
    """
    count = mask.sum(1)
    first, last = (start * count).long(), (end * count).long()
    places = first[:, None] + torch.arange(mask.shape[1])
    kept = places < last[:, None]
    places = places.clamp(max=mask.shape[1] - 1)
    moved = audio.gather(2, places[:, None].expand_as(audio))
    return moved.masked_fill(~kept[:, None], 0.0), kept


def alter_frames(frames: Tensor, generator: torch.Generator) -> Tensor:
    """Change the picture of each clip, alike in all of its frames.

    A half are cut to 55 to 100 % of each side and 15 % are shrunk by 1.1 to 1.5 between black bars;
    the aspect of all is bent by up to 15 %, which can leave a narrow bar, too. A quarter are
    mirrored, a fifth get a banner, three tenths are softened, and the brightness changes by up to a
    tenth.

    Args:
        frames: (B, F, 3, H, W) uint8.
        generator: decides about everything.

    Returns:
        (B, F, 3, H, W) uint8.
    """
    rows, size, _, height, width = frames.shape
    moving = _placement(rows, generator)
    grid = F.affine_grid(moving, [rows, 3, height, width], align_corners=False)
    flat = frames.flatten(1, 2).float()
    flat = F.grid_sample(flat, grid, padding_mode="zeros", align_corners=False)
    soft = chance(rows, 0.3, generator)
    if soft.any():
        flat[soft] = (flat[soft] + F.avg_pool2d(flat[soft], 3, 1, 1, count_include_pad=False)) / 2
    pictures = flat.unflatten(1, (size, 3))
    pictures *= uniform(rows, 0.9, 1.1, generator).view(-1, 1, 1, 1, 1)
    pictures = torch.where(*_banner(rows, height, generator), pictures)
    return pictures.clamp(0, 255).round().to(torch.uint8)


def _placement(rows: int, generator: torch.Generator) -> Tensor:
    """(rows, 2, 3) maps of what is shown to where it was, as `affine_grid` wants them."""
    scale = uniform(rows, 0.55, 1.0, generator)
    scale = torch.where(chance(rows, 0.4, generator), 1.0, scale)
    shrunk = uniform(rows, 1.1, 1.5, generator)
    scale = torch.where(chance(rows, 0.15, generator), shrunk, scale)
    aspect = uniform(rows, -0.075, 0.075, generator).exp()
    across, down = scale * aspect, scale / aspect
    room = [(1 - side).clamp(min=0) * uniform(rows, -1, 1, generator) for side in (across, down)]
    mirrored = torch.where(chance(rows, 0.25, generator), -1.0, 1.0)
    moving = torch.zeros(rows, 2, 3)
    moving[:, 0, 0], moving[:, 1, 1] = across * mirrored, down
    moving[:, 0, 2], moving[:, 1, 2] = room
    return moving


def _banner(rows: int, height: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Where banners are, (rows, 1, 1, height, 1) bool, and their (rows, 1, 3, 1, 1) colours."""
    high = uniform(rows, 0.1, BANNER, generator) * height
    line = torch.arange(height)[None]
    above = line < high[:, None]
    below = line >= height - high[:, None]
    lines = torch.where(chance(rows, 0.5, generator)[:, None], above, below)
    lines &= chance(rows, 0.2, generator)[:, None]
    colours = 255 * torch.rand(rows, 3, generator=generator)
    return lines.view(rows, 1, 1, height, 1), colours.view(rows, 1, 3, 1, 1)


__all__ = ["BANNER", "alter_frames", "chance", "part_of_frames", "part_of_sound", "uniform"]
