"""Fit how a deferred clip is answered from both scores."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from coefvq.cascade.arrays import Task, Values, check_labels, check_logits, check_weight
from coefvq.cascade.calibrate import minimise
from coefvq.cascade.stack import Stack


def fit_stack(
    light_logits: Values,
    heavy_logits: Values,
    labels: Values,
    *,
    task: Task,
    penalty: float = 1e-3,
    sample_weight: Values | None = None,
) -> Stack:
    """Fit a small logistic regression over both calibrated logits.

    The penalty is on the squared distance from light 0, heavy 1, bias 0: with few clips it answers
    like the heavy model alone. Fitted on all clips given, whatever the threshold, so that moving a
    budget doesn't change the answers of those that were deferred before.

    Args:
        light_logits: (N,), (N, C) or (N, L), calibrated, finite.
        heavy_logits: likewise.
        labels: (N,), or (N, L) for multilabel.
        task: what they mean.
        penalty: above 0.
        sample_weight: (N,), finite and at least 0; None: all count alike.

    Raises:
        ValueError: shapes or labels that don't fit, infinite logits, no clip.
    """
    light = check_logits(light_logits, task, what="light_logits")
    heavy = check_logits(heavy_logits, task, what="heavy_logits")
    if light.shape != heavy.shape or not len(light):
        raise ValueError(
            f"a stack is fitted on clips that both models scored, got light_logits of shape "
            f"{light.shape} and heavy_logits of shape {heavy.shape}"
        )
    if not (np.isfinite(light).all() and np.isfinite(heavy).all()):
        raise ValueError("a stack is fitted on finite logits; leave clips with masked classes out")
    if not penalty > 0:
        raise ValueError(f"penalty must be above 0, got {penalty!r}")
    y = torch.from_numpy(check_labels(labels, light, task))
    weight = check_weight(sample_weight, len(light))
    share = torch.from_numpy(weight / weight.sum())
    z1, z2 = torch.from_numpy(light.copy()), torch.from_numpy(heavy.copy())
    columns = light.shape[1] if task != "binary" else 1
    weights = columns if task == "multilabel" else 1
    a, b = (torch.full((weights,), float(v), dtype=torch.float64) for v in (0, 1))
    c = torch.zeros(columns, dtype=torch.float64)
    for parameter in (a, b, c):
        parameter.requires_grad_()

    def loss() -> Tensor:
        made = a * z1 + b * z2 + c
        if task == "multiclass":
            each = F.cross_entropy(made, y, reduction="none")
        else:
            each = F.binary_cross_entropy_with_logits(made, y.double(), reduction="none")
            each = each.sum(dim=1) if each.ndim == 2 else each
        pull = (a**2).sum() + ((b - 1) ** 2).sum() + (c**2).sum()
        return (share * each).sum() + penalty * pull

    minimise([a, b, c], loss)
    return Stack(*(tuple(v.detach().tolist()) for v in (a, b, c)))
