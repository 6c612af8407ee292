"""The hard term as a part of other losses: values on checked inputs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from coefvq.losses import _bernoulli
from coefvq.losses._contract import IMPOSSIBLE, per_sample, readable
from coefvq.losses._known_gradient import wants_gradient, with_slope


def hard_values(
    logits: Tensor,
    labels: Tensor,
    task: str,
    label_smoothing: float = 0.0,
    positive_weight: Tensor | None = None,
    focal_gamma: float = 0.0,
    weight: Tensor | None = None,
) -> Tensor:
    """Loss of each sample (B,), each decision first times its `weight` (B,) or (B, L)."""
    if task == "multiclass" and label_smoothing and not focal_gamma and readable(logits):
        log_q = F.log_softmax(logits.detach(), -1)
        total = log_q.sum(-1)
        if bool((total > -IMPOSSIBLE).all()):  # −inf in a row that masks a class
            return _smoothed(logits, labels, label_smoothing, log_q, total, weight)
    if task in ("regression", "multiclass") or focal_gamma:
        options = label_smoothing, positive_weight, focal_gamma
        values = hard_elements(logits, labels, task, *options)
        return per_sample(values if weight is None else weight * values)
    target = _smooth(labels, label_smoothing)
    each = weight if weight is not None and weight.shape == logits.shape else None
    values = _bernoulli.cross_entropy(logits.detach(), target, positive_weight)
    if each is not None:
        values.mul_(each)
    total = values.sum(-1) if values.ndim == 2 else values  # the mean's gradient is one more pass
    if wants_gradient(logits):
        slope = _bernoulli.cross_entropy_slope
        total = with_slope(logits, total, slope, target, positive_weight, each)
    total = total / values.shape[1] if values.ndim == 2 else total
    return total if weight is None or each is not None else weight * total


def hard_elements(
    logits: Tensor,
    labels: Tensor,
    task: str,
    label_smoothing: float = 0.0,
    positive_weight: Tensor | None = None,
    focal_gamma: float = 0.0,
) -> Tensor:
    """Loss of each decision, (B,) or (B, L), in torch's own functions."""
    if task == "regression":
        return (logits - labels).square()
    if task != "multiclass":
        logits, target = _bernoulli.finite(logits), _smooth(labels, label_smoothing)
        if focal_gamma == 0:
            return F.binary_cross_entropy_with_logits(
                logits, target, pos_weight=positive_weight, reduction="none"
            )
        yes, no = F.logsigmoid(logits), F.logsigmoid(-logits)
        positive = -target * (focal_gamma * no).exp() * yes
        negative = -(1 - target) * (focal_gamma * yes).exp() * no
        return (positive if positive_weight is None else positive_weight * positive) + negative
    own = F.cross_entropy(logits, labels, reduction="none").clamp_max(IMPOSSIBLE)
    own = _focal(own, focal_gamma)
    if label_smoothing == 0:
        return own
    possible = logits > -torch.inf  # masked classes get no share of the smoothing
    every = _focal(-torch.where(possible, F.log_softmax(logits, -1), 0.0), focal_gamma)
    others = every.sum(-1) / possible.sum(-1)
    return (1 - label_smoothing) * own + label_smoothing * others


def _focal(costs: Tensor, gamma: float) -> Tensor:
    """(1 − p)^γ · (−log p), from −log p."""
    if gamma == 0:
        return costs
    # At p = 1 a power below 1 has no derivative; a smallest 1 − p leaves 0 times a number there.
    doubt = (-torch.expm1(-costs)).clamp_min(torch.finfo(costs.dtype).tiny)
    return doubt**gamma * costs


def _smooth(labels: Tensor, smoothing: float) -> Tensor:
    return labels * (1 - smoothing) + smoothing / 2 if smoothing else labels


def _smoothed(
    logits: Tensor,
    labels: Tensor,
    smoothing: float,
    log_q: Tensor,
    total: Tensor,
    weight: Tensor | None,
) -> Tensor:
    """(1 − ε) · −log q[y] + ε · mean −log q where no class is masked, `total` being Σ log q."""
    own, share = labels[:, None], smoothing / log_q.shape[-1]
    values = (smoothing - 1) * log_q.gather(-1, own)[:, 0] - share * total
    if wants_gradient(logits):
        mass = total.new_tensor(1 - smoothing)
        values = with_slope(logits, values, _smoothed_slope, own, mass, total.new_tensor(share))
    return values if weight is None else weight * values


def _smoothed_slope(logits: Tensor, own: Tensor, mass: Tensor, share: Tensor) -> Tensor:
    """The slope q − (1 − ε) [y] − ε / C."""
    q, mass = logits.softmax(-1), mass.expand(own.shape)
    if torch.is_grad_enabled():
        return (q - share).scatter_add(-1, own, -mass)
    return q.sub_(share).scatter_add_(-1, own, -mass)
