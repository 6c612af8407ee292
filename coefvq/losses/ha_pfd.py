"""HA-PFD: distil most where the student finds it hard, and bring its features to the teacher's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coefvq.losses._arguments import check_tensor, settled
from coefvq.losses._contract import (
    Reduction,
    Task,
    check_labels,
    check_pair,
    check_reduction,
    check_task,
    check_temperature,
    check_weight,
    need_teacher,
    reduce,
)
from coefvq.losses._numbers import check_not_negative
from coefvq.losses.pfd import mixture

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput


def ha_pfd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None,
    *,
    task: Task,
    distill_weight: float = 1.0,
    exponent: float = 1.0,
    feature_weight: float = 1.0,
    temperature: float = 1.0,
    student_features: Tensor | None = None,
    teacher_features: Tensor | None = None,
    detach_hardness: bool = True,
    label_mask: Tensor | None = None,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Learn from labels, from the teacher where the student is unsure, and from its features.

    L_i = hard_i + β · (1 − q_i[y_i])^γ · T² · soft_i + γ' · mean_D (f_i − h_i)², q the student's
    probability of the label, f its projected features, h the teacher's. A *reconstruction* of
    HA-PFD (KDD 2025), read in a digest: CE_s + CE_t + β · (1 − p_student[y])^γ · KD
    + γ' · MSE(projection(h_s), stopgrad h_t).

    Differs from the source: no CE_t, because there the teacher is trained along and here it is
    given and frozen. Temperature and T² are Hinton's. Without a label, the student's largest
    probability stands for q[y]: hard is what it is unsure of. Whether a gradient flows through
    (1 − q[y])^γ is not said; here it is a weight and detached, unless asked otherwise. It looks at
    the student only, where CPFD's confidence looks at the teacher: a mistaken teacher is followed.

    Gradients flow to `student_logits` and `student_features`, never to the teacher. Inside it is
    float32 (float64 for float64 logits).

    Args:
        student_logits: (B,) binary, (B, C) multiclass, (B, L) multilabel. −inf masks a class.
        teacher_logits: the same shape.
        labels: (B,) class indices for multiclass; else shaped like the logits, in [0, 1]. None: no
            sample is labelled, and the hard term is 0.
        task: what the logits mean; regression has no distribution and is refused.
        distill_weight: β from 0.
        exponent: γ from 0. 0 makes everyone count alike; larger looks at the hardest only.
        feature_weight: γ' from 0, of the mean squared error over the D features.
        temperature: T > 0, of the soft term only.
        student_features: (B, D), projected to the teacher's width already (`HAPFDLoss` learns to).
        teacher_features: (B, D). Both None: the feature part is absent.
        detach_hardness: False lets the student also lower the loss by raising q[y] (as in focal
            loss).
        label_mask: (B,) bool, True where the label counts. Elsewhere it is never read.
        sample_weight: (B,) finite and not negative, for all three parts; each mean divides by the
            sum of the weights that it summed over.
        reduction: over samples, never over classes. `"none"` gives the per-sample sum, the hard
            part 0 where unlabelled.

    Returns:
        A scalar, or (B,) for `"none"`; nats plus squared feature units, at least 0; 0 where the
        student is certain and right, and its features are the teacher's.

    Raises:
        ValueError: unknown option, a weight or exponent below 0, T ≤ 0, wrong shape or dtype,
            features of one side only, and, on CPU tensors outside `torch.compile` only, a label
            out of range or NaN.

    >>> import torch  # log 2 + (1 − ½) · KL(0.8 ‖ 0.5)
    >>> z = torch.zeros(1), torch.tensor([4.0]).log(), torch.ones(1)
    >>> round(ha_pfd_loss(*z, task="binary").item(), 4)
    0.7895
    """
    _check_options(task, distill_weight, exponent, feature_weight, temperature, reduction)
    student, teacher = check_pair(student_logits, teacher_logits, task)
    safe, label_mask = check_labels(labels, label_mask, student, task)
    weight = check_weight(sample_weight, student)
    hardness: Tensor | Callable[[Tensor], Tensor]
    if task == "multiclass" and detach_hardness and label_mask is None:

        def hardness(hard: Tensor) -> Tensor:  # 1 − q[y], from −log q[y]: no softmax of its own
            return (-torch.expm1(-hard.detach())).pow(exponent)

    else:
        seen = student.detach() if detach_hardness else student
        hardness = _hardness(seen, safe, label_mask, task).pow(exponent)
    total = mixture(
        student,
        teacher,
        safe,
        label_mask,
        weight,
        task=task,
        temperature=temperature,
        hard_share=1.0,
        soft_share=distill_weight,
        soft_weight=hardness,
        reduction=reduction,
    )
    if student_features is None and teacher_features is None:
        return total
    ours, theirs = _check_features(student_features, teacher_features, student)
    return total + feature_weight * reduce((ours - theirs).square().mean(-1), reduction, weight)


