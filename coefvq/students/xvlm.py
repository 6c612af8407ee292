"""X-VLM as a student: it reads frames, text and sound, and never a privileged feature."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from torch import nn

from coefvq.modules.checkpoints import Pretrained
from coefvq.modules.frames import FrameConfig, FrameProcessor, thin_frames
from coefvq.modules.heads import TaskHead
from coefvq.modules.pretrained import PretrainedMixin, check_weights
from coefvq.modules.xvlm import XVLM, XVLMConfig
from coefvq.types import Batch, StudentOutput


class XVLMStudent(PretrainedMixin, nn.Module):
    """X-VLM trunk and a task head.

    Args:
        num_outputs: width of the head, `TaskSpec.num_outputs`.
        trunk: shape of the trunk.
        frames: how frames are prepared.
        head_dropout: on the head's hidden layer.
        num_frames: the most frames that are read of each clip, evenly spread over those that it
            has; None: all. For a student that is to be lighter than a teacher of the same batches.
        pretrained: weights to start from; None: random.

    Example:
        >>> import torch
        >>> from coefvq.modules.vision import ConvEncoderConfig
        >>> trunk = XVLMConfig(
        ...     vocab_size=30, vision=ConvEncoderConfig(widths=(8, 8), width=8), width=8, heads=2,
        ...     text_layers=1, cross_layers=1, cls_token_id=2,
        ... )
        >>> student = XVLMStudent(1, trunk, FrameConfig(size=16, mode="crop")).eval()
        >>> frames = torch.zeros(3, 2, 3, 32, 32, dtype=torch.uint8)
        >>> batch = Batch(ids=("a", "b", "c"), frames=frames, frame_mask=torch.ones(3, 2).bool())
        >>> student(batch).logits.shape
        torch.Size([3])
    """

    def __init__(
        self,
        num_outputs: int,
        trunk: XVLMConfig,
        frames: FrameConfig,
        *,
        head_dropout: float = 0.0,
        num_frames: int | None = None,
        pretrained: Pretrained | None = None,
    ) -> None:
        super().__init__()
        check_weights(pretrained, Pretrained)
        if num_frames is not None and num_frames < 1:
            raise ValueError(f"num_frames must be at least 1, or None for all, got {num_frames}")
        self.num_frames = num_frames
        self.frames = FrameProcessor(frames)
        self.trunk = XVLM(trunk)
        self.head = TaskHead(self.trunk.features_width, num_outputs, head_dropout)
        if pretrained is not None:
            pretrained.load_into(self.trunk)

    def forward(self, batch: Batch) -> StudentOutput:
        """Answer a batch; only its public part is read."""
        frames, frame_mask = batch.frames, batch.frame_mask
        if self.num_frames is not None and self.num_frames < frames.shape[1]:
            frames, frame_mask = thin_frames(frames, frame_mask, self.num_frames)
        features = self.trunk(
            self.frames(frames, self.trunk.dtype),
            frame_mask,
            batch.input_ids,
            batch.text_mask,
            batch.audio,
            batch.audio_mask,
        )
        return StudentOutput(logits=self.head(features), features=features)

    @property
    def features_width(self) -> int:
        """D of the features."""
        return self.trunk.features_width

    @property
    def config(self) -> dict[str, Any]:
        """Plain values that say the architecture."""
        return {
            "num_outputs": self.head.num_outputs,
            "trunk": self.trunk.config.to_dict(),
            "frames": dataclasses.asdict(self.frames.config),
            "head_dropout": self.head.dropout,
            "num_frames": self.num_frames,
        }

    @classmethod
    def from_config(cls, values: Mapping[str, Any]) -> Self:
        """Make the student, randomly initialised, from what `config` gave."""
        return cls(
            values["num_outputs"],
            XVLMConfig.from_dict(values["trunk"]),
            FrameConfig(**values["frames"]),
            head_dropout=values["head_dropout"],
            num_frames=values.get("num_frames"),  # models saved earlier read all
        )


__all__ = ["XVLMStudent"]
