"""Pairs to batches: two batches of clips out of one data set of clips, with the pairs' labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from coefvq.data.loading import ClipDataset
from coefvq.data.media import UnreadableClip
from coefvq.data.sharing import Repeated
from coefvq.pairs import Pair, PairBatch
from coefvq.types import Batch


class PairDataset(Dataset[PairBatch]):
    """Pairs of one split, handed out as collated batches.

    A clip that several pairs of a batch share is read once for all of them. A place that is
    `Repeated` gives the pair without its labels.

    Args:
        pairs: N pairs.
        clips: the data set that reads their clips; it may hold more than theirs.
        sub_labels: S names; the order of the columns.

    Raises:
        ValueError: a pair's clip is not in `clips`.
    """

    def __init__(
        self, pairs: Sequence[Pair], clips: ClipDataset, sub_labels: Sequence[str] = ()
    ) -> None:
        self.pairs = list(pairs)
        self.clips = clips
        place = {name: number for number, name in enumerate(clips.ids)}
        sides = [[pair.query.id, pair.candidate.id] for pair in self.pairs]
        if missing := sorted({name for side in sides for name in side if name not in place}):
            raise ValueError(
                f"clips {missing[:5]} of pairs are not in the data set of clips; give one that "
                "holds both clips of every pair"
            )
        self.ids = [pair.id for pair in self.pairs]
        self.places = torch.tensor(
            [[place[name] for name in side] for side in sides], dtype=torch.int64
        ).reshape(-1, 2)
        self.labels = torch.tensor([pair.label or 0.0 for pair in self.pairs], dtype=torch.float32)
        self.label_mask = torch.tensor([p.label is not None for p in self.pairs], dtype=torch.bool)
        self.sub_labels: Tensor | None = None
        self.sub_label_mask: Tensor | None = None
        if sub_labels:
            marks = [[pair.sub_labels.get(name) for name in sub_labels] for pair in self.pairs]
            shape = (-1, len(sub_labels))
            self.sub_labels = torch.tensor(
                [[mark or 0.0 for mark in row] for row in marks], dtype=torch.float32
            ).reshape(shape)
            self.sub_label_mask = torch.tensor(
                [[mark is not None for mark in row] for row in marks], dtype=torch.bool
            ).reshape(shape)

    def __len__(self) -> int:
        return len(self.pairs)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch for random frame policies."""
        self.clips.set_epoch(epoch)

    def view_names(self, ids: Sequence[str]) -> tuple[str, ...] | None:
        """What a batch of these pairs would show; both clips of a pair are read alike."""
        place = {name: row for row, name in enumerate(self.ids)}
        rows = [self.places[place[name], 0] for name in ids]
        return self.clips.view_names([self.clips.ids[row] for row in rows])

    def __getitem__(self, index: int) -> PairBatch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> PairBatch:
        rows = torch.tensor(list(indices), dtype=torch.int64)
        counts = torch.tensor([not isinstance(index, Repeated) for index in indices])
        needed, inverse = torch.unique(self.places[rows], return_inverse=True)
        read = self.clips.__getitems__(needed.tolist())
        if len(read) < len(needed):  # clips were lost on the fly, and their pairs go with them
            kept = {name: number for number, name in enumerate(read.ids)}
            where = [kept.get(self.clips.ids[place], -1) for place in needed.tolist()]
            inverse = torch.tensor(where)[inverse]
            whole = (inverse >= 0).all(1)
            rows, inverse, counts = rows[whole], inverse[whole], counts[whole]
            if not len(rows):
                raise UnreadableClip("no pair of a batch could be read; each lacks a clip")
        return PairBatch(
            ids=tuple(self.ids[row] for row in rows.tolist()),
            query=take(read, inverse[:, 0]),
            candidate=take(read, inverse[:, 1]),
            labels=self.labels[rows],
            label_mask=self.label_mask[rows] & counts,
            sub_labels=None if self.sub_labels is None else self.sub_labels[rows],
            sub_label_mask=None
            if self.sub_label_mask is None
            else self.sub_label_mask[rows] & counts[:, None],
        )


def take(batch: Batch, rows: Tensor) -> Batch:
    """Some clips of a batch, repeated where `rows` (n,) repeats them, without their labels."""
    picked: dict[str, Any] = {
        field.name: value[rows]
        for field in dataclasses.fields(batch)
        if isinstance(value := getattr(batch, field.name), Tensor)
    }
    order = rows.tolist()
    views = None if batch.views is None else tuple(batch.views[row] for row in order)
    picked |= {"ids": tuple(batch.ids[row] for row in order), "views": views}
    return dataclasses.replace(batch, **(picked | {"labels": None, "label_mask": None}))


__all__ = ["PairDataset", "take"]
