"""Teachers that each answer for the clips they have not been trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from coefvq.teachers.ensemble import Teacher, disagreement, mix_logits
from coefvq.types import Batch, TaskKind, TeacherOutput


class OutOfFoldTeacher:
    """Answer each clip by the member that did not see its label.

    A clip outside all folds (unlabelled, validation or test) was seen by none: its answer has the
    mean of all members' probabilities (`mix_logits`; the mean of the scores for a regression). A
    mean of logits would let the one member that is surest speak for all. A mean is a little less
    sure than each of its parts, so confidences inside and outside the folds are not quite on one
    scale; a calibration that is fitted on validation clips is fitted to the mean.

    Logits come out, and for a regression `score_std`, how far the scores of all members lie apart:
    for a clip in a fold that is an understatement, since the others have seen its label.

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
        # Each is asked about the whole batch: arithmetic may differ in the last bit with its size,
        # and an answer must not depend on the fold of a clip's neighbours.
        everyone = torch.stack([member(batch).logits.float() for member in self.members])  # (K, B…)
        home = torch.tensor([self.folds.get(name, -1) for name in batch.ids], device=batch.device)
        own = everyone[home.clamp(min=0), torch.arange(len(batch), device=batch.device)]
        share = torch.full_like(home, 1, dtype=torch.float32).expand(len(everyone), -1)
        share = share / len(everyone)
        mixed = mix_logits(everyone, share, self.task)
        seen = (home >= 0).reshape(-1, *[1] * (own.ndim - 1))
        spread = disagreement(everyone, share, self.task)
        return TeacherOutput(torch.where(seen, own, mixed), score_std=spread)


__all__ = ["OutOfFoldTeacher"]
