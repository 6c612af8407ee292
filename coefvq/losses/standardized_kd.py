"""Distillation of logits whose mean and scale are taken away: a student needs not copy them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn

from coefvq.losses._contract import (
    Reduction,
    Task,
    check_pair,
    check_reduction,
    check_temperature,
    check_weight,
    need_teacher,
    reduce,
)
from coefvq.losses._target import check_many_classes, check_width
from coefvq.losses.logit_kd import soft_values

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput

_VANISHES: Final = "standardised logits are always ±1 and the gradient is 0"


def standardize(logits: Tensor) -> Tensor:
    """Z-scores over the classes that aren't masked: (B, C) -> (B, C), −inf where masked.

    Deviation with divisor C, as the mean of squares; a row without any spread gives 0.
    """
    possible = logits > -torch.inf
    count = possible.sum(-1, keepdim=True).clamp_min(1)
    known = torch.where(possible, logits, 0.0)
    centred = torch.where(possible, known - known.sum(-1, keepdim=True) / count, 0.0)
    # By its largest entry first: squares of large logits would overflow.
    scale = centred.detach().abs().amax(-1, keepdim=True)
    small = centred / torch.where(scale > 0, scale, 1.0)
    variance = small.square().sum(-1, keepdim=True) / count
    deviation = torch.where(variance > 0, variance, 1.0).sqrt()
    return torch.where(possible, small / deviation, -torch.inf)


def standardized_kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    task: Task = "multiclass",
    temperature: float = 2.0,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Pull the student's order and spacing of classes towards the teacher's, whatever their scale.

    L_i = T² · KL(softmax(Z(z_teacher) / T) ‖ softmax(Z(z_student) / T)), Z(z) = (z − mean) / std
    over the classes of a sample (Sun et al., "Logit standardization in knowledge distillation",
    CVPR 2024, algorithm 1). The deviation is each sample's own temperature, for both sides.

    Differs from the authors' code: their deviation has the divisor C − 1, ours C, so that their T
    is T · √(C / (C − 1)) here and their loss (C − 1) / C of ours; classes masked by −inf are left
    out of mean and deviation; a row without spread gives a uniform distribution instead of a
    division by a small number.

    Gradients flow to `student_logits` only. Inside it is float32 (float64 for float64 logits). No
    label is read: every sample counts.

    Args:
        student_logits: (B, C), C > 2. −inf masks a class; where it leaves a sample two classes,
            that sample's gradient is 0.
        teacher_logits: the same shape.
        task: `"multiclass"`.
        temperature: T > 0, the base temperature.
        sample_weight: (B,) finite and not negative. The mean divides by its sum.
        reduction: over samples, never over classes.

    Returns:
        A scalar, or (B,) for `"none"`; nats times T², at least 0; 0 where the student's logits are
        a·z_teacher + b with a > 0.

    Raises:
        ValueError: two classes, unknown option, T ≤ 0, wrong shape or dtype; a bad weight on CPU
            tensors.

    >>> z = torch.tensor([[1.0, 2.0, 4.0]])
    >>> standardized_kd_loss(5 * z - 3, z).item() < 1e-6
    True
    """
    _check_options(task, temperature, reduction)
    student, teacher = check_pair(student_logits, teacher_logits, task)
    check_width(student, "standardized_kd_loss", _VANISHES)
    weight = check_weight(sample_weight, student)
    values = soft_values(standardize(student), standardize(teacher), task, temperature)
    return reduce(values, reduction, weight)


class StandardizedKDLoss(nn.Module):
    """Module over `standardized_kd_loss`, which documents the options.

    `temperature` may be reassigned during training.
    """

    def __init__(
        self,
        *,
        task: Task = "multiclass",
        temperature: float = 2.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        _check_options(task, temperature, reduction)
        self.task: Task = task
        self.temperature = temperature
        self.reduction: Reduction = reduction

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Call `standardized_kd_loss` with this module's options."""
        return standardized_kd_loss(
            student_logits,
            teacher_logits,
            task=self.task,
            temperature=self.temperature,
            sample_weight=sample_weight,
            reduction=self.reduction,
        )

    def select(
        self, student: StudentOutput, teacher: TeacherOutput | None, batch: Batch
    ) -> dict[str, Tensor | None]:
        """Pick what `forward` reads; labels aren't needed."""
        return {
            "student_logits": student.logits,
            "teacher_logits": need_teacher(teacher, "StandardizedKDLoss").logits,
            "sample_weight": batch.sample_weight,
        }


def _check_options(task: str, temperature: float, reduction: str) -> None:
    check_many_classes(task, "standardized_kd_loss", _VANISHES)
    check_reduction(reduction)
    check_temperature(temperature)
