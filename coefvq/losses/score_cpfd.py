"""PFD and CPFD on scores: labels and a teacher's scores, mixed clip by clip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coefvq.losses._contract import (
    Reduction,
    check_choice,
    check_labels,
    check_reduction,
    check_unit,
    check_weight,
    need_teacher,
    reduce,
)
from coefvq.losses._scores import check_above_zero, check_scores
from coefvq.losses._trust import check_trust
from coefvq.losses.regression_confidence import ScoreConfidence, level_spread

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput

HardWeight = Literal["fixed", "complement"]
_HARD_WEIGHTS: Final[tuple[str, ...]] = get_args(HardWeight)


def score_cpfd_loss(
    student_scores: Tensor,
    teacher_scores: Tensor,
    labels: Tensor | None,
    confidence: Tensor | None = None,
    *,
    distill_weight: float = 0.5,
    beta: float = 1.0,
    hard_weight: HardWeight = "fixed",
    label_mask: Tensor | None = None,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Mix labels and teacher sample by sample, trusting the teacher where it is confident.

    L_i = h_i · d(z_i, y_i) + λ · c_i · d(z_i, t_i), with h_i = 1 − λ ("fixed") or 1 − λ·c_i
    ("complement") and d the smooth L1 distance of `score_kd_loss`. `cpfd_loss` for scores, as far
    as there is one: a *reconstruction* of CPFD (arXiv 2410.03038), which is on classes, with a
    confidence that is handed in. With c = 1 it is PFD on scores, to the bit, for both hard weights.

    Gradients flow to `student_scores` only. Inside it is float32 (float64 for float64 scores).

    Args:
        student_scores: (B,), in the labels' unit.
        teacher_scores: (B,) in the same unit, finite.
        labels: (B,); None: no sample is labelled, and the hard term is 0.
        confidence: (B,) c_i, at least 0, for instance from `regression_confidence`; None: 1.
        distill_weight: λ in [0, 1].
        beta: β > 0 of smooth L1, in the unit of the scores.
        hard_weight: as above; "complement" is kept at 0 or above.
        label_mask: (B,) bool, True where the label counts. Elsewhere it is never read.
        sample_weight: (B,) finite and not negative, for both terms; each mean divides by the sum
            of the weights that it summed over.
        reduction: over samples. `"none"` gives the per-sample sum, the hard part 0 where
            unlabelled.

    Returns:
        A scalar, or (B,) for `"none"`; in the unit of the scores, at least 0; 0 where the student
        is right and equal to the teacher.

    Raises:
        ValueError: unknown option, λ outside [0, 1], β ≤ 0, wrong shape or dtype; on CPU tensors
            outside `torch.compile` also a label or a teacher's score that is not finite.

    >>> import torch  # 3 off the label, 5 off a teacher that is half trusted: ½ · 2.5 + ½ · ½ · 4.5
    >>> z = torch.tensor([10.0]), torch.tensor([15.0]), torch.tensor([13.0]), torch.tensor([0.5])
    >>> score_cpfd_loss(*z).item()
    2.375
    """
    _check_options(distill_weight, beta, hard_weight, reduction)
    student, teacher = check_scores(student_scores, teacher_scores)
    safe, mask = check_labels(labels, label_mask, student, "regression")
    weight = check_weight(sample_weight, student)
    if confidence is None:
        trust = torch.ones_like(student)
    else:
        trust = check_trust(confidence, student, teacher, "regression").to(student.dtype)
    # (1 - λ) + λ(1 - c) is 1 - λc in the one order of rounding that meets PFD at c = 1.
    rest: Tensor | float = 1 - distill_weight
    if hard_weight == "complement":
        rest = (rest + distill_weight * (1 - trust)).clamp_min(0.0)
    hard = rest * F.smooth_l1_loss(student, safe, reduction="none", beta=beta)
    soft = distill_weight * trust * F.smooth_l1_loss(student, teacher, reduction="none", beta=beta)
    return reduce(hard, reduction, weight, mask) + reduce(soft, reduction, weight)


class ScoreCPFDLoss(nn.Module):
    """Module over `score_cpfd_loss`, which documents the options.

    `confidence` is a function of `regression_confidence`, or None for PFD. `distill_weight`,
    `beta` and `confidence` may be reassigned during training.
    """

    def __init__(
        self,
        *,
        distill_weight: float = 0.5,
        beta: float = 1.0,
        confidence: ScoreConfidence | None = level_spread,
        hard_weight: HardWeight = "fixed",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        _check_options(distill_weight, beta, hard_weight, reduction)
        self.distill_weight = distill_weight
        self.beta = beta
        self.confidence = confidence
        self.hard_weight: HardWeight = hard_weight
        self.reduction: Reduction = reduction

    def forward(
        self,
        student_scores: Tensor,
        teacher_scores: Tensor,
        labels: Tensor | None,
        level_logits: Tensor | None = None,
        score_std: Tensor | None = None,
        label_mask: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """Call `score_cpfd_loss` with this module's options and confidence."""
        trust = None
        if self.confidence is not None:
            trust = self.confidence(
                teacher_scores,
                labels,
                level_logits=level_logits,
                score_std=score_std,
                label_mask=label_mask,
            )
        return score_cpfd_loss(
            student_scores,
            teacher_scores,
            labels,
            trust,
            distill_weight=self.distill_weight,
            beta=self.beta,
            hard_weight=self.hard_weight,
            label_mask=label_mask,
            sample_weight=sample_weight,
            reduction=self.reduction,
        )

    def select(
        self, student: StudentOutput, teacher: TeacherOutput | None, batch: Batch
    ) -> dict[str, Tensor | None]:
        """Pick what `forward` reads."""
        found = need_teacher(teacher, "ScoreCPFDLoss")
        return {
            "student_scores": student.logits,
            "teacher_scores": found.logits,
            "labels": batch.labels,
            "level_logits": found.level_logits,
            "score_std": found.score_std,
            "label_mask": batch.label_mask,
            "sample_weight": batch.sample_weight,
        }


def _check_options(distill_weight: float, beta: float, hard_weight: str, reduction: str) -> None:
    check_unit("distill_weight", distill_weight)
    check_above_zero("beta", beta)
    check_choice("hard_weight", hard_weight, _HARD_WEIGHTS)
    check_reduction(reduction)
