"""What a model answers and how it reads a file; saved with every model. The letters: `types.py`."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

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
        label_range: lowest and highest possible score of a regression, where it is known.
    """

    name: str
    kind: TaskKind
    classes: tuple[str, ...] = ()
    label_range: tuple[float, float] | None = None

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
        if self.label_range is not None:
            if self.kind != "regression":
                raise ValueError(
                    f"label_range={list(self.label_range)} is for regression, but task "
                    f"{self.name!r} is {self.kind}; leave it out"
                )
            object.__setattr__(self, "label_range", _range(self.label_range))

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `TaskSpec(**values)` is the way back.

        Without a range there is no such key: fingerprints of such data stay what they were.
        """
        values = dataclasses.asdict(self)
        if self.label_range is None:
            del values["label_range"]
        return values

    @property
    def num_outputs(self) -> int:
        """Width of the head: C, L, or 1 for binary and regression (squeezed to (B,))."""
        return len(self.classes) if self.kind in ("multiclass", "multilabel") else 1


def _range(given: Any) -> tuple[float, float]:
    try:
        low, high = (float(end) for end in given)
    except (TypeError, ValueError):
        low = high = 0.0
    if not (low < high and math.isfinite(high - low)):
        raise ValueError(
            f"label_range is the lowest and the highest possible score, for instance [1, 5], got "
            f"{given!r}"
        )
    return low, high


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
        fit: how: `"crop"` (short side, then centre crop), `"squash"`, `"letterbox"`, `"fragments"`.
        text_fields: manifest columns joined into one text, in this order.
        max_text_length: T, tokens.
        separate_text: whether each text field is also handed out by itself, see `Batch.field_ids`.
        max_field_length: tokens of such a field.
        audio: whether sound is read.
        sample_rate: in Hz.
        audio_seconds: sound kept from the start of a clip; longer is cut, shorter is masked.
        mel_bins: height of the log-mel picture.
        hop_length: samples between mel frames; M = audio_seconds · sample_rate / hop_length.
        motion_frames: K, pictures in the chunk of video around each frame, for models that look at
            motion, see `Batch.motion`; 0: no chunks.
        motion_seconds: how long a chunk lasts.
        motion_size: side of the square that the pictures of chunks are brought to, in pixels.
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
    motion_frames: int = 0
    motion_seconds: float = 1.0
    motion_size: int = 64

    def __post_init__(self) -> None:
        object.__setattr__(self, "text_fields", tuple(self.text_fields))
        if self.motion_frames < 0 or self.motion_size < 1 or not self.motion_seconds > 0:
            raise ValueError(
                "chunks of video have 0 or more pictures (0: none), a size and a length above 0, "
                f"got motion_frames={self.motion_frames}, motion_size={self.motion_size}, "
                f"motion_seconds={self.motion_seconds}"
            )
        if self.separate_text and (not self.text_fields or self.max_field_length < 1):
            raise ValueError(
                f"separate_text needs text fields of at least one token, got text_fields="
                f"{list(self.text_fields)} and max_field_length={self.max_field_length}; name the "
                "fields or set separate_text to false"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for fingerprints and JSON; `InputSpec(**values)` is the way back.

        The options of chunks and of separate text are there only where these are on: fingerprints
        and caches of data without them are those of versions that didn't know them.
        """
        values = dataclasses.asdict(self)
        if not self.motion_frames:
            del values["motion_frames"], values["motion_seconds"], values["motion_size"]
        if not self.separate_text:
            del values["separate_text"], values["max_field_length"]
        return values

    @property
    def mel_frames(self) -> int:
        """M, mel frames per clip."""
        return int(self.audio_seconds * self.sample_rate) // self.hop_length


__all__ = ["InputSpec", "TaskKind", "TaskSpec"]
