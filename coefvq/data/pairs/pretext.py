"""Pairs made in memory from clips without labels, for a model of pairs to start from.

Learning video similarity from altered copies alone is S²VS's idea (Kordopatis-Zilos et al., 2023,
arXiv 2304.03378); which copies, parts and pairs are made here is a reconstruction after
`make_pairs`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from coefvq.data.loading import ClipDataset, number_of
from coefvq.data.pairs.alter import alter_frames, chance, part_of_frames, part_of_sound, uniform
from coefvq.data.pairs.dataset import take
from coefvq.pairs import PairBatch
from coefvq.types import Batch

VIEWS = 4
"""Altered copies of each clip: two of each half, or four of the whole."""
PAIRS = 6
"""Pairs per clip: two or four reproductions and halves, the rest with other clips of the batch."""
_TEXTS = (("input_ids", "text_mask"), ("field_ids", "field_mask"))


class PretextPairs(Dataset[PairBatch]):
    """Batches of clips turned into pairs whose label follows from how they were made.

    Each clip becomes four altered copies. From half of the clips (of two frames or more) they show
    the first and the second half, two each: copies of one half are a reproduction (1), of different
    halves none (0). From the others all four show most of the clip: two reproductions. The rest of
    six pairs per clip are with another clip of the batch (0); where that one has the same group,
    the pair does not count.

    Args:
        clips: what a batch is read from; labels of pairs are never looked at.
        groups: of each clip; clips of one group may show the same.
        seed: decides, with the epoch and the clips of a batch, about everything.

    Raises:
        ValueError: `groups` has another length than `clips`.
    """

    def __init__(self, clips: ClipDataset, groups: Sequence[str], seed: int) -> None:
        if len(groups) != len(clips):
            raise ValueError(f"got {len(groups)} groups for {len(clips)} clips; give one each")
        self.clips = clips
        self.groups = dict(zip(clips.ids, groups, strict=True))
        self.seed = seed

    def __len__(self) -> int:
        return len(self.clips)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch: other copies of the same clips."""
        self.clips.set_epoch(epoch)

    def __getitem__(self, index: int) -> PairBatch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> PairBatch:
        batch = self.clips.__getitems__(list(indices))
        words = f"pretext {self.seed} {self.clips.epoch} {' '.join(batch.ids)}"
        generator = torch.Generator().manual_seed(number_of(words))
        halved = chance(len(batch), 0.5, generator) & (batch.frame_mask.sum(1) >= 2)
        views = _views(batch, halved, generator)
        places, labels, counts = self._pairs(batch.ids, halved, generator)
        swapped = chance(len(places), 0.5, generator)
        places = torch.where(swapped[:, None], places.flip(1), places)
        return PairBatch(
            ids=tuple(f"{views.ids[one]}|{views.ids[two]}" for one, two in places.tolist()),
            query=take(views, places[:, 0]),
            candidate=take(views, places[:, 1]),
            labels=labels,
            label_mask=counts,
        )

    def _pairs(
        self, ids: Sequence[str], halved: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(PAIRS · B, 2) views, and their labels and whether these count."""
        rows, ours = len(ids), [self.groups[name] for name in ids]
        clip = torch.arange(rows)
        # View v of clip i stands at v · rows + i; v // 2 is its half.
        first = torch.stack([clip, rows + clip], 1)
        second = first + 2 * rows
        crossed = [torch.stack([first[:, v], second[:, 1 - v]], 1) for v in range(2)]
        pairs, labels = [first, second], [torch.ones(rows)] * 2
        counts = [torch.ones(rows, dtype=torch.bool)] * 2
        for number in range(PAIRS - 2):
            step = int(torch.randint(1, max(rows, 2), (), generator=generator))
            other = (clip + step) % rows
            theirs = [ours[row] for row in other.tolist()]
            apart = torch.tensor([a != b for a, b in zip(ours, theirs, strict=True)])
            views = torch.randint(VIEWS, (2, rows), generator=generator)
            random = torch.stack([views[0] * rows + clip, views[1] * rows + other], 1)
            if number < len(crossed):
                pairs.append(torch.where(halved[:, None], crossed[number], random))
                counts.append(halved | apart)
            else:
                pairs.append(random)
                counts.append(apart)
            labels.append(torch.zeros(rows))
        return torch.cat(pairs), torch.cat(labels), torch.cat(counts)


def _views(batch: Batch, halved: Tensor, generator: torch.Generator) -> Batch:
    """VIEWS altered copies of every clip: view v of clip i at v · B + i."""
    rows = len(batch)
    # Between two frames: the halves share none.
    count = batch.frame_mask.sum(1)
    middle = (uniform(rows, 0.42, 0.58, generator) * count).round()
    middle = torch.where(halved, middle.clamp(min=1) / count.clamp(min=1), 1.0)
    copies = []
    for view in range(VIEWS):
        low = middle * (view // 2) * halved
        high = torch.where(halved & (view // 2 == 1), 1.0, middle)
        # Half of the copies are cut: to a random 60 to 100 % of what they may show.
        kept = torch.where(chance(rows, 0.5, generator), uniform(rows, 0.6, 1.0, generator), 1.0)
        length = kept * (high - low)
        start = low + (high - low - length) * uniform(rows, 0, 1, generator)
        copies.append(_altered(batch, view, start, start + length, generator))
    joined: dict[str, Any] = {"ids": tuple(name for copy in copies for name in copy.ids)}
    for field in dataclasses.fields(batch):
        values = [getattr(copy, field.name) for copy in copies]
        if isinstance(values[0], Tensor):
            joined[field.name] = torch.cat(values)
    return dataclasses.replace(copies[0], **joined)


def _altered(
    batch: Batch, view: int, start: Tensor, end: Tensor, generator: torch.Generator
) -> Batch:
    """One altered copy of every clip that shows a part of it."""
    rows = len(batch)
    frames = part_of_frames(batch.frames, batch.frame_mask, start, end)
    changed: dict[str, Any] = {
        "ids": tuple(f"{name}~{view}" for name in batch.ids),
        "frames": alter_frames(frames, generator),
        "frame_mask": batch.frame_mask.any(1, keepdim=True).expand_as(batch.frame_mask),
    }
    renamed, order = chance(rows, 0.4, generator), torch.randperm(rows, generator=generator)
    for names in _TEXTS:
        for name in names:
            if (values := getattr(batch, name)) is not None:
                changed[name] = _some_of_others(values, renamed, order)
    if batch.audio is not None:
        assert batch.audio_mask is not None
        audio, mask = part_of_sound(batch.audio, batch.audio_mask, start, end)
        replaced, order = chance(rows, 0.12, generator), torch.randperm(rows, generator=generator)
        mask = mask & ~chance(rows, 0.12, generator)[:, None]
        changed["audio"] = _some_of_others(audio, replaced, order)
        changed["audio_mask"] = _some_of_others(mask, replaced, order)
    if batch.seconds is not None:
        changed["seconds"] = batch.seconds * (end - start)
    # Labels and what stands beside them are of single clips; chunks are not cut along.
    nothing = dict.fromkeys(
        ("labels", "label_mask", "sample_weight", "privileged", "privileged_mask", "label_std",
         "views", "motion")
    )  # fmt: skip
    return dataclasses.replace(batch, **nothing, **changed)


def _some_of_others(values: Tensor, others: Tensor, order: Tensor) -> Tensor:
    """Rows of other clips where `others` (B,) says so."""
    return torch.where(others.view(-1, *[1] * (values.dim() - 1)), values[order], values)


__all__ = ["PAIRS", "VIEWS", "PretextPairs"]
