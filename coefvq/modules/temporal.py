"""One vector for a clip of any length from a vector per frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn

NUM_MOTION = 3
"""Numbers that `motion_statistics` says of a clip."""


class TemporalPool(nn.Module):
    """Mean and deviation over frames, and mean step from frame to frame, brought to one width.

    Frames that are not real count for nothing, so a clip's vector does not depend on how far it
    was padded, nor on its neighbours.

    Args:
        width: D of the frames' vectors.
        output: D of the result.
        motion: also reads how much the pixels themselves change (`motion_statistics`): frozen
            frames are where nothing changes for a while.

    Example:
        >>> pool = TemporalPool(8, 4)
        >>> pool(torch.zeros(2, 5, 8), torch.ones(2, 5).bool()).shape
        torch.Size([2, 4])
    """

    def __init__(self, width: int, output: int, *, motion: bool = False) -> None:
        super().__init__()
        self.motion = motion
        self.project = nn.Linear(3 * width + (NUM_MOTION if motion else 0), output)

    def forward(self, frames: Tensor, mask: Tensor, pixels: Tensor | None = None) -> Tensor:
        """Pool.

        Args:
            frames: (B, F, width).
            mask: (B, F) bool, True where a frame is real; real ones stand in front of the others.
            pixels: (B, F, 3, h, w), for `motion`.

        Returns:
            (B, output); for a clip of one frame deviation and steps are 0.
        """
        real = mask[..., None].to(torch.float32)
        values = torch.where(mask[..., None], frames.float(), 0.0)
        count = real.sum(1).clamp_min(1.0)
        mean = values.sum(1) / count
        spread = (((values - mean[:, None]) ** 2 * real).sum(1) / count + 1e-6).sqrt()
        both = real[:, 1:] * real[:, :-1]
        steps = ((values[:, 1:] - values[:, :-1]).abs() * both).sum(1)
        parts = [mean, spread, steps / both.sum(1).clamp_min(1.0)]
        if self.motion:
            assert pixels is not None
            parts.append(motion_statistics(pixels, mask))
        return self.project(torch.cat(parts, dim=-1).to(frames.dtype))


@torch.no_grad()
def motion_statistics(pixels: Tensor, mask: Tensor) -> Tensor:
    """Mean, deviation and least of the log of how much pixels change from frame to frame.

    Args:
        pixels: (B, F, 3, h, w), of about unit deviation.
        mask: (B, F) bool, True where a frame is real.

    Returns:
        (B, 3) float32, of log(0.01 + mean |difference|) + 2, which is about 0 for slow motion;
        where there are no two frames, as if nothing changed.
    """
    if pixels.shape[1] < 2:
        change = pixels.new_full((len(pixels), 1), 0.01, dtype=torch.float32).log() + 2
        return torch.cat([change, torch.zeros_like(change), change], dim=-1)
    change = (pixels[:, 1:].float() - pixels[:, :-1].float()).abs().mean((-3, -2, -1))
    change = (0.01 + change).log() + 2
    both = mask[:, 1:] & mask[:, :-1]
    nothing = torch.full_like(change, 0.01).log() + 2
    count = both.sum(1, keepdim=True)
    alone = count == 0
    mean = torch.where(both, change, 0.0).sum(1, keepdim=True) / count.clamp_min(1)
    spread = torch.where(both, (change - mean) ** 2, 0.0).sum(1, keepdim=True)
    spread = (spread / count.clamp_min(1)).sqrt()
    least = torch.where(both, change, torch.inf).amin(1, keepdim=True)
    mean, least = (torch.where(alone, nothing[:, :1], x) for x in (mean, least))
    return torch.cat([mean, spread, least], dim=-1)


__all__ = ["NUM_MOTION", "TemporalPool", "motion_statistics"]
