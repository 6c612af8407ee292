"""Scores in points: a loss on scores whose numbers hold for every data set's range."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput

POINTS = 100.0
"""How many the range of the labels has."""


class InPoints(nn.Module):
    """Hand scores to a loss in points: 100 · (s − low) / (high − low), hundredths of the range.

    A β, a standard deviation or a weight that is written for points then says the same on opinions
    from 1 to 5 as on scores from 0 to 100, where nothing changes. Scores and their standard
    deviations are brought over (`StudentOutput.logits`, `TeacherOutput.logits` and `.score_std`,
    `Batch.labels` and `.label_std`); logits of levels and of numbers, features, masks and weights
    have no unit. What comes out is in points, too, squared where the loss squares.

    Gradients of the student's scores are those of the loss, times 100 / (high − low). Schedules and
    `numbers_of` see the numbers of the loss inside.

    Args:
        loss: any loss with `select` and `forward` that reads scores from `logits`.
        label_range: lowest and highest possible label, as the data state it.

    Raises:
        ValueError: no range, or one that is upside down.

    >>> import torch  # 1 off on a range of 4 is 25 points
    >>> from coefvq.losses import SupervisedLoss
    >>> from coefvq.types import Batch, StudentOutput
    >>> loss = InPoints(SupervisedLoss(task="regression"), (1.0, 5.0))
    >>> clip = Batch(("a",), torch.zeros(1), torch.ones(1), labels=torch.tensor([2.0]))
    >>> loss(**loss.select(StudentOutput(torch.tensor([3.0])), None, clip)).item()
    625.0
    """

    def __init__(self, loss: nn.Module, label_range: Sequence[float] | None) -> None:
        super().__init__()
        ends = () if label_range is None else tuple(float(end) for end in label_range)
        if len(ends) != 2 or not ends[0] < ends[1] or not math.isfinite(ends[1] - ends[0]):
            raise ValueError(
                "losses in points need the lowest and the highest possible score, got "
                f"{None if label_range is None else list(label_range)}; state the data's range, "
                "for instance data.label_range=[0,100]"
            )
        self.loss = loss
        self._low, self._high = ends

    def forward(self, **tensors: Any) -> Tensor:
        """Call the loss with what `select` picked."""
        value: Tensor = self.loss(**tensors)
        return value

    def select(
        self, student: StudentOutput, teacher: TeacherOutput | None, batch: Batch
    ) -> dict[str, Any]:
        """Pick what the loss reads, in points."""
        student = dataclasses.replace(student, logits=self._points(student.logits))
        if teacher is not None:
            scores, std = self._points(teacher.logits), self._spread(teacher.score_std)
            teacher = dataclasses.replace(teacher, logits=scores, score_std=std)
        if batch.labels is not None:
            labels, spread = self._points(batch.labels), self._spread(batch.label_std)
            batch = dataclasses.replace(batch, labels=labels, label_std=spread)
        loss: Any = self.loss
        picked: dict[str, Any] = loss.select(student, teacher, batch)
        return picked

    def _points(self, scores: Tensor) -> Tensor:
        # float32 under autocast: half precision would round 50 points to a 32nd.
        scores = scores.float() if scores.element_size() < 4 else scores
        return (scores - self._low) * (POINTS / (self._high - self._low))

    def _spread(self, std: Tensor | None) -> Tensor | None:
        return None if std is None else std * (POINTS / (self._high - self._low))


__all__ = ["POINTS", "InPoints"]
