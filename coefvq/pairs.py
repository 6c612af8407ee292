"""Two clips and what is known about them: the pairwise twins of `Clip` and `Batch`.

S counts sub-labels; the other shape letters are those of `coefvq.types`. Outputs don't know
about pairs: a pairwise model answers with the same `StudentOutput` or `TeacherOutput`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from coefvq.types import Batch, Clip, Tensors


@dataclass(frozen=True)
class Pair:
    """One row of a pair table: is the candidate a reproduction of the query?

    Args:
        id: unique name of the pair.
        query: the clip that is asked about.
        candidate: the clip that it may have been made from.
        label: 1.0 for a reproduction, 0.0 for none; None where unlabelled.
        sub_labels: 1.0 / 0.0 by name (how it was changed); a missing name is unlabelled.
        split: `"train"`, `"val"` or `"test"`.
        group: the source that both sides stand under in a split; None: a group of its own.
    """

    id: str
    query: Clip
    candidate: Clip
    label: float | None = None
    sub_labels: Mapping[str, float] = field(default_factory=dict)
    split: str = "train"
    group: str | None = None


@dataclass(frozen=True)
class PairBatch(Tensors):
    """B pairs of clips, collated.

    Args:
        ids: B pair ids.
        query: the B queries; clips only: labels stand here, not in the two batches.
        candidate: the B candidates, in the same order.
        labels: (B,) float32, None at serving.
        label_mask: (B,) bool, True where the label counts; None: all count.
        sample_weight: (B,) float32; None: all 1.
        sub_labels: (B, S) float32, 0 where unlabelled; None at serving or where there are none.
        sub_label_mask: (B, S) bool, True where the sub-label counts.
    """

    ids: tuple[str, ...]
    query: Batch
    candidate: Batch
    labels: Tensor | None = None
    label_mask: Tensor | None = None
    sample_weight: Tensor | None = None
    sub_labels: Tensor | None = None
    sub_label_mask: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.query.device

    @property
    def views(self) -> tuple[str, ...] | None:
        """The view of each pair's clips; None where frames are drawn anew."""
        return self.query.views if self.query.views == self.candidate.views else None

    def public(self) -> PairBatch:
        """What exists at serving: the two clips."""
        return PairBatch(self.ids, self.query.public(), self.candidate.public())

    def whole(self) -> PairBatch:
        """All of it (the twin of `public`)."""
        return self


def need_pairs(batch: object, model: str, instead: str) -> None:
    """Refuse a batch of single clips.

    Args:
        batch: what a pairwise model was given.
        model: its name.
        instead: what judges single clips.

    Raises:
        ValueError: it is no `PairBatch`.
    """
    if not isinstance(batch, PairBatch):
        raise ValueError(
            f"{model} judges pairs and got a batch of single clips; use data=pairs, or {instead}"
        )


__all__ = ["Pair", "PairBatch", "need_pairs"]
