"""Optimizers' parameter groups and learning-rate schedules, as plain functions.

Called by the distiller: `optimizer(parameter_groups(model, …))`, then
`scheduler(optimizer, total_steps=…)`.
"""

from __future__ import annotations

import math

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler


def parameter_groups(*modules: nn.Module) -> list[dict]:
    """Split trainable parameters into those that are decayed and those that are not.

    Biases, norms and other vectors get no weight decay, as in X-VLM's fine-tuning and most
    transformers since BERT. A module may hold a number `lr_scale` (X-VLM: 2 for new layers); the
    parameters below it start at the optimizer's learning rate times that number.

    Args:
        modules: models and objectives; a shared parameter is counted once.

    Returns:
        Groups for a torch optimizer, each with `params`, and where they differ from the optimizer's
        own settings `weight_decay` and `lr_scale`. Empty groups are left out.
    """
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    seen: set[int] = set()

    def visit(module: nn.Module, scale: float) -> None:
        scale = getattr(module, "lr_scale", scale)
        for parameter in module.parameters(recurse=False):
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                groups.setdefault((parameter.ndim > 1, scale), []).append(parameter)
        for child in module.children():
            visit(child, scale)

    for module in modules:
        visit(module, 1.0)
    return [
        {"params": params, "lr_scale": scale} | ({} if decayed else {"weight_decay": 0.0})
        for (decayed, scale), params in groups.items()
    ]


def scale_learning_rates(optimizer: Optimizer) -> Optimizer:
    """Multiply each group's learning rate by its `lr_scale`; returns the optimizer."""
    for group in optimizer.param_groups:
        group["lr"] *= group.get("lr_scale", 1.0)
    return optimizer


def _check_warmup(warmup: float) -> None:
    if not 0.0 <= warmup < 1.0:
        raise ValueError(
            f"scheduler.warmup is a share of all steps in [0, 1), got {warmup}; "
            "give 0.1 for a tenth of the run"
        )


def one_cycle(optimizer: Optimizer, total_steps: int, *, warmup: float = 0.3) -> LRScheduler:
    """Cosine up from 1/25 of the learning rate, cosine down to nearly nothing.

    The shape is Smith and Topin's one-cycle policy (2018) without its momentum cycle.

    Args:
        optimizer: its learning rates are the peak.
        total_steps: optimizer steps of the whole run.
        warmup: share of the steps on the way up, in [0, 1).
    """
    _check_warmup(warmup)
    up = max(1.0, warmup * total_steps)

    def factor(step: int) -> float:
        if step < up:
            return 0.04 + 0.96 * (1 - math.cos(math.pi * step / up)) / 2
        progress = min(1.0, (step - up) / max(1.0, total_steps - up))
        return 1e-4 + (1 - 1e-4) * (1 + math.cos(math.pi * progress)) / 2

    return LambdaLR(optimizer, factor)


def linear_warmup(optimizer: Optimizer, total_steps: int, *, warmup: float = 0.1) -> LRScheduler:
    """Linear up over the first steps, linear down to 0: X-VLM's and BERT's fine-tuning schedule.

    Args:
        optimizer: its learning rates are the peak.
        total_steps: optimizer steps of the whole run.
        warmup: share of the steps on the way up, in [0, 1).
    """
    _check_warmup(warmup)
    up = max(1.0, warmup * total_steps)

    def factor(step: int) -> float:
        if step < up:
            return (step + 1) / (up + 1)
        return max(0.0, (total_steps - step) / max(1.0, total_steps - up))

    return LambdaLR(optimizer, factor)


def constant(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """The optimizer's own learning rate throughout; `total_steps` is not needed."""
    return LambdaLR(optimizer, lambda step: 1.0)
