"""From stored frames to what a vision encoder reads: cropped or resized, mirrored, normalised.

Frames travel as uint8 from the decoder to here. Everything works on a whole batch at once, so it
costs a few kernels on a GPU and no Python loop on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FrameMode = Literal["crop", "resize"]
"""How a stored frame becomes a square of `size` pixels."""


@dataclass(frozen=True)
class FrameConfig:
    """How frames are prepared.

    Args:
        size: side of the square that the vision encoder reads, in pixels.
        mode: `"crop"` cuts a square at native resolution (what picture quality needs: resizing
            hides blur and noise), `"resize"` shows the whole frame, antialiased.
        eval_size: side of the centre crop in eval mode, in pixels; None: the same as `size`. Only
            for `"crop"` and for encoders that take any size.
        flip: mirror half of the clips in training mode.
        mean: per channel, of values in [0, 1].
        std: per channel, of values in [0, 1].
    """

    size: int = 224
    mode: FrameMode = "resize"
    eval_size: int | None = None
    flip: bool = True
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if self.mode not in get_args(FrameMode):
            raise ValueError(
                f"frame mode {self.mode!r} is unknown; "
                f"choose one of {', '.join(get_args(FrameMode))}"
            )
        if self.eval_size is not None and self.mode != "crop":
            raise ValueError(
                f"eval_size={self.eval_size} needs mode='crop', got mode={self.mode!r}; "
                "leave eval_size out"
            )
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))


class FrameProcessor(nn.Module):
    """Prepare the frames of a batch; random in training mode, the same every time in eval mode.

    Training: one random crop and one coin for the mirror per clip, shared by its frames, drawn
    from the global generator of the frames' device. Eval: the centre, never mirrored.

    Args:
        config: see `FrameConfig`.
        setting: the word of the data's config that says how large the frames come, for errors.

    Example:
        >>> processor = FrameProcessor(FrameConfig(size=32, mode="crop")).eval()
        >>> processor(torch.zeros(2, 4, 3, 48, 64, dtype=torch.uint8)).shape
        torch.Size([2, 4, 3, 32, 32])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: FrameConfig, setting: str = "frame_size") -> None:
        super().__init__()
        self.config, self.setting = config, setting
        # Not saved: the config holds them.
        for name in ("mean", "std"):
            values = torch.tensor(getattr(config, name)).view(-1, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def forward(self, frames: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Prepare frames.

        Args:
            frames: (B, F, 3, H, W) uint8 RGB.
            dtype: of the result; the arithmetic is done in float32.

        Returns:
            (B, F, 3, size, size), about zero mean and unit deviation.

        Raises:
            ValueError: frames are not uint8, or smaller than the crop.
        """
        if frames.dtype != torch.uint8:
            raise ValueError(
                f"frames must be uint8 in 0..255, got {frames.dtype}; give them as they are decoded"
            )
        if self.config.mode == "crop":
            pixels = self._crop(frames).float()
        else:
            size = (self.config.size, self.config.size)
            pixels = frames.flatten(0, 1).float()
            if pixels.shape[-2:] != size:
                pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True)
            pixels = pixels.unflatten(0, frames.shape[:2])
        if self.training and self.config.flip:
            mirrored = torch.rand(frames.shape[0], device=frames.device) < 0.5
            pixels = torch.where(mirrored.view(-1, 1, 1, 1, 1), pixels.flip(-1), pixels)
        return ((pixels / 255.0 - self.mean.float()) / self.std.float()).to(dtype)

    def _crop(self, frames: Tensor) -> Tensor:
        """Cut one square per clip: (B, F, 3, H, W) -> (B, F, 3, size, size)."""
        clips, height, width = frames.shape[0], frames.shape[-2], frames.shape[-1]
        size = self.config.size
        if not self.training and self.config.eval_size is not None:
            size = self.config.eval_size
        if min(height, width) < size:
            raise ValueError(
                f"frames of {height}x{width} pixels are smaller than the crop of {size}; "
                f"raise data.{self.setting} or lower the size that the model's config states"
            )
        if not self.training:
            top, left = (height - size) // 2, (width - size) // 2
            return frames[..., top : top + size, left : left + size]
        device = frames.device
        top = torch.randint(height - size + 1, (clips, 1, 1), device=device)
        left = torch.randint(width - size + 1, (clips, 1, 1), device=device)
        side = torch.arange(size, device=device)
        # (B, size, size): places in a flattened frame, the same for each frame and channel.
        places = (top + side.view(1, -1, 1)) * width + left + side.view(1, 1, -1)
        places = places.view(clips, 1, 1, -1).expand(-1, *frames.shape[1:3], -1)
        return frames.flatten(-2).gather(-1, places).unflatten(-1, (size, size))


def thin_frames(frames: Tensor, mask: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
    """Keep some frames of each clip: the middles of equal segments of those that it has.

    Args:
        frames: (B, F, 3, H, W).
        mask: (B, F) bool, True where a frame is real.
        num_frames: at most F.

    Returns:
        (B, num_frames, 3, H, W) and their (B, num_frames) bool mask; a clip with fewer real
        frames keeps them all.

    Example:
        >>> frames = torch.arange(6).view(1, 6, 1, 1, 1)
        >>> thin_frames(frames, torch.ones(1, 6).bool(), 2)[0].flatten().tolist()
        [1, 4]
    """
    step = torch.arange(num_frames, device=mask.device)
    count = mask.sum(1, keepdim=True)
    spread = (2 * step + 1) * count // (2 * num_frames)
    rank = torch.where(count > num_frames, spread, step)
    # Places of the real frames, in their order, then those of the others.
    place = (~mask).to(torch.uint8).argsort(dim=1, stable=True).gather(1, rank)
    rows = torch.arange(len(frames), device=frames.device)[:, None]
    return frames[rows, place], mask.gather(1, place)


__all__ = ["FrameConfig", "FrameMode", "FrameProcessor", "thin_frames"]
