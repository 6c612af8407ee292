"""Similarity distillation: see two clips as alike as the teacher does, labels or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, get_args

from torch import Tensor, nn

from coefvq.losses._contract import (
    Reduction,
    check_choice,
    check_reduction,
    check_weight,
    need_teacher,
    reduce,
)
from coefvq.losses._scores import check_scores

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput

Scale = Literal["similarity", "logit"]
"""What the two models give: a similarity as it is, or the logit of one."""

SCALES: Final = get_args(Scale)


def similarity_kd_loss(
    student_similarity: Tensor,
    teacher_similarity: Tensor,
    *,
    scale: Scale = "similarity",
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Bring the student's similarity of each pair of clips to the teacher's.

    L_i = |s_i − t_i| (Kordopatis-Zilos et al., "DnS: Distill-and-Select for efficient and accurate
    video indexing and retrieval", IJCV 2022, which distils over unlabelled pairs). No label is
    read, so any two clips make a training pair; those that the teacher finds partly alike teach
    the most, so draw pairs that are near each other as well as random ones.

    The published networks give similarities in [−1, 1]. A pairwise model with a binary head gives
    logits: `scale="logit"` compares σ(z), so that the distance of two certain answers is nothing
    and a logit of 20 is not sought for its own sake. On similarities it is
    `score_kd_loss(distance="l1")`.

    Gradients flow to `student_similarity` only, and are ±1 however near the two are: let the
    learning rate decay. Inside it is float32 (float64 for float64 input).

    Args:
        student_similarity: (B,), one per pair.
        teacher_similarity: (B,), in the same scale, finite.
        scale: as above.
        sample_weight: (B,) finite and not negative. The mean divides by its sum.
        reduction: over pairs.

    Returns:
        A scalar, or (B,) for `"none"`; in units of similarity, at least 0 (at most 2 for
        similarities in [−1, 1], 1 for logits); 0 for equal similarities.

    Raises:
        ValueError: unknown option, wrong shape or dtype; on CPU tensors outside `torch.compile`
            also a teacher's similarity or a weight that is not as above.

    >>> import torch
    >>> s, t = torch.tensor([0.5, -0.25]), torch.tensor([0.75, 0.5])
    >>> similarity_kd_loss(s, t).item()  # (¼ + ¾) / 2
    0.5
    """
    _check_options(scale, reduction)
    student, teacher = check_scores(student_similarity, teacher_similarity, noun="similarity")
    weight = check_weight(sample_weight, student)
    if scale == "logit":
        student, teacher = student.sigmoid(), teacher.sigmoid()
    return reduce((student - teacher).abs(), reduction, weight)


class SimilarityKDLoss(nn.Module):
    """Module over `similarity_kd_loss`, which documents the options.

    In a run the outputs are a pairwise model's logits, hence the other default of `scale`.
    """

    def __init__(self, *, scale: Scale = "logit", reduction: Reduction = "mean") -> None:
        super().__init__()
        _check_options(scale, reduction)
        self.scale: Scale = scale
        self.reduction: Reduction = reduction

    def forward(
        self,
        student_similarity: Tensor,
        teacher_similarity: Tensor,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """Call `similarity_kd_loss` with this module's options."""
        return similarity_kd_loss(
            student_similarity,
            teacher_similarity,
            scale=self.scale,
            sample_weight=sample_weight,
            reduction=self.reduction,
        )

    def select(
        self, student: StudentOutput, teacher: TeacherOutput | None, batch: Batch
    ) -> dict[str, Tensor | None]:
        """Pick what `forward` reads; labels aren't needed."""
        return {
            "student_similarity": student.logits,
            "teacher_similarity": need_teacher(teacher, "SimilarityKDLoss").logits,
            "sample_weight": batch.sample_weight,
        }


def _check_options(scale: str, reduction: str) -> None:
    check_reduction(reduction)
    check_choice("scale", scale, SCALES)
