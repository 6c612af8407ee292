"""The soft term: the teacher's whole distribution as a target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coefvq.losses import _bernoulli
from coefvq.losses._contract import (
    IMPOSSIBLE,
    Reduction,
    Task,
    check_choice,
    check_pair,
    check_reduction,
    check_task,
    check_temperature,
    check_weight,
    need_teacher,
    reduce,
)
from coefvq.losses._known_gradient import wants_gradient, with_gradient

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput

Direction = Literal["forward", "reverse", "jsd"]
_DIRECTIONS: Final[tuple[str, ...]] = get_args(Direction)


def soft_values(
    student: Tensor,
    teacher: Tensor,
    task: str,
    temperature: float,
    direction: str = "forward",
    beta: float = 0.5,
    weight: Tensor | None = None,
) -> Tensor:
    """T²·divergence of each sample (B,), each decision first times its `weight` (B,) or (B, L).

    On checked inputs; a part of the losses.
    """
    wanted = wants_gradient(student)
    z, t = student.detach(), teacher
    if task == "multiclass" or direction == "jsd":
        log_q, log_p = (log_probabilities(x, task, temperature) for x in (z, t))
        values, gradient = divergence(log_q, log_p, direction, beta, wanted)
    else:
        if temperature != 1:
            z, t = z / temperature, t / temperature
        values, gradient = _bernoulli.divergence(z, t, direction == "reverse", wanted)
    # T² in the value is T in the gradient, as the gradient is with respect to z / T: once outside.
    values = temperature * values if temperature != 1 else values
    if task == "multiclass":
        if gradient is not None:
            values = with_gradient(student, values, gradient)
        values = values if weight is None else weight * values
    else:
        gradient = gradient[..., 0] if gradient is not None and direction == "jsd" else gradient
        values = _of_decisions(student, values, gradient, weight)
    return temperature * values


def _of_decisions(
    student: Tensor, values: Tensor, gradient: Tensor | None, weight: Tensor | None
) -> Tensor:
    """(B,) from decisions (B,) or (B, L), by the mean over labels; overwrites what it is given."""
    each = weight is not None and weight.shape == values.shape and not weight.requires_grad
    if weight is not None and each:
        values = values.mul_(weight)
        gradient = gradient if gradient is None else gradient.mul_(weight)
    shared = each or weight is None or weight.ndim < values.ndim
    count = values.shape[1] if values.ndim == 2 else 1
    if values.ndim == 2 and shared:  # sum and not mean, whose gradient would be a pass of its own
        values = values.sum(-1)
    if gradient is not None:
        values = with_gradient(student, values, gradient)
    if weight is not None and not each:
        values = weight * values
        values = values if shared or values.ndim == 1 else values.sum(-1)
    return values if count == 1 else values / count


def log_probabilities(logits: Tensor, task: str, temperature: float) -> Tensor:
    """Of the classes, in a new tensor (..., C): binary decisions have the two classes (1, 0).

    The floor turns 0 · ∞ of a masked class into 0 · 1e30.
    """
    if temperature != 1:  # dividing by 1 changes no bit and costs a pass
        logits = logits / temperature
    if task == "multiclass":
        log = F.log_softmax(logits, -1)
    else:
        log = torch.stack([F.logsigmoid(logits), F.logsigmoid(-logits)]).movedim(0, -1)
    return log.clamp_min_(-IMPOSSIBLE)


def divergence(
    log_q: Tensor, log_p: Tensor, direction: str, beta: float, wanted: bool
) -> tuple[Tensor, Tensor | None]:
    """Divergence over the last dimension, and where wanted its gradient for the logits of q.

    Works in its inputs' memory, and overwrites both: passes over (B, C) are what the loss costs.
    The gradient for logits z of q = softmax(z) is q · (a − Σ q·a), a the derivative for q.
    """
    if direction == "forward":  # Σ p (log p − log q)
        p = log_p.exp()
        values = log_p.sub_(log_q).mul_(p).sum(-1)
        return values, log_q.exp_().sub_(p) if wanted else None
    q = log_q.exp()
    if direction == "reverse":  # Σ q (log q − log p)
        a = log_q.sub_(log_p)
        values = (q * a).sum(-1)
        return values, a.sub_(values[..., None]).mul_(q) if wanted else None
    # log m for m = βp + (1 − β)q, relative to the larger of log p and log q: no exponential can
    # overflow, and where p = q it is 0 without any rounding.
    p, gap = log_p.exp(), log_p.sub_(log_q)
    smaller = torch.where(gap > 0, gap.new_tensor(1 - beta), gap.new_tensor(beta))  # its share of m
    excess = gap.abs().neg_().expm1_().mul_(smaller).log1p_()
    from_p = excess + (-gap).clamp_min_(0)  # log m − log p
    from_q = excess.add_(gap.clamp_min_(0))
    of_q = (q * from_q).sum(-1)
    values = -beta * p.mul_(from_p).sum(-1) - (1 - beta) * of_q
    if not wanted:
        return values, None
    return values, from_q.sub_(of_q[..., None]).mul_(q).mul_(beta - 1)


def logit_kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    task: Task,
    temperature: float = 1.0,
    direction: Direction = "forward",
    beta: float = 0.5,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Pull the student's softened distribution towards the teacher's.

    L_i = T² · D, p = softmax(z_teacher / T), q = softmax(z_student / T), and D by direction:

    - "forward": KL(p ‖ q) (Hinton, Vinyals and Dean, 2015, section 2, which also gives T²).
    - "reverse": KL(q ‖ p), which lets the student leave out what it has no room for (Gu et al.,
      "MiniLLM", ICLR 2024).
    - "jsd": β KL(p ‖ m) + (1 − β) KL(q ‖ m), m = β p + (1 − β) q, never above log 2 (Agarwal et
      al., "On-policy distillation of language models" (GKD), ICLR 2024, section 2).

    Binary: the same between Bernoulli distributions, equal to two classes with logits (0, z).
    Multilabel: its mean over the L labels, as the hard term has it, so that both keep one scale.

    Differs from Hinton's soft cross-entropy by the teacher's entropy, a constant: the gradient is
    the same and the loss is 0 where the student equals the teacher. Differs from GKD's code at the
    ends of β: the divergence as written goes to 0 there (divided by β it goes to "forward", divided
    by 1 − β to "reverse"), so β = 0 and 1 are refused where others jump to a plain KL. Summed over
    classes, so classes masked by −inf in both logits change nothing.

    Gradients flow to `student_logits` only, and are differentiable once. Inside it is float32
    (float64 for float64 logits). No label is read: every sample counts.

    Args:
        student_logits: (B,) binary, (B, C) multiclass, (B, L) multilabel. −inf masks a class.
        teacher_logits: the same shape.
        task: what the logits mean; regression has no distribution and is refused.
        temperature: T > 0.
        direction: which divergence, as above.
        beta: β inside (0, 1), the teacher's share of the mixture; for "jsd" only.
        sample_weight: (B,) finite and not negative. The mean divides by its sum.
        reduction: over samples, never over classes.

    Returns:
        A scalar, or (B,) for `"none"`; nats times T², at least 0; 0 for equal distributions. Mass
        where only the other side masks costs 1e30 per unit: the teacher's for "forward", the
        student's for "reverse" (its gradient too: mask the student as well); "jsd" stays small.

    Raises:
        ValueError: unknown option, T ≤ 0, β outside (0, 1) or given without "jsd", wrong shape or
            dtype; a bad weight on CPU tensors.

    >>> import torch  # the teacher says 0.8, the student 0.5
    >>> round(logit_kd_loss(torch.zeros(1), torch.tensor([4.0]).log(), task="binary").item(), 4)
    0.1927
    """
    _check_options(task, temperature, direction, beta, reduction)
    student, teacher = check_pair(student_logits, teacher_logits, task)
    weight = check_weight(sample_weight, student)
    values = soft_values(student, teacher, task, temperature, direction, beta)
    return reduce(values, reduction, weight)


class LogitKDLoss(nn.Module):
    """Module over `logit_kd_loss`, which documents the options.

    `temperature` and `beta` may be reassigned during training.
    """

    def __init__(
        self,
        *,
        task: Task,
        temperature: float = 1.0,
        direction: Direction = "forward",
        beta: float = 0.5,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        _check_options(task, temperature, direction, beta, reduction)
        self.task: Task = task
        self.temperature = temperature
        self.direction: Direction = direction
        self.beta = beta
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
            direction=self.direction,
            beta=self.beta,
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


def _check_options(
    task: str, temperature: float, direction: str, beta: float, reduction: str
) -> None:
    check_task(task)
    check_reduction(reduction)
    check_temperature(temperature)
    check_choice("direction", direction, _DIRECTIONS)
    if not 0.0 < beta < 1.0:
        raise ValueError(
            f"beta must be a number inside (0, 1), got {beta}; for the ends use "
            "direction='forward' or 'reverse'"
        )
    if beta != 0.5 and direction != "jsd":
        raise ValueError(
            f"beta is for direction 'jsd', got beta {beta} with direction {direction!r}; leave it "
            "at 0.5"
        )
