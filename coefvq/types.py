"""The few shapes that everything else speaks in.

Shape letters used all over the library:

    B batch   C classes   L labels   T text tokens   V vocabulary   D features   F frames
    P privileged features   N memory tokens   M mel frames   H, W pixels   K text fields

A clip enters as a file (`Clip`), is read the way an `InputSpec` says, travels as a `Batch`, and
leaves as logits whose meaning a `TaskSpec` names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

TaskKind = Literal["binary", "multiclass", "multilabel", "regression"]
"""What logits mean, in torchmetrics' words: (B,), (B, C), (B, L), (B,)."""


@dataclass(frozen=True)
class TaskSpec:
    """One question that a model answers.

    Args:
        name: what the run is called after, for instance `"degraded"`.
        kind: what the logits mean: `"binary"` (B,), `"multiclass"` (B, C), `"multilabel"` (B, L) or
            `"regression"` (B,).
        classes: names of the classes or labels, in the order of the logits. Binary: the names of
            0 and 1. Regression: empty.
    """

    name: str
    kind: TaskKind
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in get_args(TaskKind):
            raise ValueError(
                f"task kind {self.kind!r} is unknown; choose one of {', '.join(get_args(TaskKind))}"
            )
        object.__setattr__(self, "classes", tuple(self.classes))
        if self.kind == "binary" and len(self.classes) != 2:
            raise ValueError(
                f"binary task {self.name!r} needs the names of its two classes, "
                f"got {len(self.classes)}: {list(self.classes)}"
            )
        if self.kind in ("multiclass", "multilabel") and len(self.classes) < 2:
            raise ValueError(
                f"{self.kind} task {self.name!r} needs at least two class names, "
                f"got {len(self.classes)}: {list(self.classes)}"
            )

    @property
    def num_outputs(self) -> int:
        """Width of the head: C, L, or 1 for binary and regression (squeezed to (B,))."""
        return len(self.classes) if self.kind in ("multiclass", "multilabel") else 1


@dataclass(frozen=True)
class InputSpec:
    """How a file becomes tensors; saved with every exported model, so that serving reads alike.

    Args:
        num_frames: F, frames per clip.
        sampling: which frames are decoded at evaluation: `"uniform"` (middles of F equal
            segments) or `"per_second"` (one each second, at most F, evenly thinned).
        train_sampling: the same for training, plus `"random_segments"` (one random frame in each
            of F equal segments; needs decoding on the fly).
        frame_size: side of the square that frames are brought to when they are decoded, in pixels.
        fit: how: `"crop"` (short side, then centre crop), `"squash"` or `"letterbox"`.
        text_fields: manifest columns joined into one text, in this order.
        max_text_length: T, tokens.
        separate_text: whether each text field is also handed out by itself, see `Batch.field_ids`.
        max_field_length: tokens of such a field.
        audio: whether sound is read.
        sample_rate: in Hz.
        audio_seconds: sound kept from the start of a clip; longer is cut, shorter is masked.
        mel_bins: height of the log-mel picture.
        hop_length: samples between mel frames; M = audio_seconds · sample_rate / hop_length.
    """

    num_frames: int = 4
    sampling: str = "uniform"
    train_sampling: str = "uniform"
    frame_size: int = 128
    fit: str = "crop"
    text_fields: tuple[str, ...] = ("title",)
    max_text_length: int = 16
    separate_text: bool = False
    max_field_length: int = 16
    audio: bool = True
    sample_rate: int = 16_000
    audio_seconds: float = 2.0
    mel_bins: int = 64
    hop_length: int = 160

    def __post_init__(self) -> None:
        object.__setattr__(self, "text_fields", tuple(self.text_fields))
        if self.separate_text and (not self.text_fields or self.max_field_length < 1):
            raise ValueError(
                f"separate_text needs text fields of at least one token, got text_fields="
                f"{list(self.text_fields)} and max_field_length={self.max_field_length}; name the "
                "fields or set separate_text to false"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for fingerprints and JSON; `InputSpec(**values)` is the way back.

        The options of separate text are there only where it is on: fingerprints of data that don't
        use it are those of versions that didn't know it.
        """
        values = dataclasses.asdict(self)
        if not self.separate_text:
            del values["separate_text"], values["max_field_length"]
        return values

    @property
    def mel_frames(self) -> int:
        """M, mel frames per clip."""
        return int(self.audio_seconds * self.sample_rate) // self.hop_length


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
    """

    id: str
    path: Path
    text: Mapping[str, str] = field(default_factory=dict)
    label: float | int | tuple[int, ...] | None = None
    privileged: Mapping[str, float] = field(default_factory=dict)
    split: str = "train"
    group: str | None = None


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
        views: what is shown of each clip, as `coefvq.data.sampling.view_name` names it; None where
            frames are drawn anew each time.
        field_ids: (B, K, T) int64 token ids of the text fields one by one, in the order of
            `InputSpec.text_fields` and without the tokenizer's special tokens; None unless
            `InputSpec.separate_text`.
        field_mask: (B, K, T) bool, True where such a token counts; all False for an empty field.
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
    views: tuple[str, ...] | None = None
    field_ids: Tensor | None = None
    field_mask: Tensor | None = None

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
            views=None,
        )

    def whole(self) -> Batch:
        """All of it: what a privileged teacher is trained on (the twin of `public`)."""
        return self


@dataclass(frozen=True)
class StudentOutput(Tensors):
    """What a student answers: logits (see `TaskSpec`) and, if it has them, (B, D) features.

    `sub_logits` (B, S) answer the sub-labels of pairs, for students with such heads.
    """

    logits: Tensor
    features: Tensor | None = None
    sub_logits: Tensor | None = None


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
    """

    logits: Tensor
    features: Tensor | None = None
    sub_logits: Tensor | None = None
    token_features: Tensor | None = None
    topk_indices: Tensor | None = None
    topk_logprobs: Tensor | None = None
    token_mask: Tensor | None = None


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
