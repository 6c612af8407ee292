"""The few shapes that everything else speaks in.

Shape letters used all over the library:

    B batch   C classes   L labels   T text tokens   V vocabulary   D features   F frames
    P privileged features   N memory tokens   M mel frames   H, W pixels   K pictures of a chunk
    or text fields

A clip enters as a file (`Clip`), is read the way an `InputSpec` says, travels as a `Batch`, and
leaves as logits whose meaning a `TaskSpec` names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from coefvq.specs import InputSpec, TaskKind, TaskSpec


@dataclass(frozen=True)
class Clip:
    """One row of a manifest: a file on disk and what is known about it.

    Args:
        id: unique name of the clip.
        path: the video file (absolute).
        text: text fields by name; a missing text is the empty string.
        label: float for binary and regression, int for multiclass, tuple of 0/1 for multilabel;
            None where unlabelled.
        privileged: raw privileged features by name; NaN where missing.
        split: `"train"`, `"val"` or `"test"`.
        group: clips of one group stay on one side of a split; None: a group of its own.
        label_std: standard deviation of the opinions behind a score, in its unit; None: unknown.
    """

    id: str
    path: Path
    text: Mapping[str, str] = field(default_factory=dict)
    label: float | int | tuple[int, ...] | None = None
    privileged: Mapping[str, float] = field(default_factory=dict)
    split: str = "train"
    group: str | None = None
    label_std: float | None = None


class Tensors:
    """Device moves for frozen dataclasses of tensors: Lightning and PyTorch ask for them."""

    def _map(self, function: Any) -> Self:
        changed: dict[str, Any] = {}
        for f in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if isinstance(value, Tensor):
                changed[f.name] = function(value)
            elif isinstance(value, Tensors):
                changed[f.name] = value._map(function)
        return dataclasses.replace(self, **changed)  # type: ignore[type-var]

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move every tensor; takes what `Tensor.to` takes. Give a device, not a dtype."""
        return self._map(lambda tensor: tensor.to(*args, **kwargs))

    def rows(self, index: Sequence[int]) -> Self:
        """Some rows of every tensor and every tuple, in this order; a row may come twice."""
        chosen = torch.as_tensor(index, dtype=torch.long)
        changed: dict[str, Any] = {}
        for f in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if isinstance(value, Tensor):
                changed[f.name] = value[chosen.to(value.device)]
            elif isinstance(value, Tensors):
                changed[f.name] = value.rows(index)
            elif isinstance(value, tuple):
                changed[f.name] = tuple(value[place] for place in chosen.tolist())
        return dataclasses.replace(self, **changed)  # type: ignore[type-var]

    def pin_memory(self) -> Self:
        """Pin every tensor, for asynchronous copies to a GPU."""
        return self._map(lambda tensor: tensor.pin_memory())


@dataclass(frozen=True)
class Batch(Tensors):
    """B clips, collated.

    Args:
        ids: B clip ids.
        frames: (B, F, 3, H, W) uint8 RGB.
        frame_mask: (B, F) bool, True where a frame is real.
        input_ids: (B, T) int64 token ids; None when no text is read.
        text_mask: (B, T) bool, True where a token counts; position 0 (CLS) always does.
        audio: (B, mel_bins, M) float32 log-mel; None when no sound is read.
        audio_mask: (B, M) bool, True where there is sound; all False for a silent clip.
        labels: (B,) float32 for binary and regression, (B,) int64 for multiclass, (B, L) float32
            for multilabel; None at serving.
        label_mask: (B,) bool, True where the label counts; elsewhere `labels` holds a filler
            that must not be read. None: all count.
        sample_weight: (B,) float32; None: all 1.
        privileged: (B, P) float32, standardised, 0 where missing; None at serving.
        privileged_mask: (B, P) bool, True where the value was observed.
        label_std: (B,) float32, spread of the opinions behind each score, NaN where unknown.
        views: what is shown of each clip, as `coefvq.data.sampling.view_name` names it; None where
            frames are drawn anew each time.
        motion: (B, F, K, 3, h, w) uint8 RGB, the chunk of video around each frame; `frame_mask`
            says which are real. None unless `InputSpec.motion_frames`.
        field_ids: (B, K, T) int64 token ids of the text fields one by one, in the order of
            `InputSpec.text_fields` and without the tokenizer's special tokens; None unless
            `InputSpec.separate_text`.
        field_mask: (B, K, T) bool, True where such a token counts; all False for an empty field.
        seconds: (B,) float32, how long each clip lasts, read or not; None where nobody has looked.
    """

    ids: tuple[str, ...]
    frames: Tensor
    frame_mask: Tensor
    input_ids: Tensor | None = None
    text_mask: Tensor | None = None
    audio: Tensor | None = None
    audio_mask: Tensor | None = None
    labels: Tensor | None = None
    label_mask: Tensor | None = None
    sample_weight: Tensor | None = None
    privileged: Tensor | None = None
    privileged_mask: Tensor | None = None
    label_std: Tensor | None = None
    views: tuple[str, ...] | None = None
    motion: Tensor | None = None
    field_ids: Tensor | None = None
    field_mask: Tensor | None = None
    seconds: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.frames.device

    def public(self) -> Batch:
        """What exists at serving: no privileged features, labels, weights or names of views."""
        return dataclasses.replace(
            self,
            labels=None,
            label_mask=None,
            sample_weight=None,
            privileged=None,
            privileged_mask=None,
            label_std=None,
            views=None,
        )

    def whole(self) -> Batch:
        """All of it: what a privileged teacher is trained on (the twin of `public`)."""
        return self


@dataclass(frozen=True)
class StudentOutput(Tensors):
    """What a student answers: logits (see `TaskSpec`) and, if it has them, (B, D) features.

    `sub_logits` (B, S) answer the sub-labels of pairs, for students with such heads.
    `level_logits` (B, levels) are over the levels of a score, the best first, likewise.
    """

    logits: Tensor
    features: Tensor | None = None
    sub_logits: Tensor | None = None
    level_logits: Tensor | None = None


@dataclass(frozen=True)
class TeacherOutput(Tensors):
    """What a teacher answers: logits (see `TaskSpec`) and whatever else it has.

    Args:
        logits: (B,), (B, C) or (B, L).
        features: (B, D) pooled.
        sub_logits: (B, S) answers to the sub-labels of pairs.
        token_features: (B, T, D).
        topk_indices: (B, T, k) int64, the likeliest tokens of a language model, position by
            position.
        topk_logprobs: (B, T, k) their log-probabilities.
        token_mask: (B, T) bool, True where a token of the three above counts; None: all.
        level_logits: (B, levels) over the levels of a score, the best first.
        score_std: (B,) how far the teacher itself holds its score to be off, in the score's unit.
    """

    logits: Tensor
    features: Tensor | None = None
    sub_logits: Tensor | None = None
    token_features: Tensor | None = None
    topk_indices: Tensor | None = None
    topk_logprobs: Tensor | None = None
    token_mask: Tensor | None = None
    level_logits: Tensor | None = None
    score_std: Tensor | None = None


__all__ = [
    "Batch",
    "Clip",
    "InputSpec",
    "StudentOutput",
    "TaskKind",
    "TaskSpec",
    "TeacherOutput",
    "Tensors",
]
