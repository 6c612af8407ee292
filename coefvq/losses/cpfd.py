"""Confidence-aware privileged feature distillation: PFD with one weight per sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, get_args

from torch import Tensor, nn

from coefvq.losses._contract import (
    Reduction,
    Task,
    check_choice,
    check_labels,
    check_pair,
    check_reduction,
    check_task,
    check_temperature,
    check_unit,
    check_weight,
    need_teacher,
)
from coefvq.losses._trust import check_trust
from coefvq.losses.confidence import ConfidenceFunction, by_name, true_probability
from coefvq.losses.pfd import mixture

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput

HardWeight = Literal["fixed", "complement"]
_HARD_WEIGHTS: Final[tuple[str, ...]] = get_args(HardWeight)


def cpfd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None,
    *,
    task: Task,
    distill_weight: float = 0.5,
    temperature: float = 1.0,
    confidence: ConfidenceFunction | str = true_probability,
    hard_weight: HardWeight = "fixed",
    label_mask: Tensor | None = None,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Mix labels and teacher sample by sample, trusting the teacher where it is confident.

    L_i = h_i · hard_i + λ · c_i · T² · soft_i, with h_i = 1 − λ ("fixed") or 1 − λ·c_i
    ("complement"). A *reconstruction*: the readable text of CPFD (arXiv 2410.03038, CIKM 2024)
    says that a confidence taken from the teacher weights each sample's distillation; formula,
    temperature and the meaning of confidence are open, hence arguments here.

    Differs from `pfd_loss` by c_i alone: with c = 1 it is `pfd_loss` to the bit, for both hard
    weights. The soft mean still divides by the number (or weight) of samples, not by the sum of
    confidences: a doubtful teacher weakens the whole term, unless the confidence is normalised.

    Gradients flow to `student_logits` only, and are differentiable once; the confidence is
    detached and made at T = 1. Inside it is float32 (float64 for float64 logits).

    Args:
        student_logits: (B,) binary, (B, C) multiclass, (B, L) multilabel. −inf masks a class.
        teacher_logits: the same shape.
        labels: (B,) class indices for multiclass; else shaped like the logits, in [0, 1]. None: no
            sample is labelled, and the hard term is 0.
        task: what the logits mean; regression has no distribution and is refused.
        distill_weight: λ in [0, 1]. 0 is `supervised_loss` to the bit.
        temperature: T > 0, of the soft term only.
        confidence: a function of `coefvq.losses.confidence` or its name, a `Confidence` with
            options, or your own `f(student_logits, teacher_logits, labels, *, task, label_mask)`
            that returns (B,), for multilabel (B, L) or (B,), finite and not negative.
        hard_weight: whether a distrusted teacher leaves the hard term alone ("fixed") or hands its
            share to it ("complement", kept at 0 or above where normalised c exceed 1/λ).
        label_mask: (B,) bool, True where the label counts. Elsewhere it is never read.
        sample_weight: (B,) finite and not negative, for both terms; each mean divides by the sum
            of the weights that it summed over.
        reduction: over samples, never over classes. `"none"` gives the per-sample sum, the hard
            part 0 where unlabelled.

    Returns:
        A scalar, or (B,) for `"none"`; nats, at least 0; 0 where the student is certain, right and
        equal to the teacher.

    Raises:
        ValueError: unknown option, λ outside [0, 1], T ≤ 0, wrong shape or dtype, and, on CPU
            tensors outside `torch.compile` only, a label out of range or NaN.

    >>> import torch
    >>> z = torch.zeros(1), torch.tensor([4.0]).log(), torch.ones(1)  # c = 0.8
    >>> round(cpfd_loss(*z, task="binary", distill_weight=0.5).item(), 4)
    0.4237
    """
    _check_options(task, distill_weight, temperature, hard_weight, reduction)
    student, teacher = check_pair(student_logits, teacher_logits, task)
    safe, label_mask = check_labels(labels, label_mask, student, task)
    function = by_name(confidence)
    trust = function(student.detach(), teacher, safe, task=task, label_mask=label_mask)
    trust = check_trust(trust, student.detach(), teacher, task).to(student.dtype)
    share, rest = 1 - distill_weight, None
    if hard_weight == "complement":
        # (1 - λ) + λ(1 - c) is 1 - λc in the one order of rounding that meets PFD at c = 1.
        rest = (share + distill_weight * (1 - trust)).clamp_min(0.0)
        if share > 0:
            rest = rest / share
        else:
            share = 1.0
    return mixture(
        student,
        teacher,
        safe,
        label_mask,
        check_weight(sample_weight, student),
        task=task,
        temperature=temperature,
        hard_share=share,
        soft_share=distill_weight,
        hard_weight=rest,
        soft_weight=trust,
        reduction=reduction,
    )


class CPFDLoss(nn.Module):
    """Module over `cpfd_loss`, which documents the options.

    `distill_weight`, `temperature` and `confidence` are plain attributes and may be reassigned
    during training.
    """

    def __init__(
        self,
        *,
        task: Task,
        distill_weight: float = 0.5,
        temperature: float = 1.0,
        confidence: ConfidenceFunction | str = true_probability,
        hard_weight: HardWeight = "fixed",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        _check_options(task, distill_weight, temperature, hard_weight, reduction)
        self.task: Task = task
        self.distill_weight = distill_weight
        self.temperature = temperature
        self.confidence: ConfidenceFunction | str = by_name(confidence)
        self.hard_weight: HardWeight = hard_weight
        self.reduction: Reduction = reduction

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None,
        label_mask: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """Call `cpfd_loss` with this module's options."""
        return cpfd_loss(
            student_logits,
            teacher_logits,
            labels,
            task=self.task,
            distill_weight=self.distill_weight,
            temperature=self.temperature,
            confidence=self.confidence,
            hard_weight=self.hard_weight,
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
            "teacher_logits": need_teacher(teacher, "CPFDLoss").logits,
            "labels": batch.labels,
            "label_mask": batch.label_mask,
            "sample_weight": batch.sample_weight,
        }


def _check_options(
    task: str, distill_weight: float, temperature: float, hard_weight: str, reduction: str
) -> None:
    check_task(task)
    check_choice("hard_weight", hard_weight, _HARD_WEIGHTS)
    check_reduction(reduction)
    check_unit("distill_weight", distill_weight)
    check_temperature(temperature)
