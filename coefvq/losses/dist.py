"""DIST: keep the teacher's relations between classes and between samples, not its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
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
from coefvq.losses._numbers import check_not_negative

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput


def dist_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    task: Task,
    inter_weight: float = 1.0,
    intra_weight: float = 1.0,
    temperature: float = 1.0,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Let the student's probabilities rank classes, and samples, as the teacher's do.

    L = T² · (β · mean_i (1 − ρ_i) + γ · mean_c (1 − ρ_c)), ρ_i Pearson's correlation between the
    softened probabilities of sample i over its classes (inter-class), ρ_c that of class c over the
    samples of the batch (intra-class) (Huang et al., "Knowledge distillation from a stronger
    teacher", NeurIPS 2022; T² as in the authors' code). Multilabel: the same with σ(z/T), over
    labels and per label.

    Two numbers always correlate by ±1, and their correlation has no gradient. Hence the
    inter-class part vanishes for two classes (binary, C = 2, L = 2) and is refused there, and the
    intra-class part vanishes for a batch of two and cannot be had for a batch of one.

    Differs from the source: where the teacher does not vary at all (a uniform row, a class that
    nobody may be) there is no relation to keep, and the row or column is left out of the mean, so
    that the loss is 0 for student = teacher; where only the student does not vary, ρ is 0, without
    gradient. Classes masked by −inf in both are left out. `sample_weight` weights the samples in
    both parts, within ρ_c too: weight 0 is as good as absent.

    Gradients flow to `student_logits` only. Inside it is float32 (float64 for float64 logits). No
    label is read. The intra-class part depends on who is in the batch together, and under DDP
    each process correlates its own samples.

    Args:
        student_logits: (B,) binary, (B, C) multiclass, (B, L) multilabel. −inf masks a class.
        teacher_logits: the same shape.
        task: what the logits mean; regression has no distribution and is refused.
        inter_weight: β from 0, of the inter-class part; must be 0 for two classes.
        intra_weight: γ from 0, of the intra-class part.
        temperature: T > 0.
        sample_weight: (B,) finite and not negative.
        reduction: `"mean"`. The intra-class part has one number per class and none per sample, so
            `"none"` and `"sum"` need `intra_weight=0`.

    Returns:
        A scalar, or (B,) for `"none"`; no unit, between 0 and 2 T² (β + γ); 0 where the student's
        probabilities are an increasing linear function of the teacher's.

    Raises:
        ValueError: unknown option, a weight below 0, T ≤ 0, wrong shape or dtype, two classes, a
            batch of one, a reduction as above; a bad sample weight on CPU tensors.

    >>> import torch  # one sample: the order of three classes is turned round, ρ = −1
    >>> up, down = torch.tensor([[1.0, 2.0, 3.0]]).log(), torch.tensor([[3.0, 2.0, 1.0]]).log()
    >>> round(dist_loss(up, down, task="multiclass", intra_weight=0.0).item(), 4)
    2.0
    """
    _check_options(task, inter_weight, intra_weight, temperature, reduction)
    student, teacher = check_pair(student_logits, teacher_logits, task)
    weight = check_weight(sample_weight, student)
    if task == "binary":
        student, teacher = student[:, None], teacher[:, None]
    samples, classes = student.shape
    if inter_weight > 0 and classes < 3:
        raise ValueError(
            f"the inter-class part of DIST needs at least three classes, got {classes}: two "
            "numbers always correlate by ±1, without gradient; set inter_weight=0 to keep the "
            "intra-class part, or use logit_kd_loss"
        )
    if intra_weight > 0 and samples < 2:
        raise ValueError(
            f"the intra-class part of DIST correlates over the batch, got {samples} sample; use "
            "batches of more than one (drop_last=True), or intra_weight=0"
        )
    possible = (student > -torch.inf) | (teacher > -torch.inf)
    if task == "multiclass":
        q, p = ((z / temperature).softmax(-1) for z in (student, teacher))
    else:
        q, p = ((z / temperature).sigmoid() for z in (student, teacher))
    total = student.new_zeros(samples if reduction == "none" else ())
    if inter_weight > 0:
        distance, varies = _distance(q, p, possible, None, -1)
        total = total + inter_weight * reduce(distance, reduction, weight, varies)
    if intra_weight > 0:
        distance, varies = _distance(q, p, possible, weight, 0)
        total = total + intra_weight * reduce(distance, "mean", None, varies)
    return temperature**2 * total


