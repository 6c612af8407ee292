"""Feature distillation: the student's features become the teacher's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coefvq.losses._arguments import check_tensor, settled
from coefvq.losses._contract import Reduction, check_choice, check_reduction, check_weight, reduce
from coefvq.losses._features import (
    check_features,
    check_mask,
    cosine_distance,
    make_projection,
    need_features,
    project,
)

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput

Distance = Literal["mse", "smooth_l1", "cosine"]
_DISTANCES: Final[tuple[str, ...]] = get_args(Distance)


def feature_kd_loss(
    student_features: Tensor,
    teacher_features: Tensor,
    *,
    distance: Distance = "mse",
    mask: Tensor | None = None,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Bring each feature vector of the student to the teacher's.

    L_i = mean over the tokens t of sample i that count of d(f_it, h_it), f the student's features,
    h the teacher's, and d by distance:

    - "mse": mean_D (f − h)² (after FitNets: Romero et al., ICLR 2015, equation 3).
    - "smooth_l1": mean_D of (f − h)² / 2 within 1 and |f − h| − ½ beyond (Girshick, "Fast R-CNN",
      ICCV 2015): a feature that is far off does not rule the gradient.
    - "cosine": 1 − cos(f, h), which leaves lengths free (MatchLite's embedding loss, 2026).

    Differs from FitNets by the means over tokens and D where it has half the sum. `mask` selects:
    a mean taken before it would be scaled by the masked tokens, which are never read here.

    Gradients flow to `student_features` only. Inside it is float32 (float64 for float64 features).
    No label is read: every sample counts.

    Args:
        student_features: (B, D) pooled or (B, T, D) tokens, in the teacher's width (`FeatureKDLoss`
            learns a projection to it).
        teacher_features: the same shape.
        distance: d, as above.
        mask: (B, T) bool, True where a token counts. A sample without any is left out.
        sample_weight: (B,) finite and not negative. The mean divides by its sum.
        reduction: over samples; inside a sample it is always the mean over tokens.

    Returns:
        A scalar, or (B,) for `"none"`; squared feature units ("mse"), feature units ("smooth_l1")
        or a number in [0, 2] ("cosine"; ½ where one side is 0 and has no direction); at least 0,
        and 0 for equal features.

    Raises:
        ValueError: unknown option, wrong shape or dtype, a mask with pooled features; a bad weight
            on CPU tensors.

    >>> import torch  # (1² + 3²) / 2
    >>> feature_kd_loss(torch.zeros(1, 2), torch.tensor([[1.0, 3.0]])).item()
    5.0
    """
    _check_options(distance, reduction)
    student, teacher = check_features(student_features, teacher_features, (2, 3), same_width=True)
    weight = check_weight(sample_weight, student)
    if student.shape != teacher.shape:
        raise ValueError(
            f"student_features have shape {tuple(student.shape)} and teacher_features "
            f"{tuple(teacher.shape)}; token by token needs the same T: pool both, or resample one"
        )
    mask = settled(mask)
    student, teacher = selected(student, mask), selected(teacher, mask)
    if distance == "cosine":
        elements = cosine_distance(student, teacher)
    else:
        between = F.mse_loss if distance == "mse" else F.smooth_l1_loss
        elements = between(student, teacher, reduction="none").mean(-1)
    if elements.ndim == 1:
        return reduce(elements, reduction, weight)
    if mask is None:
        return reduce(elements.mean(-1), reduction, weight)
    values = torch.where(mask, elements, 0.0).sum(-1) / mask.sum(-1).clamp_min(1)
    return reduce(values, reduction, weight, mask.any(-1))


class FeatureKDLoss(nn.Module):
    """Module over `feature_kd_loss`, which documents the options, with a learned projection.

    Args:
        student_width: D of the student's features.
        teacher_width: D of the teacher's, to which a linear layer brings the student's. Both None:
            no layer; the widths agree.
    """

    def __init__(
        self,
        student_width: int | None = None,
        teacher_width: int | None = None,
        *,
        distance: Distance = "mse",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        _check_options(distance, reduction)
        self.projection = make_projection(student_width, teacher_width)
        self.distance: Distance = distance
        self.reduction: Reduction = reduction

    def forward(
        self,
        student_features: Tensor,
        teacher_features: Tensor,
        mask: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """Project the student's features and call `feature_kd_loss` with this module's options."""
        # Before the projection, too: 0 · NaN of a masked token would reach the layer's gradient.
        return feature_kd_loss(
            project(self.projection, selected(student_features, mask), teacher_features),
            teacher_features,
            distance=self.distance,
            mask=mask,
            sample_weight=sample_weight,
            reduction=self.reduction,
        )

    def select(
        self, student: StudentOutput, teacher: TeacherOutput | None, batch: Batch
    ) -> dict[str, Tensor | None]:
        """Pick what `forward` reads: pooled features; labels aren't needed."""
        ours, theirs = need_features(student, teacher, "FeatureKDLoss")
        return {
            "student_features": ours,
            "teacher_features": theirs,
            "sample_weight": batch.sample_weight,
        }


def selected(features: Tensor, mask: Tensor | None) -> Tensor:
    """0 in place of what does not count, whatever it holds."""
    check_tensor("student_features", features)
    if mask is None:
        return features
    if features.ndim != 3:
        raise ValueError(
            f"mask is for tokens (B, T, D) but the features have shape {tuple(features.shape)}; "
            "leave samples out by sample_weight"
        )
    mask = check_mask(mask, tuple(features.shape[:-1]))
    return torch.where(mask[..., None], features, torch.zeros_like(features))


def _check_options(distance: str, reduction: str) -> None:
    check_choice("distance", distance, _DISTANCES)
    check_reduction(reduction)