class HAPFDLoss(nn.Module):
    """Module over `ha_pfd_loss`, which documents the options, with the learned projection.

    `distill_weight`, `exponent`, `feature_weight` and `temperature` may be reassigned during
    training.

    Args:
        student_width: D of the student's features; None: no feature part, and no features read.
        teacher_width: D of the teacher's features, to which the student's are projected. Both are
            given, or neither: the projection has to exist before an optimizer looks for it.
    """

    def __init__(
        self,
        *,
        task: Task,
        student_width: int | None = None,
        teacher_width: int | None = None,
        distill_weight: float = 1.0,
        exponent: float = 1.0,
        feature_weight: float = 1.0,
        temperature: float = 1.0,
        detach_hardness: bool = True,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        _check_options(task, distill_weight, exponent, feature_weight, temperature, reduction)
        if (student_width is None) != (teacher_width is None):
            raise ValueError(
                f"student_width is {student_width} and teacher_width is {teacher_width}; give both "
                "for the feature part of HA-PFD, or neither to go without it"
            )
        self.task: Task = task
        self.distill_weight = distill_weight
        self.exponent = exponent
        self.feature_weight = feature_weight
        self.temperature = temperature
        self.detach_hardness = detach_hardness
        self.reduction: Reduction = reduction
        self.projection: nn.Linear | None = None
        if student_width is not None and teacher_width is not None:
            self.projection = nn.Linear(student_width, teacher_width)

    @property
    def student_width(self) -> int | None:
        """Width that the projection takes; None without one."""
        return None if self.projection is None else self.projection.in_features

    @property
    def teacher_width(self) -> int | None:
        """Width that the projection gives; None without one."""
        return None if self.projection is None else self.projection.out_features

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None,
        student_features: Tensor | None = None,
        teacher_features: Tensor | None = None,
        label_mask: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """Project the student's features and call `ha_pfd_loss` with this module's options."""
        return ha_pfd_loss(
            student_logits,
            teacher_logits,
            labels,
            task=self.task,
            distill_weight=self.distill_weight,
            exponent=self.exponent,
            feature_weight=self.feature_weight,
            temperature=self.temperature,
            student_features=self._project(student_features, teacher_features),
            teacher_features=teacher_features,
            detach_hardness=self.detach_hardness,
            label_mask=label_mask,
            sample_weight=sample_weight,
            reduction=self.reduction,
        )

    def select(
        self, student: StudentOutput, teacher: TeacherOutput | None, batch: Batch
    ) -> dict[str, Tensor | None]:
        """Pick what `forward` reads; features only where there is a projection for them."""
        teacher = need_teacher(teacher, "HAPFDLoss")
        return {
            "student_logits": student.logits,
            "teacher_logits": teacher.logits,
            "labels": batch.labels,
            "student_features": None if self.projection is None else student.features,
            "teacher_features": None if self.projection is None else teacher.features,
            "label_mask": batch.label_mask,
            "sample_weight": batch.sample_weight,
        }

    def _project(self, ours: Tensor | None, theirs: Tensor | None) -> Tensor | None:
        for side, features, width in (
            ("student", ours, self.student_width),
            ("teacher", theirs, self.teacher_width),
        ):
            found = None if features is None else features.shape[-1]
            if found != width:
                raise ValueError(
                    f"the {side}'s features have width {found} but HAPFDLoss was made with "
                    f"{side}_width={width}; set {side}_width={found} "
                    "(None for both: no feature part)"
                )
        return None if self.projection is None or ours is None else self.projection(ours)


def _hardness(student: Tensor, labels: Tensor, mask: Tensor | None, task: str) -> Tensor:
    """1 − q[y] of each decision, (B,) or (B, L); 1 − max q where `mask` is False."""
    if task == "multiclass":
        log_q = F.log_softmax(student, -1)
        if mask is not None:
            labels = torch.where(mask, labels, log_q.detach().argmax(-1))
        value = -torch.expm1(log_q.gather(-1, labels[:, None])[:, 0])
    else:
        value = labels * (-student).sigmoid() + (1 - labels) * student.sigmoid()
        if mask is not None:
            known = mask if value.ndim == 1 else mask[:, None]
            value = torch.where(known, value, (-student.abs()).sigmoid())
    # A power between 0 and 1 has no slope at 0; where a gradient is wanted, stop short of it.
    return value.clamp_min(torch.finfo(value.dtype).eps if value.requires_grad else 0.0)


def _check_features(
    ours: Tensor | None, theirs: Tensor | None, student: Tensor
) -> tuple[Tensor, Tensor]:
    """Features in the precision of the logits, the teacher's detached."""
    if ours is None or theirs is None:
        missing = "student_features" if ours is None else "teacher_features"
        raise ValueError(f"{missing} is None but the other side's are given; give both or neither")
    check_tensor("student_features", ours)
    check_tensor("teacher_features", theirs)
    if ours.ndim != 2 or ours.shape != theirs.shape or len(ours) != len(student):
        raise ValueError(
            f"student_features have shape {tuple(ours.shape)} and teacher_features "
            f"{tuple(theirs.shape)}; both must be (B, D) with B = {len(student)}: project the "
            "student's first, or use HAPFDLoss"
        )
    for name, features in (("student_features", ours), ("teacher_features", theirs)):
        if not features.is_floating_point():
            raise ValueError(f"{name} must be floating point, got {features.dtype}")
    return ours.to(student.dtype), settled(theirs).to(student.dtype)


def _check_options(
    task: str,
    distill_weight: float,
    exponent: float,
    feature_weight: float,
    temperature: float,
    reduction: str,
) -> None:
    check_task(task)
    check_reduction(reduction)
    check_temperature(temperature)
    check_not_negative("distill_weight", distill_weight)
    check_not_negative("exponent", exponent)
    check_not_negative("feature_weight", feature_weight)
