"""Weighted soft labels: distil where the teacher beats the student."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from coefvq.losses._contract import (
    Reduction,
    Task,
    check_pair,
    check_reduction,
    check_task,
    check_temperature,
    check_weight,
    need_teacher,
    reduce,
)
from coefvq.losses.confidence import relative
from coefvq.losses.logit_kd import soft_values

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput


def wsld_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None,
    *,
    task: Task,
    temperature: float = 2.0,
    label_mask: Tensor | None = None,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Distil each sample as strongly as the teacher beats the student on its label.

    L_i = w_i · T² · KL(p_T ‖ q_T), w_i = 1 − exp(−CE_student / CE_teacher), both cross-entropies
    at T = 1 (Zhou et al., "Rethinking soft labels for knowledge distillation: a bias–variance
    tradeoff perspective", ICLR 2021). w is `confidence.relative`, so this is `cpfd_loss` with that
    confidence and a distillation weight of 1: WSLD also asks how good the *student* is already.

    Differs from the source: KL in place of soft cross-entropy (the same gradient, and 0 at the
    teacher). The hard term and the factor 2.5 that the authors give this one are left to the
    objective's weights. Where a label is missing w is the teacher's largest probability, as for
    every confidence that needs one. Multilabel has one weight per label.

    Gradients flow to `student_logits` only, and not through w. Inside it is float32 (float64 for
    float64 logits).

    Args:
        student_logits: (B,) binary, (B, C) multiclass, (B, L) multilabel. −inf masks a class.
        teacher_logits: the same shape.
        labels: (B,) class indices for multiclass; else shaped like the logits, in [0, 1]. None: no
            sample is labelled.
        task: what the logits mean; regression has no distribution and is refused.
        temperature: T > 0, of the divergence and not of the weight.
        label_mask: (B,) bool, True where the label counts. Elsewhere it is never read.
        sample_weight: (B,) finite and not negative. The mean divides by its sum, not by that of w.
        reduction: over samples, never over classes.

    Returns:
        A scalar, or (B,) for `"none"`; nats times T², at least 0; 0 for equal distributions, and
        where the student is certain and right.

    Raises:
        ValueError: unknown option, T ≤ 0, wrong shape or dtype, and, on CPU tensors outside
            `torch.compile` only, a label out of range or NaN.

    >>> import torch  # KL(0.8 ‖ 0.5) · (1 − exp(−log 0.5 / log 0.8))
    >>> z = torch.zeros(1), torch.tensor([4.0]).log(), torch.ones(1)
    >>> round(wsld_loss(*z, task="binary", temperature=1.0).item(), 4)
    0.1841
    """
    _check_options(task, temperature, reduction)
    student, teacher = check_pair(student_logits, teacher_logits, task)
    weight = check_weight(sample_weight, student)
    beaten = relative(student, teacher, labels, task=task, label_mask=label_mask)
    soft = soft_values(student, teacher, task, temperature, weight=beaten)
    return reduce(soft, reduction, weight)


class WSLDLoss(nn.Module):
    """Module over `wsld_loss`, which documents the options. `temperature` may be reassigned."""

    def __init__(
        self, *, task: Task, temperature: float = 2.0, reduction: Reduction = "mean"
    ) -> None:
        super().__init__()
        _check_options(task, temperature, reduction)
        self.task: Task = task
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
        """Call `wsld_loss` with this module's options."""
        return wsld_loss(
            student_logits,
            teacher_logits,
            labels,
            task=self.task,
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
            "teacher_logits": need_teacher(teacher, "WSLDLoss").logits,
            "labels": batch.labels,
            "label_mask": batch.label_mask,
            "sample_weight": batch.sample_weight,
        }


def _check_options(task: str, temperature: float, reduction: str) -> None:
    check_task(task)
    check_reduction(reduction)
    check_temperature(temperature)
