"""Normalised distillation: the label as far as the teacher gives it, the other classes apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coefvq.losses._contract import (
    IMPOSSIBLE,
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


def nkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None,
    *,
    task: Task = "multiclass",
    gamma: float = 1.5,
    temperature: float = 1.0,
    label_mask: Tensor | None = None,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Trust the label as far as the teacher does, and learn how it ranks the other classes.

    L_i = −p[y] · log q[y] + γ · T² · KL(p̂_T ‖ q̂_T) (Yang et al., "From knowledge distillation to
    self-knowledge distillation", ICCV 2023, equation 8): p[y] at T = 1, and p̂, q̂ are softmaxes over
    the classes other than the label.

    Differs from the source: the second part is a divergence and not a cross-entropy, which takes
    away a constant and leaves the gradient; labels may be missing. A sample without one contributes
    γ · T² · KL(p_T ‖ q_T), in which no class is set apart. The first part is a label's loss, so the
    whole is *not* 0 where the student equals the teacher.

    Gradients flow to `student_logits` only, and are differentiable once. Inside it is float32
    (float64 for float64 logits).

    Args:
        student_logits: (B, C), C > 2. −inf masks a class.
        teacher_logits: the same shape.
        labels: (B,) class indices. None: no sample is labelled.
        task: `"multiclass"`.
        gamma: γ ≥ 0, of the others' part.
        temperature: T > 0, of the others' part.
        label_mask: (B,) bool, True where the label counts. Elsewhere it is never read.
        sample_weight: (B,) finite and not negative. The mean divides by its sum.
        reduction: over samples, never over classes.

    Returns:
        A scalar, or (B,) for `"none"`; nats, at least 0; 0 where the student is sure of the label
        and ranks the others as the teacher does.

    Raises:
        ValueError: two classes, unknown option, a negative weight, T ≤ 0, wrong shape or dtype, and
            on CPU tensors outside `torch.compile` only, a label out of range.

    >>> teacher = torch.tensor([[0.5, 0.3, 0.2]]).log()  # label 0: ½ log 3, and p̂ = (0.6, 0.4)
    >>> round(nkd_loss(torch.zeros(1, 3), teacher, torch.tensor([0]), gamma=1.0).item(), 4)
    0.5694
    """
    _check_options(task, gamma, temperature, reduction)
    student, teacher = check_pair(student_logits, teacher_logits, task)
    check_width(student, "nkd_loss", _VANISHES)
    safe, mask = check_labels(labels, label_mask, student, task)
    weight = check_weight(sample_weight, student)
    trusted = teacher.softmax(-1).gather(-1, safe[:, None])[:, 0]
    own = trusted * F.cross_entropy(student, safe, reduction="none").clamp_max(IMPOSSIBLE)
    wanted = wants_gradient(student)
    others, gradient = apart(student, teacher, safe, temperature, 0.0, 1.0, wanted)
    others = temperature * others  # twice around: the gradient is with respect to z / T
    if gradient is not None:
        others = with_gradient(student, others, gradient)
    values = own + gamma * temperature * others
    if mask is not None:
        plain = gamma * soft_values(student, teacher, task, temperature)
        values = torch.where(mask, values, plain)
    return reduce(values, reduction, weight)


class NKDLoss(nn.Module):
    """Module over `nkd_loss`, which documents the options.

    `gamma` and `temperature` may be reassigned during training.
    """

    def __init__(
        self,
        *,
        task: Task = "multiclass",
        gamma: float = 1.5,
        temperature: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        _check_options(task, gamma, temperature, reduction)
        self.task: Task = task
        self.gamma = gamma
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
        """Call `nkd_loss` with this module's options."""
        return nkd_loss(
            student_logits,
            teacher_logits,
            labels,
            task=self.task,
            gamma=self.gamma,
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
            "teacher_logits": need_teacher(teacher, "NKDLoss").logits,
            "labels": batch.labels,
            "label_mask": batch.label_mask,
            "sample_weight": batch.sample_weight,
        }


def _check_options(task: str, gamma: float, temperature: float, reduction: str) -> None:
    check_many_classes(task, "nkd_loss", _VANISHES)
    check_reduction(reduction)
    check_not_negative("gamma", gamma)
    check_temperature(temperature)
