"""Privileged feature distillation: hard and soft term, one weight for all samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor, nn

from coefvq.losses._contract import (
    Reduction,
    Task,
    check_labels,
    check_pair,
    check_reduction,
    check_task,
    check_temperature,
    check_unit,
    check_weight,
    need_teacher,
    reduce,
)
from coefvq.losses._hard import hard_values
from coefvq.losses.logit_kd import soft_values

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput


def mixture(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    label_mask: Tensor | None,
    sample_weight: Tensor | None,
    *,
    task: str,
    temperature: float,
    hard_share: float,
    soft_share: float,
    hard_weight: Tensor | None = None,
    soft_weight: Tensor | Callable[[Tensor], Tensor] | None = None,
    reduction: str,
) -> Tensor:
    """h·hard + d·T²·soft on checked inputs, h and d shares times weights (B,) or (B, L), if any.

    `soft_weight` may be a function of the hard term (B,).
    """
    hard = hard_values(student, labels, task, weight=hard_weight)
    if callable(soft_weight):
        soft_weight = soft_weight(hard)
    hard = hard_share * hard
    soft = soft_share * soft_values(student, teacher, task, temperature, weight=soft_weight)
    return reduce(hard, reduction, sample_weight, label_mask) + reduce(
        soft, reduction, sample_weight
    )


def pfd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None,
    *,
    task: Task,
    distill_weight: float = 0.5,
    temperature: float = 1.0,
    label_mask: Tensor | None = None,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Learn from labels and from a teacher that saw privileged features, in a fixed mixture.

    L_i = (1 − λ) · hard_i + λ · T² · soft_i  (Xu et al., "Privileged Features Distillation at
    Taobao Recommendations", KDD 2020, who write (1−λ)·L_s + λ·L_d), hard as in `supervised_loss`,
    soft as in `logit_kd_loss`.

    Differs from the source: the teacher is given and frozen, not trained along; temperature and
    T² come from Hinton et al. (2015); labels may be missing, and then the hard term is the mean
    over the labelled samples, the soft term the mean over all, each divided by its own count.

    Gradients flow to `student_logits` only, and are differentiable once. Inside it is float32
    (float64 for float64 logits).

    Args:
        student_logits: (B,) binary, (B, C) multiclass, (B, L) multilabel. −inf masks a class.
        teacher_logits: the same shape.
        labels: (B,) class indices for multiclass; else shaped like the logits, in [0, 1]. None: no
            sample is labelled, and the hard term is 0.
        task: what the logits mean; regression has no distribution and is refused.
        distill_weight: λ in [0, 1]. 0 is `supervised_loss`, 1 is `logit_kd_loss`, to the bit.
        temperature: T > 0, of the soft term only.
        label_mask: (B,) bool, True where the label counts. Elsewhere it is never read.
        sample_weight: (B,) finite and not negative, for both terms; each mean divides by the sum
            of the weights that it summed over.
        reduction: over samples, never over classes. `"none"` gives the per-sample sum, the hard
            part 0 where unlabelled.

    Returns:
        A scalar, or (B,) for `"none"`; nats, at least 0; 0 where the student is certain, right and
        equal to the teacher (or, at λ = 1, just equal to it).

    Raises:
        ValueError: unknown option, λ outside [0, 1], T ≤ 0, wrong shape or dtype, and, on CPU
            tensors outside `torch.compile` only, a label out of range or NaN.

    >>> import torch  # 0.5 · log 2 + 0.5 · KL(0.8 ‖ 0.5)
    >>> z = torch.zeros(1), torch.tensor([4.0]).log(), torch.ones(1)
    >>> round(pfd_loss(*z, task="binary", distill_weight=0.5).item(), 4)
    0.4429
    """
    _check_options(task, distill_weight, temperature, reduction)
    student, teacher = check_pair(student_logits, teacher_logits, task)
    safe, label_mask = check_labels(labels, label_mask, student, task)
    return mixture(
        student,
        teacher,
        safe,
        label_mask,
        check_weight(sample_weight, student),
        task=task,
        temperature=temperature,
        hard_share=1 - distill_weight,
        soft_share=distill_weight,
        reduction=reduction,
    )


class PFDLoss(nn.Module):
    """Module over `pfd_loss`, which documents the options.

    `distill_weight` and `temperature` are plain attributes and may be reassigned during training.
    """

    def __init__(
        self,
        *,
        task: Task,
        distill_weight: float = 0.5,
        temperature: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        _check_options(task, distill_weight, temperature, reduction)
        self.task: Task = task
        self.distill_weight = distill_weight
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
        """Call `pfd_loss` with this module's options."""
        return pfd_loss(
            student_logits,
            teacher_logits,
            labels,
            task=self.task,
            distill_weight=self.distill_weight,
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
            "teacher_logits": need_teacher(teacher, "PFDLoss").logits,
            "labels": batch.labels,
            "label_mask": batch.label_mask,
            "sample_weight": batch.sample_weight,
        }


def _check_options(task: str, distill_weight: float, temperature: float, reduction: str) -> None:
    check_task(task)
    check_reduction(reduction)
    check_unit("distill_weight", distill_weight)
    check_temperature(temperature)
