"""Values whose gradient is known in closed form: fewer passes than autograd would make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from coefvq.losses._contract import IMPOSSIBLE


def wants_gradient(logits: Tensor) -> bool:
    """Whether a gradient for these logits can ever be asked for; if not, don't compute it."""
    return torch.is_grad_enabled() and logits.requires_grad


def with_gradient(logits: Tensor, values: Tensor, gradient: Tensor) -> Tensor:
    """Return `values`, and have autograd use `gradient`, shaped like the logits, for the logits.

    `values` have the logits' shape, or lack its last dimension. A second derivative is refused by
    autograd, because the gradient that was passed in is a constant.
    """
    if torch.compiler.is_compiling():
        # Not every torch from 2.5 traces a Function with setup_context, and those that do warn
        # about themselves. This says the same, for passes that the compiler fuses: z − z is 0,
        # its gradient is not. Only a logit of −inf has the gradient 0 here.
        z = logits.clamp(-IMPOSSIBLE, IMPOSSIBLE)
        zero = (z - z.detach()) * gradient
        return values + (zero if values.ndim == zero.ndim else zero.sum(-1))
    return _KnownGradient.apply(logits, values, gradient)  # type: ignore[no-any-return,no-untyped-call]


def with_slope(
    logits: Tensor, values: Tensor, slope: Callable[..., Tensor], *tensors: Tensor | None
) -> Tensor:
    """Return `values` (B,), and have autograd use `slope(logits, *tensors)` for the logits.

    It is called in backward, shaped like the logits and in a new tensor. Where gradients are
    enabled there, someone may want a second derivative: `slope` must then be made of steps that
    autograd can follow from the logits.
    """
    if torch.compiler.is_compiling():  # as above
        z = logits.clamp(-IMPOSSIBLE, IMPOSSIBLE)
        zero = (z - z.detach()) * slope(logits.detach(), *tensors)
        return values + (zero if values.ndim == zero.ndim else zero.sum(-1))
    return _KnownSlope.apply(logits, values, slope, *tensors)  # type: ignore[no-any-return,no-untyped-call]


class _KnownGradient(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, values: Tensor, gradient: Tensor) -> Tensor:
        return values.clone()  # (B,) or (B, L): an input handed through would be an alias

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], inputs[2])

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        logits, gradient = ctx.saved_tensors
        if upstream.ndim < gradient.ndim:
            upstream = upstream.unsqueeze(-1)
        once = _OnceOnly.apply(upstream * gradient, logits)  # type: ignore[no-untyped-call]
        return once, None, None


class _KnownSlope(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        logits: Tensor, values: Tensor, slope: Callable[..., Tensor], *tensors: Tensor | None
    ) -> Tensor:
        return values.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        logits, _, ctx.slope, *tensors = inputs
        ctx.save_for_backward(logits, *tensors)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        slope = ctx.slope(*ctx.saved_tensors)
        if upstream.ndim < slope.ndim:
            upstream = upstream.unsqueeze(-1)
        gradient = slope * upstream if torch.is_grad_enabled() else slope.mul_(upstream)
        return gradient, *[None] * (len(ctx.saved_tensors) + 1)


class _OnceOnly(torch.autograd.Function):
    """Hand a gradient on, and refuse to be differentiated: it is a constant to autograd.

    torch's `once_differentiable` would refuse only where the upstream gradient needs one.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, logits: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        return None

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[None, None]:
        raise RuntimeError(
            "this loss gives a first derivative only; for a second one, such as a gradient "
            "penalty, write the loss with torch's own functions"
        )
