"""Clips that stand in several samples of a batch, found once, so that towers read them once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from coefvq.types import Batch


@dataclass(frozen=True)
class Distinct:
    """The different clips among the sides of a batch.

    Args:
        rows: for each side, its rows that hold a clip for the first time.
        places: (sides · B,) int64, for every row of every side, side after side, which of the
            different clips it holds.
    """

    rows: list[list[int]]
    places: Tensor

    def spread(self, rows: Tensor) -> Tensor:
        """(n, …) values of the different clips -> (sides · B, …) values of all rows."""
        return rows[self.places.to(rows.device)]

    def join(self, sides: Sequence[Tensor]) -> Tensor:
        """(B, …) values of each side -> (n, …) of the different clips."""
        return torch.cat([side[rows] for side, rows in zip(sides, self.rows, strict=True)])


def distinct_clips(clips: Sequence[Batch], masks: Sequence[Tensor]) -> Distinct:
    """Find clips that are the same to a tower: equal ids, frames, masks and sounds.

    Args:
        clips: B rows for each side.
        masks: (B, F) bool for each side, the frames that are read.
    """
    seen: dict[tuple[str, tuple[bool, ...]], list[tuple[int, int, int]]] = {}
    rows: list[list[int]] = [[] for _ in clips]
    places: list[int] = []
    count = 0
    for side, (batch, mask) in enumerate(zip(clips, masks, strict=True)):
        for row, (name, read) in enumerate(zip(batch.ids, mask.tolist(), strict=True)):
            known = seen.setdefault((name, tuple(read)), [])
            # An id is a name that somebody gave: what it stands for is looked at.
            same = (p for s, r, p in known if _equal(clips[s], r, batch, row))
            place = next(same, count)
            if place == count:
                known.append((side, row, place))
                rows[side].append(row)
                count += 1
            places.append(place)
    return Distinct(rows, torch.tensor(places, dtype=torch.long))


def sound_of(clips: Sequence[Batch], distinct: Distinct) -> tuple[Tensor | None, Tensor | None]:
    """(n, mel_bins, M) sound of the different clips and its (n, M) bool mask; None without sound.

    Raises:
        ValueError: one side has sound tensors and the other has none.
    """
    audio = [clip.audio for clip in clips if clip.audio is not None]
    if len(audio) < len(clips):
        if audio:
            raise ValueError("one side of the pairs has sound tensors and the other has none")
        return None, None
    masks = [
        clip.audio_mask
        if clip.audio_mask is not None
        else torch.ones(len(a), a.shape[-1], dtype=torch.bool, device=a.device)
        for clip, a in zip(clips, audio, strict=True)
    ]
    return distinct.join(audio), distinct.join(masks)


def _equal(one: Batch, row: int, other: Batch, place: int) -> bool:
    pairs = [
        (one.frames, other.frames),
        (one.audio, other.audio),
        (one.audio_mask, other.audio_mask),
    ]
    return all(
        a is b if a is None or b is None else torch.equal(a[row], b[place]) for a, b in pairs
    )


__all__ = ["Distinct", "distinct_clips", "sound_of"]
