"""Similarity-preserving distillation: clips alike to the teacher are alike to the student."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from coefvq.losses._contract import Reduction, check_reduction, check_weight, reduce
from coefvq.losses._features import (
    check_enough,
    check_features,
    need_features,
    rows_of_all_ranks,
    unit,
    without_autocast,
)

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput


def similarity_preserving_loss(
    student_features: Tensor,
    teacher_features: Tensor,
    *,
    gather: bool = True,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Match the batch's table of similarities, row by row.

    L = |G − H|² / B², G the student's Gram matrix F Fᵀ with each row divided by its length, H the
    teacher's, |·| Frobenius (Tung and Mori, "Similarity-preserving knowledge distillation", ICCV
    2019, equations 1 to 4). A sample's own value is its row's, |G_i − H_i|² / B, and L their mean.
    Every row has length 1, so L falls as 1 / B: the source weights it by 3000.

    Differs from the source by sample weights: lengths and squares count a partner by its weight,
    as if it were there that often, and B counts the samples whose weight is above 0, so that the
    others are as good as absent.

    Gradients flow to `student_features` only. Inside it is float32 (float64 for float64 features).
    No label is read. Relations cannot be cut into micro-batches: gradients accumulated over two
    halves lack the relations between them.

    Args:
        student_features: (B, D), pooled or flattened.
        teacher_features: (B, D), of any width.
        gather: relate to the rows of all ranks where several processes train. All ranks must call
            it equally often, or none returns.
        sample_weight: (B,) finite and not negative.
        reduction: over samples, which here are rows; inside a row it is over all partners.

    Returns:
        A scalar, or (B,) for `"none"`; from 0 to 4 / B, 0 where the tables agree, as they do for
        features turned or scaled as a whole.

    Raises:
        ValueError: unknown option, wrong shape or dtype, a batch of one sample; a bad weight on CPU
            tensors.

    >>> import torch  # rows (1, 0), (0, 1) against (1, 1) / √2 twice: |·|² = 4 − 2√2
    >>> round(similarity_preserving_loss(torch.eye(2), torch.ones(2, 1)).item(), 4)
    0.2929
    """
    check_reduction(reduction)
    student, teacher = check_features(student_features, teacher_features)
    weight = check_weight(sample_weight, student)
    student, teacher, weights, own = rows_of_all_ranks(student, teacher, weight, gather)
    check_enough(student, 2, "similarity_preserving_loss", "one has no partner to be alike to")
    with without_autocast(student):
        tables = [x[own] @ x.mT for x in (student, teacher)]
    if weights is not None:  # in the columns: a row's length and its squares then count by weight
        tables = [table * weights.sqrt() for table in tables]
    ours, theirs = (unit(table) for table in tables)
    rows = student.shape[0] if weights is None else (weights > 0).sum().clamp_min(1)
    values = (ours - theirs).square().sum(-1) / rows
    return reduce(values, reduction, weight)


class SimilarityPreservingLoss(nn.Module):
    """Module over `similarity_preserving_loss`, which documents the options."""

    def __init__(self, *, gather: bool = True, reduction: Reduction = "mean") -> None:
        super().__init__()
        check_reduction(reduction)
        self.gather = gather
        self.reduction: Reduction = reduction

    def forward(
        self,
        student_features: Tensor,
        teacher_features: Tensor,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """Call `similarity_preserving_loss` with this module's options."""
        return similarity_preserving_loss(
            student_features,
            teacher_features,
            gather=self.gather,
            sample_weight=sample_weight,
            reduction=self.reduction,
        )

    def select(
        self, student: StudentOutput, teacher: TeacherOutput | None, batch: Batch
    ) -> dict[str, Tensor | None]:
        """Pick what `forward` reads; labels aren't needed."""
        ours, theirs = need_features(student, teacher, "SimilarityPreservingLoss")
        return {
            "student_features": ours,
            "teacher_features": theirs,
            "sample_weight": batch.sample_weight,
        }
