"""PLCC loss: be a straight line of the teacher's scores, in whatever unit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from coefvq.losses._arguments import settled
from coefvq.losses._contract import check_weight
from coefvq.losses._scores import check_batch, check_scores, check_target, pick_target

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput


def plcc_loss(
    student_scores: Tensor,
    teacher_scores: Tensor,
    *,
    mask: Tensor | None = None,
    sample_weight: Tensor | None = None,
) -> Tensor:
    r"""Correlate with the teacher's scores.

    L = (1 − ρ) / 2, ρ Pearson's linear correlation between the student's and the teacher's scores
    over the samples of the batch (norm-in-norm with p = q = 2: Li, Jiang and Jiang, 2020,
    equation 9, up to its factor; common in video quality assessment, for instance FAST-VQA, 2022).

    A student that is trained on this alone **has no unit**: a·s + b costs the same for every
    a > 0, so its scores may drift anywhere. Calibrate them before printing them, or add
    `score_kd_loss`.

    One number for the whole batch, hence no `reduction`, and it is not the mean over smaller
    batches; under DDP each process correlates its own samples. Where the teacher's scores do not
    vary there is nothing to learn: 0. Where only the student's do not, ρ is 0 and the loss ½,
    without gradient: a head that starts at exactly 0 never leaves it on this loss alone.
    Computed as ¼‖a − b‖² of the centred scores of length 1, so that equal scores give exactly 0.

    Gradients flow to `student_scores` only. Inside it is float32 (float64 for float64 scores).

    Args:
        student_scores: (B,), higher is better, any unit.
        teacher_scores: (B,) finite; or labels, for instance mean opinion scores. Of one unit:
            don't correlate across data sets.
        mask: (B,) bool, True where the teacher's score counts. Elsewhere it is never read.
        sample_weight: (B,) finite and not negative, within ρ: 0 is as good as absent.

    Returns:
        A scalar, no unit, in [0, 1]; 0 for s = a·t + b with a > 0, ½ without correlation.

    Raises:
        ValueError: wrong shape or dtype, fewer than two samples; on CPU tensors outside
            `torch.compile` also a teacher's score or a weight that is not as above.

    >>> import torch  # ρ = ½
    >>> round(plcc_loss(torch.tensor([1.0, 3.0, 2.0]), torch.tensor([10.0, 20.0, 30.0])).item(), 4)
    0.25
    """
    mask = settled(mask)
    student, teacher = check_scores(student_scores, teacher_scores, mask)
    check_batch(student, "plcc_loss")
    given = check_weight(sample_weight, student)
    weight = torch.ones_like(student) if given is None else given
    if mask is not None:
        weight = torch.where(mask, weight, 0.0)
        student = torch.where(mask, student, 0.0)
    a, student_varies = _unit(student, weight)
    b, teacher_varies = _unit(teacher, weight)
    # What does not vary has length 0 instead of 1.
    distance = torch.where(student_varies, (a - b).square().sum() / 4, 0.5)
    return torch.where(teacher_varies, distance, 0.0)


class PLCCLoss(nn.Module):
    """Module over `plcc_loss`.

    `target` says whose scores the student is held against, `"teacher"` or `"labels"`.
    """

    def __init__(self, *, target: Literal["teacher", "labels"] = "teacher") -> None:
        super().__init__()
        check_target(target)
        self.target = target

    def forward(
        self,
        student_scores: Tensor,
        teacher_scores: Tensor,
        mask: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """Call `plcc_loss`."""
        return plcc_loss(student_scores, teacher_scores, mask=mask, sample_weight=sample_weight)

    def select(
        self, student: StudentOutput, teacher: TeacherOutput | None, batch: Batch
    ) -> dict[str, Tensor | None]:
        """Pick what `forward` reads: logits of a regression are scores."""
        return {
            "student_scores": student.logits,
            "sample_weight": batch.sample_weight,
        } | pick_target(self.target, teacher, batch, "PLCCLoss")


def _unit(scores: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Scores around their weighted mean, brought to weighted length 1; and whether they vary."""
    counts = weight > 0
    # A scale whose squares neither overflow nor underflow; the correlation doesn't see it.
    scale = torch.where(counts, scores.detach().abs(), 0.0).amax().clamp_min(1e-30)
    weight = weight / weight.amax().clamp_min(1e-30)
    scores = scores / scale
    total = weight.sum().clamp_min(1e-30)
    centred = torch.where(counts, scores - (weight * scores).sum() / total, 0.0)
    squares = (weight * centred.square()).sum()
    # What rounding makes of equal numbers, of which the largest is 1.
    varies = squares > total * (16 * torch.finfo(scores.dtype).eps) ** 2
    length = torch.where(varies, squares, 1.0).sqrt()
    return weight.sqrt() * centred / length, varies
