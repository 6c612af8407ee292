"""The soft term: the teacher's whole distribution as a target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from coefvq.losses._contract import (
    IMPOSSIBLE,
    Reduction,
    Task,
    check_pair,
    check_reduction,
    check_task,
    check_temperature,
    check_weight,
    need_teacher,
    per_sample,
    reduce,
)

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput


def soft_elements(student: Tensor, teacher: Tensor, task: str, temperature: float) -> Tensor:
    """T²·KL of each decision, (B,) or (B, L), on checked inputs; a smaller part of the losses."""
    if temperature != 1:  # dividing by 1 changes no bit and costs a pass
        student, teacher = student / temperature, teacher / temperature
    if task == "multiclass":
        # The floor turns 0 * inf of a masked class into 0 * 1e30, and its gradient into 0.
        log_student = F.log_softmax(student, -1).clamp_min(-IMPOSSIBLE)
        log_teacher = F.log_softmax(teacher, -1).clamp_min(-IMPOSSIBLE)
        divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(-1)
    else:
        student, teacher = (z.clamp(-IMPOSSIBLE, IMPOSSIBLE) for z in (student, teacher))
        yes = teacher.sigmoid() * (F.logsigmoid(teacher) - F.logsigmoid(student))
        no = (-teacher).sigmoid() * (F.logsigmoid(-teacher) - F.logsigmoid(-student))
        divergence = yes + no
    return temperature**2 * divergence


def logit_kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    task: Task,
    temperature: float = 1.0,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Pull the student's softened distribution towards the teacher's.

    L_i = T² · KL(p_T ‖ q_T), p_T = softmax(z_teacher / T), q_T = softmax(z_student / T)
    (Hinton, Vinyals and Dean, 2015, section 2, which also gives the factor T²). Binary: the same
    KL between Bernoulli distributions, equal to two classes with logits (0, z). Multilabel: its
    mean over the L labels, as the hard term has it, so that both keep one scale.

    Differs from Hinton's soft cross-entropy by the teacher's entropy, a constant: the gradient is
    the same and the loss is 0 where the student equals the teacher. Summed over classes, so classes
    masked by −inf in both logits change nothing.

    Gradients flow to `student_logits` only. Inside it is float32 (float64 for float64 logits).
    No label is read: every sample counts.

    Args:
        student_logits: (B,) binary, (B, C) multiclass, (B, L) multilabel. −inf masks a class.
        teacher_logits: the same shape.
        task: what the logits mean; regression has no distribution and is refused.
        temperature: T > 0.
        sample_weight: (B,) finite and not negative. The mean divides by its sum.
        reduction: over samples, never over classes.

    Returns:
        A scalar, or (B,) for `"none"`; nats times T², at least 0; 0 for equal distributions. What
        the teacher gives to a class that only the student masks costs 1e30 per unit of mass.

    Raises:
        ValueError: unknown option, T ≤ 0, wrong shape or dtype; a bad weight on CPU tensors.

    >>> import torch  # the teacher says 0.8, the student 0.5
    >>> round(logit_kd_loss(torch.zeros(1), torch.tensor([4.0]).log(), task="binary").item(), 4)
    0.1927
    """
    check_task(task)
    check_reduction(reduction)
    check_temperature(temperature)
    student, teacher = check_pair(student_logits, teacher_logits, task)
    weight = check_weight(sample_weight, student)
    return reduce(per_sample(soft_elements(student, teacher, task, temperature)), reduction, weight)


class LogitKDLoss(nn.Module):
    """Module over `logit_kd_loss`, which documents the options. `temperature` may be reassigned."""

    def __init__(
        self, *, task: Task, temperature: float = 1.0, reduction: Reduction = "mean"
    ) -> None:
        super().__init__()
        check_task(task)
        check_reduction(reduction)
        check_temperature(temperature)
        self.task: Task = task
        self.temperature = temperature
        self.reduction: Reduction = reduction

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Call `logit_kd_loss` with this module's options."""
        return logit_kd_loss(
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
            "teacher_logits": need_teacher(teacher, "LogitKDLoss").logits,
            "sample_weight": batch.sample_weight,
        }