class DISTLoss(nn.Module):
    """Module over `dist_loss`, which documents the options.

    `inter_weight`, `intra_weight` and `temperature` may be reassigned during training.
    """

    def __init__(
        self,
        *,
        task: Task,
        inter_weight: float = 1.0,
        intra_weight: float = 1.0,
        temperature: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        _check_options(task, inter_weight, intra_weight, temperature, reduction)
        self.task: Task = task
        self.inter_weight = inter_weight
        self.intra_weight = intra_weight
        self.temperature = temperature
        self.reduction: Reduction = reduction

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Call `dist_loss` with this module's options."""
        return dist_loss(
            student_logits,
            teacher_logits,
            task=self.task,
            inter_weight=self.inter_weight,
            intra_weight=self.intra_weight,
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
            "teacher_logits": need_teacher(teacher, "DISTLoss").logits,
            "sample_weight": batch.sample_weight,
        }


def _distance(
    q: Tensor, p: Tensor, possible: Tensor, weight: Tensor | None, dim: int
) -> tuple[Tensor, Tensor]:
    """1 − ρ between q and p along a dimension, and where p varies (elsewhere it means nothing)."""
    if weight is not None:
        weight = weight[:, None]
        possible = possible & (weight > 0)
    total = (
        possible.sum(dim, keepdim=True, dtype=q.dtype)
        if weight is None
        else ((weight * possible).sum(dim, keepdim=True))
    )
    total = torch.where(total > 0, total, 1.0)
    a, b = (_centred(values, possible, weight, total, dim) for values in (q, p))
    left, right = (a, b) if weight is None else (a * weight, b * weight)
    aa, ab, bb = (left * a).sum(dim), (left * b).sum(dim), (right * b).sum(dim)
    # What rounding makes of equal numbers, of which the largest is 1.
    noise = total.squeeze(dim) * (16 * torch.finfo(q.dtype).eps) ** 2
    varies = bb > noise
    both = varies & (aa > noise)
    correlation = ab / torch.where(both, aa * bb, 1.0).sqrt()
    return 1 - torch.where(both, correlation, 0.0).clamp_max(1.0), varies


def _centred(
    values: Tensor, possible: Tensor, weight: Tensor | None, total: Tensor, dim: int
) -> Tensor:
    """Values around their mean, 0 where not possible, in a scale whose squares can't underflow."""
    if weight is not None:
        values = torch.where(possible, values, 0.0)
    scale = 1 / values.detach().amax(dim, keepdim=True).clamp_min(1e-30)
    mean = (values if weight is None else weight * values).sum(dim, keepdim=True) / total
    return torch.where(possible, (values - mean) * scale, 0.0)


def _check_options(
    task: str, inter_weight: float, intra_weight: float, temperature: float, reduction: str
) -> None:
    check_task(task)
    check_reduction(reduction)
    check_temperature(temperature)
    check_not_negative("inter_weight", inter_weight)
    check_not_negative("intra_weight", intra_weight)
    if task == "binary" and inter_weight > 0:
        raise ValueError(
            "the inter-class part of DIST vanishes for task 'binary': p and 1 − p always correlate "
            "by ±1, without gradient; set inter_weight=0 to keep the intra-class part, or use "
            "logit_kd_loss"
        )
    if reduction != "mean" and intra_weight > 0:
        raise ValueError(
            f"reduction {reduction!r} has no meaning for the intra-class part of DIST, one number "
            "per class over the whole batch; use 'mean', or intra_weight=0"
        )
