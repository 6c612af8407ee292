"""Weighted transformed teacher matching: a power of the teacher, an untempered student."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coefvq.losses._contract import (
    IMPOSSIBLE,
    Reduction,
    Task,
    check_pair,
    check_reduction,
    check_task,
    check_weight,
    need_teacher,
    reduce,
)
from coefvq.losses.logit_kd import soft_values

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput


def power_sum(teacher: Tensor, task: str, exponent: float) -> Tensor:
    """U = Σ p^γ of each decision, (B,) or (B, L), on checked logits."""
    if task == "multiclass":
        return torch.logsumexp(exponent * F.log_softmax(teacher, -1), -1).exp()
    teacher = teacher.clamp(-IMPOSSIBLE, IMPOSSIBLE)
    yes, no = F.logsigmoid(teacher), F.logsigmoid(-teacher)
    return (exponent * yes).exp() + (exponent * no).exp()


def wttm_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    task: Task,
    exponent: float = 0.5,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Match a flattened teacher, and most where the teacher is unsure.

    L_i = U_i · KL(p̃ ‖ q), p̃ = p^γ / U, U = Σ_k p_k^γ, with p = softmax(z_teacher) and
    q = softmax(z_student) (Zheng and Yang, "Knowledge distillation based on transformed teacher
    matching", ICLR 2024). p̃ is the teacher at T = 1/γ; the student is not softened, which is why
    there is no T² here. Binary: the same with the two probabilities σ(z), σ(−z). Multilabel: one U
    per label, and the mean over labels.

    For γ < 1, U grows from 1 for a certain teacher to C^(1−γ) for a uniform one: WTTM listens most
    to a teacher in *doubt*, the opposite of CPFD's confidence. For γ > 1 it is the other way
    round. The two do not add up; choose one.

    Differs from the source: the hard term and β are left to the objective's weights.

    Gradients flow to `student_logits` only. Inside it is float32 (float64 for float64 logits).
    No label is read: every sample counts.

    Args:
        student_logits: (B,) binary, (B, C) multiclass, (B, L) multilabel. −inf masks a class.
        teacher_logits: the same shape.
        task: what the logits mean; regression has no distribution and is refused.
        exponent: γ > 0. 1 is `logit_kd_loss` at T = 1.
        sample_weight: (B,) finite and not negative. The mean divides by its sum, not by that of U.
        reduction: over samples, never over classes.

    Returns:
        A scalar, or (B,) for `"none"`; nats times U, at least 0; 0 where the student equals p̃,
        which for γ ≠ 1 is not the teacher itself.

    Raises:
        ValueError: unknown option, γ ≤ 0, wrong shape or dtype; a bad weight on CPU tensors.

    >>> import torch  # p = (0.8, 0.2), p̃ = (2/3, 1/3), U = 1.3416, KL(p̃ ‖ ½) = 0.0566
    >>> round(wttm_loss(torch.zeros(1), torch.tensor([4.0]).log(), task="binary").item(), 4)
    0.076
    """
    _check_options(task, exponent, reduction)
    student, teacher = check_pair(student_logits, teacher_logits, task)
    weight = check_weight(sample_weight, student)
    # Where γ is 1, U = 1, and the loss is logit_kd_loss to the bit.
    mass = None if exponent == 1 else power_sum(teacher, task, exponent)
    soft = soft_values(student, exponent * teacher, task, 1.0, weight=mass)
    return reduce(soft, reduction, weight)


class WTTMLoss(nn.Module):
    """Module over `wttm_loss`, which documents the options. `exponent` may be reassigned."""

    def __init__(self, *, task: Task, exponent: float = 0.5, reduction: Reduction = "mean") -> None:
        super().__init__()
        _check_options(task, exponent, reduction)
        self.task: Task = task
        self.exponent = exponent
        self.reduction: Reduction = reduction

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Call `wttm_loss` with this module's options."""
        return wttm_loss(
            student_logits,
            teacher_logits,
            task=self.task,
            exponent=self.exponent,
            sample_weight=sample_weight,
            reduction=self.reduction,
        )

    def select(
        self, student: StudentOutput, teacher: TeacherOutput | None, batch: Batch
    ) -> dict[str, Tensor | None]:
        """Pick what `forward` reads; labels aren't needed."""
        return {
            "student_logits": student.logits,
            "teacher_logits": need_teacher(teacher, "WTTMLoss").logits,
            "sample_weight": batch.sample_weight,
        }


def _check_options(task: str, exponent: float, reduction: str) -> None:
    check_task(task)
    check_reduction(reduction)
    if not 0.0 < exponent < math.inf:
        raise ValueError(f"exponent must be a finite number above 0, got {exponent}")
