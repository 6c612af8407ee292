"""Score distillation: say the number that the teacher says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from coefvq.losses._contract import (
    Reduction,
    check_choice,
    check_reduction,
    check_weight,
    need_teacher,
    reduce,
)
from coefvq.losses._scores import check_above_zero, check_scores

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput

Distance = Literal["smooth_l1", "mse", "l1"]
"""How far a score is from another."""

DISTANCES: Final = get_args(Distance)


def score_kd_loss(
    student_scores: Tensor,
    teacher_scores: Tensor,
    *,
    distance: Distance = "smooth_l1",
    beta: float = 1.0,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Pull the student's score towards the teacher's, sample by sample.

    d = s_i − t_i, and L_i = d² (`"mse"`), |d| (`"l1"`), or, for `"smooth_l1"`, d²/(2β) where
    |d| < β and |d| − β/2 beyond (Girshick, "Fast R-CNN", 2015, equation 3, there β = 1).

    Scores have a unit, and so has β: it is the difference up to which a teacher is taken to be
    merely imprecise. On scores from 0 to 100 the default of 1 is one point, which is practically
    `"l1"`; on scores from 0 to 1 nothing exceeds it and the loss is `"mse"` halved. With a small
    β the loss approaches `"l1"`. Standardise the scores, or choose β in their unit.

    No label is read: every sample counts, and unlabelled clips are where this pays. Unlike
    `plcc_loss` and `fidelity_rank_loss` it hands on the teacher's unit and offset.

    Gradients flow to `student_scores` only. Inside it is float32 (float64 for float64 scores).

    Args:
        student_scores: (B,), any unit.
        teacher_scores: (B,) in the same unit, finite.
        distance: as above.
        beta: β > 0 in the unit of the scores; read by `"smooth_l1"` only.
        sample_weight: (B,) finite and not negative. The mean divides by its sum.
        reduction: over samples.

    Returns:
        A scalar, or (B,) for `"none"`; in the unit of the scores, squared for `"mse"`; at least 0;
        0 for equal scores.

    Raises:
        ValueError: unknown option, β ≤ 0, wrong shape or dtype; on CPU tensors outside
            `torch.compile` also a teacher's score or a weight that is not as above.

    >>> import torch  # 3 points off with β = 2: 3 − 2/2
    >>> score_kd_loss(torch.tensor([40.0]), torch.tensor([43.0]), beta=2.0).item()
    2.0
    """
    _check_options(distance, beta, reduction)
    student, teacher = check_scores(student_scores, teacher_scores)
    weight = check_weight(sample_weight, student)
    if distance == "mse":
        values = (student - teacher).square()
    elif distance == "l1":
        values = (student - teacher).abs()
    else:
        values = F.smooth_l1_loss(student, teacher, reduction="none", beta=beta)
    return reduce(values, reduction, weight)


class ScoreKDLoss(nn.Module):
    """Module over `score_kd_loss`, which documents the options. `beta` may be reassigned."""

    def __init__(
        self,
        *,
        distance: Distance = "smooth_l1",
        beta: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        _check_options(distance, beta, reduction)
        self.distance: Distance = distance
        self.beta = beta
        self.reduction: Reduction = reduction

    def forward(
        self, student_scores: Tensor, teacher_scores: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Call `score_kd_loss` with this module's options."""
        return score_kd_loss(
            student_scores,
            teacher_scores,
            distance=self.distance,
            beta=self.beta,
            sample_weight=sample_weight,
            reduction=self.reduction,
        )

    def select(
        self, student: StudentOutput, teacher: TeacherOutput | None, batch: Batch
    ) -> dict[str, Tensor | None]:
        """Pick what `forward` reads: logits of a regression are scores; labels aren't needed."""
        return {
            "student_scores": student.logits,
            "teacher_scores": need_teacher(teacher, "ScoreKDLoss").logits,
            "sample_weight": batch.sample_weight,
        }


def _check_options(distance: str, beta: float, reduction: str) -> None:
    check_reduction(reduction)
    check_choice("distance", distance, DISTANCES)
    check_above_zero("beta", beta, "; for a β of 0 use distance='l1'")
