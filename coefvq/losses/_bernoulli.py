"""One decision from its one logit: divergences and their slopes, in few passes over (B, L).

Element by element, for logits of any shape; a logit of −inf is a decision that cannot be yes. New
tensors are what costs on a CPU, so that results are built in place; only a slope that is asked for
while gradients are enabled is made of steps that autograd can follow.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from coefvq.losses._contract import IMPOSSIBLE


def finite(logits: Tensor) -> Tensor:
    """A copy with ±1e30 for ±inf, which means the same and gives no 0 · ∞."""
    return logits.clamp(-IMPOSSIBLE, IMPOSSIBLE)


def cross_entropy(logits: Tensor, target: Tensor, positive_weight: Tensor | None) -> Tensor:
    """−w·y log σ(z) − (1−y) log σ(−z), w the positive weight."""
    z = finite(logits)
    log_q = F.logsigmoid(z)
    if positive_weight is not None:
        log_q.mul_(_share(target, positive_weight))
    return z.addcmul_(z, target, value=-1).sub_(log_q)  # (1 − y) z − (1 + (w − 1) y) log σ(z)


def cross_entropy_slope(
    logits: Tensor, target: Tensor, positive_weight: Tensor | None, weight: Tensor | None
) -> Tensor:
    """Derivative of `cross_entropy` times `weight`."""
    free = not torch.is_grad_enabled()
    slope = logits.sigmoid()
    if positive_weight is not None:
        share = _share(target, positive_weight)
        slope = slope.mul_(share) if free else slope * share
        target = positive_weight * target
    slope = slope.sub_(target) if free else slope - target
    if weight is None:
        return slope
    return slope.mul_(weight) if free else slope * weight


def divergence(
    student: Tensor, teacher: Tensor, reverse: bool, wanted: bool
) -> tuple[Tensor, Tensor | None]:
    """KL(p ‖ q), p = σ(teacher) and q = σ(student), or KL(q ‖ p) where `reverse`.

    KL(a ‖ b) of the logits a and b is log σ(a) − log σ(b) + σ(−a) (b − a). Both are turned over
    where a is negative, which changes nothing and keeps the digits of a small 1 − σ(a).
    """
    z, t = finite(student), finite(teacher)
    a, b = (z, t) if reverse else (t, z)
    sign = torch.copysign(a.new_ones(()), a)
    a.abs_()
    b.mul_(sign)
    rest = a.neg().sigmoid_()
    gap = b - a
    values = F.logsigmoid(a).sub_(F.logsigmoid(b)).addcmul_(rest, gap)
    gradient = None
    if wanted and reverse:  # q (1 − q) (z − t)
        gradient = gap.mul_(rest).mul_(rest.sub_(1)).mul_(sign)
    elif wanted:  # q − p
        gradient = rest.sub_(torch.neg(b, out=gap).sigmoid_()).mul_(sign)
    return values, gradient


def undecided(logits: Tensor) -> Tensor:
    """KL(q ‖ ½) = log 2 − H(q), H = σ(−a) a − log σ(a) for a = |z|."""
    a = finite(logits).abs_()
    values = F.logsigmoid(a).addcmul_(a.neg().sigmoid_(), a, value=-1)
    return values.add_(math.log(2)).clamp_min_(0.0)  # what rounding may leave below


def undecided_slope(logits: Tensor) -> Tensor:
    """Derivative of `undecided`, q (1 − q) z."""
    z = finite(logits)
    return z * z.sigmoid() * (-z).sigmoid()


def _share(target: Tensor, positive_weight: Tensor) -> Tensor:
    """1 + (w − 1) y."""
    return (positive_weight - 1).mul(target).add_(1)
