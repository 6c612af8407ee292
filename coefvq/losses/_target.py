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
            f"{loss} needs task 'multiclass' with more than two classes, got {task!r}: with two, "
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


def split(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probability of the label, of everything else, and of each other class among the others.

    Args:
        logits: (B, C), already divided by the temperature; −inf masks a class.
        labels: (B,) class indices.

    Returns:
        (B,), (B,) and (B, C); a class that cannot be has −1e30, and so has the label in the third.
    """
    own = F.one_hot(labels, logits.shape[-1]).bool()
    possible = logits.clamp_min(-IMPOSSIBLE)  # a row may have no other class than the label
    others = possible.masked_fill(own, -torch.inf)
    every = possible.logsumexp(-1)
    label = (possible.gather(-1, labels[:, None])[:, 0] - every).clamp_min(-IMPOSSIBLE)
    rest = (others.logsumexp(-1) - every).clamp_min(-IMPOSSIBLE)
    return label, rest, F.log_softmax(others, -1).clamp_min(-IMPOSSIBLE)


def kl(log_q: Tensor, log_p: Tensor) -> Tensor:
    """Σ p (log p − log q) over the last dimension."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)
