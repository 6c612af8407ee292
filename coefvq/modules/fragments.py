"""From a stored mosaic of patches to what a quality model reads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class FragmentConfig:
    """How a mosaic of fragments (`fit=fragments`) is prepared.

    Args:
        patch: side of the patches that the model reads, in pixels. Stored ones may be larger: what
            is left over is the room in which training moves them.
        grid: patches per side.
        flip: mirror half of the clips in training mode.
        mean: per channel, of values in [0, 1].
        std: per channel, of values in [0, 1].
    """

    patch: int = 32
    grid: int = 7
    flip: bool = True
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if self.patch < 2 or self.grid < 1:
            raise ValueError(
                f"fragments need a patch of at least 2 pixels and a grid of at least 1, got "
                f"{self.patch} and {self.grid}"
            )
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def size(self) -> int:
        """Side of the mosaic that the model reads."""
        return self.patch * self.grid


class FragmentProcessor(nn.Module):
    """Prepare the mosaics of a batch; random in training mode, the same every time in eval mode.

    Training: each clip's patches are all moved by one random step within what was stored around
    them, the same one in all frames, and half of the clips are mirrored as a whole. Eval: the
    middle of the stored patches, never mirrored.

    Args:
        config: see `FragmentConfig`.

    Example:
        >>> processor = FragmentProcessor(FragmentConfig(patch=16)).eval()
        >>> processor(torch.zeros(2, 4, 3, 126, 126, dtype=torch.uint8)).shape
        torch.Size([2, 4, 3, 112, 112])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: FragmentConfig) -> None:
        super().__init__()
        self.config = config
        for name in ("mean", "std"):  # not saved: the config holds them
            values = torch.tensor(getattr(config, name)).view(-1, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def forward(self, frames: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Prepare frames.

        Args:
            frames: (B, F, 3, S, S) uint8 RGB, S a multiple of the grid.
            dtype: of the result; the arithmetic is done in float32.

        Returns:
            (B, F, 3, size, size), about zero mean and unit deviation.

        Raises:
            ValueError: frames are not uint8 mosaics of such patches.
        """
        config = self.config
        side, odd = divmod(frames.shape[-1], config.grid)
        if frames.dtype != torch.uint8 or frames.shape[-2] != frames.shape[-1] or odd:
            raise ValueError(
                f"expected uint8 mosaics whose side is a multiple of {config.grid}, got "
                f"{frames.dtype} of {tuple(frames.shape[-2:])}; set data.fit=fragments and "
                f"data.frame_size to {config.grid} times the stored patch"
            )
        if side < config.patch:
            raise ValueError(
                f"stored patches of {side} pixels are smaller than the model's {config.patch}; "
                f"raise data.frame_size to at least {config.size}, or lower the patch"
            )
        pixels = self._cut(frames, side).float()
        if self.training and config.flip:
            mirrored = torch.rand(frames.shape[0], device=frames.device) < 0.5
            pixels = torch.where(mirrored.view(-1, 1, 1, 1, 1), pixels.flip(-1), pixels)
        return ((pixels / 255.0 - self.mean.float()) / self.std.float()).to(dtype)

    def _cut(self, frames: Tensor, side: int) -> Tensor:
        grid, patch = self.config.grid, self.config.patch
        if side == patch:
            return frames
        inner = frames.unflatten(-1, (grid, side)).unflatten(-3, (grid, side))
        if not self.training:  # (B, F, 3, grid, side, grid, side)
            start = (side - patch) // 2
            end = start + patch
            inner = inner[..., start:end, :, start:end]
            return inner.flatten(-2).flatten(-3, -2)
        clips, device = len(frames), frames.device
        cells = (torch.arange(grid, device=device) * side).view(1, -1, 1)
        within = torch.arange(patch, device=device).view(1, 1, -1)
        steps = torch.randint(side - patch + 1, (2, clips, 1, 1), device=device)
        rows, columns = ((cells + step + within).flatten(1) for step in steps)
        places = rows[:, :, None] * (grid * side) + columns[:, None, :]
        places = places.flatten(1).view(clips, 1, 1, -1).expand(-1, *frames.shape[1:3], -1)
        return frames.flatten(-2).gather(-1, places).unflatten(-1, (grid * patch, grid * patch))


__all__ = ["FragmentConfig", "FragmentProcessor"]
