"""Teachers that each answer for the clips they have not been trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from coefvq.teachers.ensemble import Teacher, mix_logits
from coefvq.types import Batch, TaskKind, TeacherOutput


class OutOfFoldTeacher:
    """Answer each clip by the member that did not see its label.

    A clip outside all folds (unlabelled, validation or test) was seen by none: its answer has the
    mean of all members' probabilities (`mix_logits`; the mean of the scores for a regression). A
    mean of logits would let the one member that is surest speak for all. A mean is a little less
    sure than each of its parts, so confidences inside and outside the folds are not quite on one
    scale; a calibration that is fitted on validation clips is fitted to the mean.

    Only logits come out: features of different members have nothing in common.

    Args:
        members: K teachers; member k was trained without the clips of fold k.
        folds: fold by clip id, from `coefvq.data.folds.fold_of`.
        task: what the logits mean.

    Raises:
        ValueError: fewer than two members, or a fold without a member.
    """

    def __init__(
        self, members: Sequence[Teacher], folds: Mapping[str, int], task: TaskKind
    ) -> None:
        known = set(folds.values())
        if len(members) < 2 or not known <= set(range(len(members))):
            raise ValueError(
                f"got {len(members)} teachers for the folds {sorted(known)}; give one for each "
                "fold, at least two"
            )
        self.members, self.folds, self.task = tuple(members), dict(folds), task

    def __call__(self, batch: Batch) -> TeacherOutput:
        """Logits of every clip of the batch, on its device; each clip by whom it is due."""
        home = [self.folds.get(name) for name in batch.ids]
        outside = [row for row, fold in enumerate(home) if fold is None]
        answers: list[Tensor] = []
        order: list[int] = []
        beside: list[Tensor] = []
        for k, member in enumerate(self.members):
            own = [row for row, fold in enumerate(home) if fold == k]
            if not own and not outside:
                continue
            logits = member(_take(batch, own + outside)).logits.float()
            order += own
            answers.append(logits[: len(own)])
            beside.append(logits[len(own) :])
        if outside:
            share = torch.full((len(beside), len(outside)), 1 / len(beside), device=batch.device)
            answers.append(mix_logits(torch.stack(beside), share, self.task))
            order += outside
        back = torch.tensor(order, device=batch.device).argsort()
        return TeacherOutput(torch.cat(answers)[back])


def _take(batch: Batch, rows: Sequence[int]) -> Batch:
    """Some clips of a batch."""
    if list(rows) == list(range(len(batch))):
        return batch
    index = torch.tensor(rows, dtype=torch.long, device=batch.device)
    taken: dict[str, object] = {}
    for f in dataclasses.fields(batch):
        value = getattr(batch, f.name)
        if isinstance(value, Tensor):
            taken[f.name] = value[index]
        elif isinstance(value, tuple):
            taken[f.name] = tuple(value[row] for row in rows)
    return dataclasses.replace(batch, **taken)  # type: ignore[arg-type]


__all__ = ["OutOfFoldTeacher"]
