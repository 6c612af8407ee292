"""Several teachers for one student, each weighted sample by sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coefvq.losses._arguments import check_tensor, settled
from coefvq.losses._contract import (
    IMPOSSIBLE,
    Reduction,
    Task,
    check_choice,
    check_labels,
    check_logits,
    check_pair,
    check_reduction,
    check_task,
    check_temperature,
    check_weight,
    need_teacher,
    reduce,
)
from coefvq.losses._hard import hard_values
from coefvq.losses.logit_kd import soft_values

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput

TeacherWeighting = Literal["uniform", "fixed", "cross_entropy", "entropy"]
_METHODS: Final[tuple[str, ...]] = get_args(TeacherWeighting)


def multi_teacher_weights(
    teacher_logits: Tensor,
    labels: Tensor | None = None,
    *,
    task: Task,
    method: TeacherWeighting = "uniform",
    weights: Sequence[float] | None = None,
    label_mask: Tensor | None = None,
) -> Tensor:
    r"""Say how much each of K teachers counts for each sample.

    uniform        1 / K.
    fixed          the given `weights`, divided by their sum, for every sample.
    cross_entropy  (1 − softmax_k(CE_k)) / (K − 1), CE_k between teacher k and the label (CA-MKD:
                   Zhang, Chen and Wang, ICASSP 2022, equation 3): who errs less counts more.
    entropy        (1 − H_k / Σ_j H_j) / (K − 1), H_k the entropy of teacher k (EBKD: Kwon et al.,
                   ICASSP 2020, in the form of CA-MKD's public code): who doubts less counts more.

    All at T = 1; multilabel averages CE and H over the labels, so a teacher has one weight per
    sample.

    Differs from the sources: EBKD's weights are divided by K − 1 here, so that every method sums
    to 1; a sample without a label gets its weights by `entropy`; one teacher has weight 1, and
    teachers without any doubt count alike, where the formulas give 0/0.

    No gradient: the weights are detached. Inside it is float32 (float64 for float64 logits).

    Args:
        teacher_logits: (K, B) binary, (K, B, C) multiclass, (K, B, L) multilabel. −inf masks a
            class.
        labels: (B,) class indices for multiclass; else (B,) or (B, L), in [0, 1]. None: no sample
            is labelled. Read by `cross_entropy` only.
        task: what the logits mean; regression has no distribution and is refused.
        method: see above.
        weights: K finite numbers from 0, at least one above 0; for `fixed`, and only there.
        label_mask: (B,) bool, True where the label counts. Elsewhere it is never read.

    Returns:
        (K, B), in [0, 1], summing to 1 over the teachers.

    Raises:
        ValueError: unknown option, no teacher, wrong shape or dtype, weights that do not fit, and,
            on CPU tensors outside `torch.compile` only, a label out of range or NaN.

    >>> import torch  # two teachers say 0.8 and 0.5 to a positive: CE 0.22 and 0.69
    >>> teachers = torch.tensor([[4.0], [1.0]]).log()
    >>> w = multi_teacher_weights(teachers, torch.ones(1), task="binary", method="cross_entropy")
    >>> round(w[0].item(), 4)
    0.6154
    """
    _check_options(task, method, weights)
    teachers = _check_teachers(teacher_logits, task)
    count, batch = teachers.shape[:2]
    if weights is not None:
        if len(weights) != count:
            raise ValueError(
                f"weights has {len(weights)} numbers but teacher_logits hold {count} teachers; "
                "give one number per teacher"
            )
        total = math.fsum(weights)
        fixed = [weight / total for weight in weights]
        return teachers.new_tensor(fixed)[:, None].expand(-1, batch)
    if method == "uniform" or count == 1:
        return teachers.new_full((count, batch), 1 / count)
    own = _from_entropy(teachers, task)
    if method == "entropy":
        return own
    safe, mask = check_labels(labels, label_mask, teachers[0], task)
    costs = torch.stack([hard_values(z, safe, task) for z in teachers])
    judged = (1 - costs.softmax(0)) / (count - 1)
    return judged if mask is None else torch.where(mask, judged, own)


def multi_teacher_kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None = None,
    *,
    task: Task,
    method: TeacherWeighting = "uniform",
    weights: Sequence[float] | None = None,
    temperature: float = 1.0,
    label_mask: Tensor | None = None,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Pull the student towards several teachers at once.

    L_i = Σ_k w_ki · T² · KL(p_kT ‖ q_T), with w from `multi_teacher_weights` and the rest as in
    `logit_kd_loss`. With one teacher it is `logit_kd_loss`, to the bit.

    Differs from CA-MKD's public code, which divides by K once more, so that its loss shrinks with
    every teacher that is added.

    Gradients flow to `student_logits` only, and not through the weights. Inside it is float32
    (float64 for float64 logits).

    Args:
        student_logits: (B,) binary, (B, C) multiclass, (B, L) multilabel. −inf masks a class.
        teacher_logits: the same shape with K teachers in front.
        labels: as in `multi_teacher_weights`.
        task: what the logits mean; regression has no distribution and is refused.
        method: how teachers are weighted, see `multi_teacher_weights`.
        weights: K numbers for the method `fixed`.
        temperature: T > 0, of the divergence and not of the weights.
        label_mask: (B,) bool, True where the label counts. Elsewhere it is never read.
        sample_weight: (B,) finite and not negative. The mean divides by its sum.
        reduction: over samples, never over classes or teachers.

    Returns:
        A scalar, or (B,) for `"none"`; nats times T², at least 0; 0 where the student equals every
        teacher that has a weight. Teachers that disagree leave a rest that no student can remove.

    Raises:
        ValueError: unknown option, T ≤ 0, no teacher, wrong shape or dtype, weights that do not
            fit, and, on CPU tensors outside `torch.compile` only, a label out of range or NaN.

    >>> import torch  # a teacher who says 0.8 and one who agrees with the student: half of 0.1927
    >>> teachers = torch.tensor([[4.0], [1.0]]).log()
    >>> round(multi_teacher_kd_loss(torch.zeros(1), teachers, task="binary").item(), 4)
    0.0964
    """
    _check_options(task, method, weights, temperature, reduction)
    teachers = _check_teachers(teacher_logits, task)
    share = multi_teacher_weights(
        teachers, labels, task=task, method=method, weights=weights, label_mask=label_mask
    )
    total: Tensor | float = 0.0
    for own_share, own_logits in zip(share, teachers, strict=True):
        student, teacher = check_pair(student_logits, own_logits, task)
        soft = soft_values(student, teacher, task, temperature)
        total = total + own_share.to(soft.dtype) * soft
    assert isinstance(total, Tensor)
    return reduce(total, reduction, check_weight(sample_weight, student))


class MultiTeacherKDLoss(nn.Module):
    """Module over `multi_teacher_kd_loss`, which documents the options.

    `temperature`, `method` and `weights` are plain attributes and may be reassigned. As a term of
    an objective it takes a teacher whose logits have one dimension more than the student's, the
    teachers in front; logits shaped like the student's are one teacher.
    """

    def __init__(
        self,
        *,
        task: Task,
        method: TeacherWeighting = "uniform",
        weights: Sequence[float] | None = None,
        temperature: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        _check_options(task, method, weights, temperature, reduction)
        self.task: Task = task
        self.method: TeacherWeighting = method
        self.weights = weights
        self.temperature = temperature
        self.reduction: Reduction = reduction

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None = None,
        label_mask: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """Call `multi_teacher_kd_loss` with this module's options."""
        return multi_teacher_kd_loss(
            student_logits,
            teacher_logits,
            labels,
            task=self.task,
            method=self.method,
            weights=self.weights,
            temperature=self.temperature,
            label_mask=label_mask,
            sample_weight=sample_weight,
            reduction=self.reduction,
        )

    def select(
        self, student: StudentOutput, teacher: TeacherOutput | None, batch: Batch
    ) -> dict[str, Tensor | None]:
        """Pick what `forward` reads; one teacher gets a dimension in front."""
        logits = need_teacher(teacher, "MultiTeacherKDLoss").logits
        return {
            "student_logits": student.logits,
            "teacher_logits": logits[None] if logits.ndim == student.logits.ndim else logits,
            "labels": batch.labels,
            "label_mask": batch.label_mask,
            "sample_weight": batch.sample_weight,
        }


def _from_entropy(teachers: Tensor, task: str) -> Tensor:
    """EBKD's weights for K > 1 teachers, (K, B)."""
    if task == "multiclass":
        # The floor turns 0 * inf of a masked class into 0 * 1e30.
        log_p = F.log_softmax(teachers, -1).clamp_min(-IMPOSSIBLE)
        entropy = -(log_p.exp() * log_p).sum(-1)
    else:
        teachers = teachers.clamp(-IMPOSSIBLE, IMPOSSIBLE)
        yes = teachers.sigmoid() * F.logsigmoid(teachers)
        no = (-teachers).sigmoid() * F.logsigmoid(-teachers)
        entropy = -(yes + no)
        entropy = entropy.mean(-1) if task == "multilabel" else entropy
    total = entropy.sum(0)
    doubt = torch.where(total > 0, entropy / total, 1 / len(entropy))
    return (1 - doubt) / (len(entropy) - 1)


def _check_teachers(teacher_logits: Tensor, task: str) -> Tensor:
    """Teachers detached, in float32 or float64."""
    check_tensor("teacher_logits", teacher_logits)
    shape, wanted = tuple(teacher_logits.shape), 3 if task in ("multiclass", "multilabel") else 2
    if len(shape) != wanted or shape[0] == 0:
        letters = {"multiclass": "(K, B, C)", "multilabel": "(K, B, L)"}.get(task, "(K, B)")
        raise ValueError(
            f"teacher_logits have shape {shape} but several teachers of task {task!r} are {letters}"
            " with K from 1; stack their logits in front, torch.stack([first, second])"
        )
    check_logits(teacher_logits[0], task, "teacher_logits of each teacher")
    half = teacher_logits.dtype in (torch.float16, torch.bfloat16)
    teachers = settled(teacher_logits)
    return teachers.float() if half else teachers


def _check_options(
    task: str,
    method: str,
    weights: Sequence[float] | None,
    temperature: float = 1.0,
    reduction: str = "mean",
) -> None:
    check_task(task)
    check_choice("method", method, _METHODS)
    check_temperature(temperature)
    check_reduction(reduction)
    if (weights is None) == (method == "fixed"):
        raise ValueError(
            f"method {method!r} came with weights={weights}; "
            "weights are one number per teacher for the method 'fixed', and None for the others"
        )
    if weights is not None:
        good = all(0.0 <= weight < math.inf for weight in weights)
        if not good or not any(weight > 0 for weight in weights):
            raise ValueError(
                f"weights of teachers must be finite numbers from 0, at least one above 0, "
                f"got {list(weights)}"
            )
