"""Margin distillation: how much better is one candidate of a query than another?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from coefvq.losses._contract import Reduction, check_reduction, check_weight, need_teacher
from coefvq.losses._scores import (
    check_batch,
    check_groups,
    check_scores,
    differences,
    query_groups,
    reduce_pairs,
)

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput


def margin_kd_loss(
    student_scores: Tensor,
    teacher_scores: Tensor,
    groups: Tensor | None = None,
    *,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Put two candidates of one query as far apart as the teacher puts them.

    ℓ_ij = ((s_i − s_j) − (t_i − t_j))² for candidates i, j of one query, and L_i is the mean of
    ℓ_ij over the other candidates j (MarginMSE, Hofstätter et al., "Improving efficient neural
    ranking models with cross-architecture knowledge distillation", 2020). The teacher's zero point
    is not asked for, separately for each query: only its unit is.

    Differs from the source, which takes one relevant and one irrelevant candidate per query: here
    all candidates that are in the batch are compared, and no label is read, as ℓ_ij = ℓ_ji needs
    no order. With two candidates per query the two are the same number.

    Gradients flow to `student_scores` only. Inside it is float32 (float64 for float64 scores).
    Candidates are compared within the batch (under DDP: within the process), so a loader has to
    put candidates of one query together; one that stands alone counts for nothing, and a batch of
    such gives 0.

    Args:
        student_scores: (B,), one per pair of query and candidate; a logit or any other score.
        teacher_scores: (B,) in a unit that the student shall have, finite.
        groups: (B,) integers, equal for candidates of one query. None: all are of one query.
        sample_weight: (B,) finite and not negative; weights partners as well as samples, so that
            0 is as good as absent.
        reduction: over samples. Each comparison stands in the L of both its candidates.

    Returns:
        A scalar, or (B,) for `"none"`; in squared units of the scores, at least 0; 0 where the
        student's scores are the teacher's plus a constant per query.

    Raises:
        ValueError: unknown option, wrong shape or dtype, fewer than two samples; on CPU tensors
            outside `torch.compile` also a teacher's score or a weight that is not as above.

    >>> import torch  # margins 1 and 3
    >>> margin_kd_loss(torch.tensor([1.0, 0.0]), torch.tensor([5.0, 2.0])).item()
    4.0
    """
    check_reduction(reduction)
    student, teacher = check_scores(student_scores, teacher_scores)
    check_batch(student, "margin_kd_loss")
    weight = check_weight(sample_weight, student)
    # The difference of differences is the difference of (s − t): one matrix instead of three.
    elements = differences(student - teacher).square()
    return reduce_pairs(elements, reduction, weight, check_groups(groups, student))


class MarginKDLoss(nn.Module):
    """Module over `margin_kd_loss`, which documents the options."""

    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__()
        check_reduction(reduction)
        self.reduction: Reduction = reduction

    def forward(
        self,
        student_scores: Tensor,
        teacher_scores: Tensor,
        groups: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """Call `margin_kd_loss` with this module's options."""
        return margin_kd_loss(
            student_scores,
            teacher_scores,
            groups,
            sample_weight=sample_weight,
            reduction=self.reduction,
        )

    def select(
        self, student: StudentOutput, teacher: TeacherOutput | None, batch: Batch
    ) -> dict[str, Tensor | None]:
        """Pick what `forward` reads: one group per query of the batch; labels aren't needed."""
        groups = query_groups(batch)
        if groups is None:
            raise ValueError(
                "MarginKDLoss compares candidates of one query but the batch has no queries; "
                "give it a batch of pairs, or use fidelity_rank_loss for scores of clips"
            )
        return {
            "student_scores": student.logits,
            "teacher_scores": need_teacher(teacher, "MarginKDLoss").logits,
            "groups": groups,
            "sample_weight": batch.sample_weight,
        }
