"""What a temporal encoder is, and how one is opened from flat values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from coefvq.modules.frames import FrameConfig, FrameMode, FrameProcessor

MotionKind = Literal["slowfast", "videomae", "vjepa2"]
"""Which network looks at motion."""


@dataclass(frozen=True)
class MotionConfig:
    """Shape of a temporal encoder; the defaults are SlowFast-R50's (LMM-VQA) and ViT-B's.

    Each kind reads its own part of the shape, so that another kind is one word of a config.

    Args:
        kind: `"slowfast"`: a network of our own with pytorchvideo's names; `"videomae"` or
            `"vjepa2"`: transformers' classes.
        model_name_or_path: weights to start from. For `"slowfast"` a file of a state dict as
            pytorchvideo publishes it; otherwise a folder that `save_pretrained` wrote or a Hugging
            Face name, whose shape then replaces what is below. None: random weights.
        frames: pictures of a chunk that the network reads.
        size: side of these pictures, in pixels.
        mode: `"resize"` shows the whole picture; `"crop"` a square of it as it is (in training a
            random one per chunk, otherwise the middle), since resizing hides what picture quality
            is about: `data.motion_size` must then be `size` or more.
        width: SlowFast: channels after the slow stem.
        depths: SlowFast: blocks of its four stages.
        alpha: SlowFast: how many times more pictures the fast pathway sees; divides `frames`.
        beta: SlowFast: how many times fewer channels it has.
        hidden: D of a transformer.
        layers: of a transformer.
        heads: of a transformer; they divide `hidden`.
        feedforward: hidden width of a transformer's layers.
        patch_size: side of a transformer's patches, in pixels.
        tubelet: pictures per patch of a transformer.
        architecture: a transformers config as plain values, in place of the shape above; what
            saved models hold.
    """

    kind: MotionKind = "slowfast"
    model_name_or_path: str | None = None
    frames: int = 32
    size: int = 224
    mode: FrameMode = "resize"
    width: int = 64
    depths: tuple[int, int, int, int] = (3, 4, 6, 3)
    alpha: int = 4
    beta: int = 8
    hidden: int = 768
    layers: int = 12
    heads: int = 12
    feedforward: int = 3072
    patch_size: int = 16
    tubelet: int = 2
    architecture: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "depths", tuple(self.depths))
        if self.kind not in get_args(MotionKind):
            raise ValueError(
                f"motion kind {self.kind!r} is unknown; "
                f"choose one of {', '.join(get_args(MotionKind))}"
            )
        if self.kind == "slowfast" and (self.frames % self.alpha or self.width % self.beta):
            raise ValueError(
                f"alpha={self.alpha} must divide frames={self.frames} and beta={self.beta} must "
                f"divide width={self.width}; change the one or the other"
            )
        own_shape = self.model_name_or_path is None and self.architecture is None
        if self.kind != "slowfast" and own_shape and self.hidden % self.heads:
            raise ValueError(
                f"the temporal encoder's heads={self.heads} must divide its hidden={self.hidden}; "
                "change the one or the other"
            )


class MotionEncoder(ABC, nn.Module):
    """Chunks of video to vectors.

    Args:
        frames: pictures that the network reads of each chunk.
        size: side of them, in pixels.
        mode: how they are brought to that size.
    """

    mean: ClassVar[tuple[float, float, float]] = (0.485, 0.456, 0.406)
    std: ClassVar[tuple[float, float, float]] = (0.229, 0.224, 0.225)
    width: int

    def __init__(self, frames: int, size: int, mode: FrameMode = "resize") -> None:
        super().__init__()
        self.frames, self.size, self.mode = frames, size, mode
        self.pictures = FrameProcessor(
            FrameConfig(size=size, mode=mode, flip=False, mean=self.mean, std=self.std),
            "motion_size",
        )

    @property
    @abstractmethod
    def config(self) -> MotionConfig:
        """The shape, without the name of what it was opened from."""

    @abstractmethod
    def encode(self, pixels: Tensor) -> Tensor:
        """(N, frames, 3, size, size), normalised -> (N, width)."""

    def forward(self, chunks: Tensor) -> Tensor:
        """Encode chunks.

        Args:
            chunks: (N, K, 3, h, w) uint8 RGB; of another K, pictures are taken evenly (and again,
                where there are too few); of another size, they are resized.

        Returns:
            (N, width).

        Raises:
            ValueError: chunks are not uint8, or smaller than what is to be cut from them.
        """
        count = chunks.shape[1]
        if count != self.frames:
            # In integers: the same pictures on every device.
            places = (2 * torch.arange(self.frames) + 1) * count // (2 * self.frames)
            chunks = chunks[:, places.to(chunks.device)]
        return self.encode(self.pictures(chunks, next(self.parameters()).dtype))


def open_motion(config: MotionConfig) -> MotionEncoder:
    """Make a temporal encoder, with the weights that the config names.

    Raises:
        ValueError: weights that cannot be read or are of another architecture.
    """
    # Here, because both files need `MotionEncoder` from this one.
    from coefvq.modules.motion.slowfast import SlowFast
    from coefvq.modules.motion.transformers import TransformerMotion

    if config.kind == "slowfast":
        return SlowFast.open(config)
    return TransformerMotion(config)


__all__ = ["MotionConfig", "MotionEncoder", "MotionKind", "open_motion"]
