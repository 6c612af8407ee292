"""A blind quality model: frames in, a score in the unit of the labels out. No reference is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Self

import torch
from torch import Tensor, nn

from coefvq.modules.clip_checkpoints import ClipCheckpoints
from coefvq.modules.fragments import FragmentConfig, FragmentProcessor
from coefvq.modules.frames import FrameConfig, FrameProcessor
from coefvq.modules.heads import TaskHead
from coefvq.modules.pretrained import PretrainedMixin, check_weights
from coefvq.modules.temporal import TemporalPool
from coefvq.modules.vision import ConvEncoderConfig, SwinEncoderConfig
from coefvq.types import Batch, StudentOutput

_VISION: dict[str, type[ConvEncoderConfig] | type[SwinEncoderConfig]] = {
    "conv": ConvEncoderConfig,
    "swin": SwinEncoderConfig,
}
_FRAMES: dict[str, type[FragmentConfig] | type[FrameConfig]] = {
    "fragments": FragmentConfig,
    "frames": FrameConfig,
}


class BlindQuality(PretrainedMixin, nn.Module):
    """Frames one by one through a 2-D encoder, pooled over time, and a head.

    Fragments at native resolution (Wu et al., "FAST-VQA", ECCV 2022) through a plain 2-D encoder
    and statistics over time: lighter than the video transformer published there. The score does
    not depend on the other clips of a batch, on padding, or on how long the clip is: frames are
    sampled, and pooled by their mask.

    In bf16 a score is the same each time, too, but not that of float32: of a trained `blind_tiny`
    on 33 real clips it lay up to .7 of 100 points away, with weights in bf16 as under autocast,
    and the order was kept but for clips nearer to each other than that (recipes/results.md, "Same
    file, same score"). Don't compare scores across precisions.

    Args:
        vision: shape of the encoder.
        frames: how frames are prepared; `FragmentConfig` for `fit=fragments`.
        width: D of the features.
        motion: see `coefvq.modules.temporal.TemporalPool`.
        label_range: lowest and highest label: the head's output of ±1 means these, and an
            untrained model says about the middle. None: the output is the score.
        levels: 0: the head says the score. K of 2 or more: it says a logit for each of K levels,
            the best first, and the score is their expectation, evenly worth the highest label
            down to the lowest (levels: Wu et al., "Q-Align", 2023). `level_logits` can then be
            distilled from a teacher's levels, which a score alone cannot carry; that a small model
            without language learns them is a reconstruction of ours.
        head_dropout: on the head's hidden layer.
        num_outputs: must be 1; given by the run's config, so that another task is refused.
        pretrained: a Swin to start from, a folder or a Hugging Face name; None: random weights.

    Raises:
        ValueError: several outputs, levels without a range, or pretrained weights that do not fit.

    Example:
        >>> import torch
        >>> vision = ConvEncoderConfig(widths=(8, 8), width=8)
        >>> model = BlindQuality(vision, FragmentConfig(patch=4), width=8).eval()
        >>> frames = torch.zeros(3, 2, 3, 28, 28, dtype=torch.uint8)
        >>> batch = Batch(ids=("a", "b", "c"), frames=frames, frame_mask=torch.ones(3, 2).bool())
        >>> model(batch).logits.shape
        torch.Size([3])
    """

    def __init__(
        self,
        vision: ConvEncoderConfig | SwinEncoderConfig,
        frames: FragmentConfig | FrameConfig,
        *,
        width: int = 64,
        motion: bool = True,
        label_range: Sequence[float] | None = None,
        levels: int = 0,
        head_dropout: float = 0.0,
        num_outputs: int = 1,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        check_weights(pretrained, str)
        if num_outputs != 1:
            raise ValueError(
                f"a quality model gives one score per clip, but the task has {num_outputs} "
                "outputs; choose a regression such as data.task=quality, or another student"
            )
        if levels and (levels < 2 or label_range is None):
            raise ValueError(
                f"levels={levels} with label_range={label_range}: two or more levels are worth "
                "values between the lowest and the highest label; state the data's range, for "
                "instance data.label_range=[0,100], or set levels=0"
            )
        self.levels = levels
        self.shape = {"vision": vision, "frames": frames}
        self.label_range = None if label_range is None else tuple(float(x) for x in label_range)
        self.frames: FragmentProcessor | FrameProcessor
        if isinstance(frames, FragmentConfig):
            self.frames = FragmentProcessor(frames)
        else:
            self.frames = FrameProcessor(frames)
        self.vision = vision.build()
        self.pool = TemporalPool(self.vision.width, width, motion=motion)
        self.head = TaskHead(width, levels or 1, head_dropout)
        if pretrained is not None:
            there: Any = SimpleNamespace(vision=self.vision, text=None, audio=None)
            ClipCheckpoints(vision=pretrained).load_into(there)

    def forward(self, batch: Batch) -> StudentOutput:
        """Score a batch; only its frames are read."""
        pixels = self.frames(batch.frames, self.pool.project.weight.dtype)
        answers, features = self._answer(pixels, batch.frame_mask)
        levels = answers if self.levels else None
        return StudentOutput(self._scores(answers), features, level_logits=levels)

    def score(self, pixels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Score prepared frames.

        Args:
            pixels: (B, F, 3, h, w), normalised.
            mask: (B, F) bool, True where a frame is real.

        Returns:
            (B,) scores in the labels' unit, and (B, D) features.
        """
        answers, features = self._answer(pixels, mask)
        return self._scores(answers), features

    def _answer(self, pixels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B,), or (B, levels) logits, and (B, D) features."""
        tokens = self.vision(pixels.flatten(0, 1))[:, 0].unflatten(0, pixels.shape[:2])
        features = self.pool(tokens, mask, pixels)
        return self.head(features), features

    def _scores(self, answers: Tensor) -> Tensor:
        if self.label_range is None:
            return answers
        low, high = self.label_range
        answers = answers.float()  # half precision would round scores of 0 to 100 to a sixteenth
        if self.levels:
            worth = torch.linspace(high, low, self.levels, device=answers.device)
            return answers.softmax(-1) @ worth
        return (low + high) / 2 + (high - low) / 2 * answers

    @property
    def features_width(self) -> int:
        """D of the features."""
        return self.pool.project.out_features

    @property
    def config(self) -> dict[str, Any]:
        """Plain values that say the architecture."""
        kinds = {"vision": _VISION, "frames": _FRAMES}
        shapes = {}
        for name, value in self.shape.items():
            kind = next(k for k, cls in kinds[name].items() if type(value) is cls)
            shapes[name] = {"kind": kind, **dataclasses.asdict(value)}
        return {
            **shapes,
            "width": self.features_width,
            "motion": self.pool.motion,
            "label_range": None if self.label_range is None else list(self.label_range),
            "levels": self.levels,
            "head_dropout": self.head.dropout,
        }

    @classmethod
    def from_config(cls, values: Mapping[str, Any]) -> Self:
        """Make the student, randomly initialised, from what `config` gave."""
        given = dict(values)
        vision, frames = dict(given.pop("vision")), dict(given.pop("frames"))
        return cls(
            _VISION[vision.pop("kind")](**vision), _FRAMES[frames.pop("kind")](**frames), **given
        )


__all__ = ["BlindQuality"]
