"""Level distillation: the whole distribution over "excellent" to "bad", not just its mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from coefvq.losses._arguments import check_tensor
from coefvq.losses._contract import (
    Reduction,
    check_reduction,
    check_temperature,
    need_teacher,
)
from coefvq.losses.logit_kd import logit_kd_loss

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput


def level_kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 1.0,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Pull the student's distribution over quality levels towards the teacher's.

    L_i = T² · KL(p_T ‖ q_T), p and q the softmax over the logits of the level words alone, for
    instance excellent, good, fair, poor, bad (levels: Wu et al., "Q-Align", 2023; the loss:
    Hinton, Vinyals and Dean, 2015). It is `logit_kd_loss(task="multiclass")` to the bit, under the
    name that a quality run looks for; what it adds is what its input means.

    A language model's teacher gives a logit per *vocabulary* entry: pick those of the level words'
    tokens, in the order of the student's head, and nothing else. What the model gave to other
    words is then no longer part of the distribution, which is what makes a student with a small
    head its equal.

    The expected score Σ_k p_k · v_k (v = 1, ¾, ½, ¼, 0 for five levels) is equal where the
    distributions are; the reverse is not true, since "fair" and half "good", half "poor" have one
    score. So this hands on the teacher's doubt, which `score_kd_loss` on the expected score does
    not. It does not know that levels are ordered: to miss by one costs what it costs to miss by
    three.

    Gradients flow to `student_logits` only. Inside it is float32 (float64 for float64 logits).
    No label is read: every sample counts.

    Args:
        student_logits: (B, levels), at least two levels. −inf masks a level.
        teacher_logits: the same shape, levels in the same order.
        temperature: T > 0.
        sample_weight: (B,) finite and not negative. The mean divides by its sum.
        reduction: over samples, never over levels.

    Returns:
        A scalar, or (B,) for `"none"`; nats times T², at least 0; 0 for equal distributions.

    Raises:
        ValueError: unknown option, T ≤ 0, wrong shape or dtype; a bad weight on CPU tensors.

    >>> import torch  # the student has no idea; the teacher wavers between two of four: log 2
    >>> teacher = torch.tensor([[0.0, 0.0, -torch.inf, -torch.inf]])
    >>> round(level_kd_loss(torch.zeros(1, 4), teacher).item(), 4)
    0.6931
    """
    _check_options(temperature, reduction)
    check_tensor("student_logits", student_logits)
    check_tensor("teacher_logits", teacher_logits)
    if student_logits.shape != teacher_logits.shape or student_logits.ndim != 2:
        raise ValueError(
            f"student_logits have shape {tuple(student_logits.shape)} and teacher_logits "
            f"{tuple(teacher_logits.shape)}; both are expected to be (B, levels), one logit per "
            "level word; pick those of the teacher's vocabulary"
        )
    if student_logits.shape[1] < 2:
        raise ValueError(
            f"student_logits and teacher_logits have {student_logits.shape[1]} level; two or more "
            "are expected, since one has nothing to be distributed over; give a student with "
            "levels, or distil the score (score_kd_loss)"
        )
    return logit_kd_loss(
        student_logits,
        teacher_logits,
        task="multiclass",
        temperature=temperature,
        sample_weight=sample_weight,
        reduction=reduction,
    )


class LevelKDLoss(nn.Module):
    """Module over `level_kd_loss`, which documents the options. `temperature` may be reassigned."""

    def __init__(self, *, temperature: float = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        _check_options(temperature, reduction)
        self.temperature = temperature
        self.reduction: Reduction = reduction

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Call `level_kd_loss` with this module's options."""
        return level_kd_loss(
            student_logits,
            teacher_logits,
            temperature=self.temperature,
            sample_weight=sample_weight,
            reduction=self.reduction,
        )

    def select(
        self, student: StudentOutput, teacher: TeacherOutput | None, batch: Batch
    ) -> dict[str, Tensor | None]:
        """Pick what `forward` reads; labels aren't needed.

        `level_logits` where both have them; otherwise the logits are those of the levels.
        """
        found = need_teacher(teacher, "LevelKDLoss")
        ours, theirs = (getattr(side, "level_logits", None) for side in (student, found))
        both = ours is not None and theirs is not None
        return {
            "student_logits": ours if both else student.logits,
            "teacher_logits": theirs if both else found.logits,
            "sample_weight": batch.sample_weight,
        }


def _check_options(temperature: float, reduction: str) -> None:
    check_reduction(reduction)
    check_temperature(temperature)
