"""Splitting a distribution at its label: smaller parts of DKD and NKD."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from coefvq.losses._contract import IMPOSSIBLE, check_choice


def check_many_classes(task: str, loss: str, what: str) -> None:
    """Refuse tasks of two classes, for which a part of the loss is always 0.

    Raises:
        ValueError: naming what vanishes.
    """
    if task in ("binary", "multilabel"):
        raise ValueError(
            f"{loss} needs task 'multiclass' with more than two classes, got {task!r}"
            f"{', whose labels have two each' if task == 'multilabel' else ''}: with two, "
            f"{what}; use logit_kd_loss"
        )
    check_choice("task", task, ("multiclass",))


def check_width(logits: Tensor, loss: str, what: str) -> None:
    """Refuse two columns of logits for the same reason."""
    if logits.shape[-1] < 3:
        raise ValueError(
            f"{loss} needs more than two classes, got logits of shape {tuple(logits.shape)}: with "
            f"two, {what}; use logit_kd_loss"
        )


def apart(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    temperature: float,
    alpha: float,
    beta: float,
    wanted: bool,
) -> tuple[Tensor, Tensor | None]:
    """α · KL(b_p ‖ b_q) + β · KL(p̂ ‖ q̂), and where wanted its gradient for the student's z / T.

    b = (p[y], 1 − p[y]), and p̂, q̂ are softmaxes over the classes other than the label y. With
    d = α (q[y] − p[y]) the gradient is d for the label and (β − d) q̂ − β p̂ for the others.

    Args:
        student: (B, C); −inf masks a class, also every class but the label.
        teacher: (B, C), the same.
        labels: (B,) class indices.
        temperature: T > 0, of everything.
        alpha: α.
        beta: β.
        wanted: whether to make the gradient.

    Returns:
        (B,) in nats, and (B, C) or None.
    """
    own = labels[:, None]
    (b_q, x_q, mass_q, sum_q), (b_p, x_p, mass_p, sum_p) = (
        _parts(z.detach(), own, temperature) for z in (student, teacher)
    )
    target = (b_p.exp() * (b_p - b_q)).sum(-1)
    others = x_p.sub_(x_q).mul_(mass_p).sum(-1) / sum_p[:, 0] + (sum_q / sum_p).log()[:, 0]
    values = alpha * target + beta * others
    if not wanted:
        return values, None
    d = alpha * (b_q[:, :1].exp() - b_p[:, :1].exp())
    gradient = mass_q.mul_((beta - d) / sum_q).addcmul_(mass_p, beta / sum_p, value=-1.0)
    return values, gradient.scatter_(-1, own, d)


def _parts(
    logits: Tensor, own: Tensor, temperature: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log b (B, 2); and of the others x (B, C), e^x and Σ e^x (B, 1): e^x / Σ e^x is p̂.

    The label itself has x = 0 and, in place of e^x, 0: sums over the classes are over the others.
    """
    x = (logits / temperature).clamp_min_(-IMPOSSIBLE)  # a row may have no other class
    label = x.gather(-1, own)
    top = x.scatter_(-1, own, -torch.inf).amax(-1, keepdim=True)
    x.scatter_(-1, own, top).sub_(top)
    mass = x.exp().scatter_(-1, own, 0.0)
    total = mass.sum(-1, keepdim=True)
    gap = label - (top + total.log())
    both = F.logsigmoid(torch.cat([gap, -gap], -1)).clamp_min_(-IMPOSSIBLE)
    return both, x, mass, total
