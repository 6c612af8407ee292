"""Decoupled distillation: how sure the teacher is, and how it ranks the other classes, apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn

from coefvq.losses._contract import (
    Reduction,
    Task,
    check_labels,
    check_pair,
    check_reduction,
    check_temperature,
    check_weight,
    need_teacher,
    reduce,
)
from coefvq.losses._known_gradient import wants_gradient, with_gradient
from coefvq.losses._numbers import check_not_negative
from coefvq.losses._target import apart, check_many_classes, check_width
from coefvq.losses.logit_kd import soft_values

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput

_VANISHES: Final = "there is one other class, whose part is always 0"


def dkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None,
    *,
    task: Task = "multiclass",
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    label_mask: Tensor | None = None,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Distil the label's probability and the ranking of other classes with weights of their own.

    L_i = T² · (α · KL(b_p ‖ b_q) + β · KL(p̂ ‖ q̂)) (Zhao et al., "Decoupled knowledge distillation",
    CVPR 2022, equation 7): b = (p[y], 1 − p[y]), and p̂, q̂ are softmaxes over the classes other than
    the label. Plain distillation is α = 1, β = 1 − p[y]: it forgets the others where the teacher is
    sure.

    Differs from the source: labels may be missing. A sample without one contributes the plain
    T² · KL(p ‖ q), in which no class is set apart. The authors' warm-up over the first epochs is a
    schedule of the term's weight.

    Gradients flow to `student_logits` only, and are differentiable once. Inside it is float32
    (float64 for float64 logits).

    Args:
        student_logits: (B, C), C > 2. −inf masks a class.
        teacher_logits: the same shape.
        labels: (B,) class indices. None: no sample is labelled.
        task: `"multiclass"`.
        alpha: α ≥ 0, of the label's part.
        beta: β ≥ 0, of the others' part.
        temperature: T > 0.
        label_mask: (B,) bool, True where the label counts. Elsewhere it is never read.
        sample_weight: (B,) finite and not negative. The mean divides by its sum.
        reduction: over samples, never over classes.

    Returns:
        A scalar, or (B,) for `"none"`; nats times T², at least 0; 0 for equal distributions.

    Raises:
        ValueError: two classes, unknown option, a negative weight, T ≤ 0, wrong shape or dtype, and
            on CPU tensors outside `torch.compile` only, a label out of range.

    >>> teacher = torch.tensor([[0.5, 0.3, 0.2]]).log()  # label 0: b_p = (½, ½), p̂ = (0.6, 0.4)
    >>> y = torch.tensor([0])
    >>> round(dkd_loss(torch.zeros(1, 3), teacher, y, beta=1.0, temperature=1.0).item(), 4)
    0.079
    """
    _check_options(task, alpha, beta, temperature, reduction)
    student, teacher = check_pair(student_logits, teacher_logits, task)
    check_width(student, "dkd_loss", _VANISHES)
    safe, mask = check_labels(labels, label_mask, student, task)
    weight = check_weight(sample_weight, student)
    wanted = wants_gradient(student)
    values, gradient = apart(student, teacher, safe, temperature, alpha, beta, wanted)
    values = temperature * values  # twice around: the gradient is with respect to z / T
    if gradient is not None:
        values = with_gradient(student, values, gradient)
    values = temperature * values
    if mask is not None:
        plain = soft_values(student, teacher, task, temperature)
        values = torch.where(mask, values, plain)
    return reduce(values, reduction, weight)


class DKDLoss(nn.Module):
    """Module over `dkd_loss`, which documents the options.

    `alpha`, `beta` and `temperature` may be reassigned during training.
    """

    def __init__(
        self,
        *,
        task: Task = "multiclass",
        alpha: float = 1.0,
        beta: float = 8.0,
        temperature: float = 4.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        _check_options(task, alpha, beta, temperature, reduction)
        self.task: Task = task
        self.alpha = alpha
        self.beta = beta
        self.temperature = temperature
        self.reduction: Reduction = reduction

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None,
        label_mask: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """Call `dkd_loss` with this module's options."""
        return dkd_loss(
            student_logits,
            teacher_logits,
            labels,
            task=self.task,
            alpha=self.alpha,
            beta=self.beta,
            temperature=self.temperature,
            label_mask=label_mask,
            sample_weight=sample_weight,
            reduction=self.reduction,
        )

    def select(
        self, student: StudentOutput, teacher: TeacherOutput | None, batch: Batch
    ) -> dict[str, Tensor | None]:
        """Pick what `forward` reads."""
        return {
            "student_logits": student.logits,
            "teacher_logits": need_teacher(teacher, "DKDLoss").logits,
            "labels": batch.labels,
            "label_mask": batch.label_mask,
            "sample_weight": batch.sample_weight,
        }


def _check_options(
    task: str, alpha: float, beta: float, temperature: float, reduction: str
) -> None:
    check_many_classes(task, "dkd_loss", _VANISHES)
    check_reduction(reduction)
    check_not_negative("alpha", alpha)
    check_not_negative("beta", beta)
    check_temperature(temperature)
