"""The single pass behind `linear_kd_loss`: value and gradients, a chunk of tokens at a time.

n tokens, a vocabulary of V, hidden widths H. Per chunk: logits of both sides, divergence and its
gradient for the student's logits, and at once what that gradient gives for hidden states and head.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from coefvq.losses._topk import topk_divergence
from coefvq.losses.logit_kd import divergence, log_probabilities

_HALF: Final = (torch.float16, torch.bfloat16)

_CHUNK: Final = {"cpu": 2**24, "cuda": 2**27}
"""Logits held at a time, of each side. Larger is faster (the head's gradient is visited once per
chunk), and a GPU needs more rows than a CPU to be busy."""

_BLOCK: Final = {"cpu": 2**20, "cuda": 2**25}
"""Logits whose softmaxes are worked on at a time: the passes over them find them in the cache."""


class Linear(NamedTuple):
    """What makes logits: hidden (…, H), head (V, H), bias (V,) or None."""

    hidden: Tensor
    head: Tensor
    bias: Tensor | None


class Options(NamedTuple):
    """As the arguments of `linear_kd_loss`."""

    topk: str | None
    temperature: float
    direction: str
    beta: float
    compiled: bool
    chunk_size: int | None


def evaluate(
    student: Linear,
    teacher: Linear | tuple[Tensor, Tensor],
    mask: Tensor | None,
    shares: Tensor,
    weighted: bool,
    options: Options,
) -> Tensor:
    """Σ share · divergence · T² over the mask, differentiable for the student's tensors.

    The teacher is a `Linear`, or stored indices and log-probabilities. `shares` has one number
    per token, all the same within the mask unless `weighted`.
    """
    kept = None if mask is None else mask.flatten().nonzero()[:, 0]

    def rows(x: Tensor) -> Tensor:
        flat = x.detach().reshape(shares.numel(), *x.shape[shares.ndim :])
        return flat if kept is None else flat[kept]

    def ready(side: Linear) -> Linear:
        dtype = _factor_dtype(side.hidden, shares.dtype)
        bias = None if side.bias is None else side.bias.detach().to(shares.dtype)
        return Linear(rows(side.hidden).to(dtype), side.head.detach().to(dtype), bias)

    grad = torch.is_grad_enabled()
    wanted = [grad and x is not None and x.requires_grad for x in student]
    with torch.no_grad():
        value, gradients = _one_pass(
            ready(student),
            ready(teacher) if isinstance(teacher, Linear) else (rows(teacher[0]), rows(teacher[1])),
            rows(shares),
            weighted,
            options,
            wanted,
        )
        shaped = [
            None if x is None or g is None else g.to(x.dtype)
            for x, g in zip(student, gradients, strict=True)
        ]
        if shaped[0] is not None:
            if kept is not None:
                some, width = shaped[0], shaped[0].shape[1]
                shaped[0] = some.new_zeros(shares.numel(), width).index_copy_(0, kept, some)
            shaped[0] = shaped[0].reshape(student.hidden.shape)
    if not any(wanted):
        return value
    return _KnownGradients.apply(value, *student, *shaped)  # type: ignore[no-any-return,no-untyped-call]


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 stays, everything else is summed in float32."""
    return dtype if dtype == torch.float64 else torch.float32


def _factor_dtype(hidden: Tensor, summed: torch.dtype) -> torch.dtype:
    """The dtype of products' factors: a half only where the products themselves stay float32.

    Logits rounded to bfloat16 are the largest error of a loss in half precision, twice that of a
    gradient rounded before it is multiplied. Autocast is followed as by any linear layer.
    """
    dtype, device = hidden.dtype, hidden.device.type
    if torch.is_autocast_enabled(device) and dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
    overloads: list[str] = torch.ops.aten.addmm.overloads()  # type: ignore[no-untyped-call]
    kept = device == "cuda" and "dtype_out" in overloads  # torch 2.8
    return dtype if dtype in _HALF and summed == torch.float32 and kept else summed


def _one_pass(
    student: Linear,
    teacher: Linear | tuple[Tensor, Tensor],
    shares: Tensor,
    weighted: bool,
    options: Options,
    wanted: Sequence[bool],
) -> tuple[Tensor, tuple[Tensor | None, ...]]:
    """Value, and gradients for hidden, head and bias, of n tokens that all count."""
    (hidden, head, bias), dtype = student, shares.dtype
    (n, width), vocabulary, device = hidden.shape, len(head), hidden.device
    kind = "cpu" if device.type == "cpu" else "cuda"
    chunk = options.chunk_size or max(1, _CHUNK[kind] // vocabulary)
    size = -(-n // max(1, -(-n // chunk)))  # chunks as even as can be
    block = size if options.compiled else max(1, _BLOCK[kind] // vocabulary)
    compare = _fused() if options.compiled else _compare

    def empty(*shape: int, of: torch.dtype = dtype) -> Tensor:
        return torch.empty(shape, dtype=of, device=device)

    z_chunk = empty(size, vocabulary)
    t_chunk = empty(size, vocabulary) if isinstance(teacher, Linear) else z_chunk
    g_chunk = z_chunk if head.dtype == dtype else empty(size, vocabulary, of=head.dtype)
    for_hidden = empty(n, width) if wanted[0] else None
    for_head = torch.zeros_like(head, dtype=dtype) if wanted[1] else None
    for_bias = empty(vocabulary).zero_() if wanted[2] else None
    # What all tokens' shares have in common comes last, where half precision cannot round it.
    common = shares.max() if n else shares.sum()
    weights = shares / torch.where(common > 0, common, 1.0)
    value = torch.zeros_like(common)
    for start in range(0, n, max(size, 1)):
        some = slice(start, min(start + size, n))
        z, g, weight = (x[: some.stop - start] for x in (z_chunk, g_chunk, weights[some]))
        _logits(Linear(hidden[some], head, bias), z)
        if isinstance(teacher, Linear):
            t = t_chunk[: some.stop - start]
            _logits(Linear(teacher.hidden[some], teacher.head, teacher.bias), t)
            target: tuple[Tensor, ...] = (t,)
        else:
            target = (teacher[0][some], teacher[1][some])
        for first in range(0, len(z), max(block, 1)):
            part = slice(first, first + block)
            values, gradient = compare(z[part], [x[part] for x in target], options, any(wanted))
            value += (weight[part] * values).sum()
            if gradient is None:
                continue
            if weighted:
                gradient.mul_(weight[part, None])
            if gradient.data_ptr() != g[part].data_ptr():
                g[part].copy_(gradient)
        if for_hidden is not None:
            _multiply(g, head, for_hidden[some])
        if for_head is not None:
            _add_product(for_head, g.t(), hidden[some])
        if for_bias is not None:
            for_bias += g.sum(0, dtype=dtype)
    scale = common * options.temperature  # T² in the value is T in the gradient: that is for z / T
    gradients = (None if x is None else x.mul_(scale) for x in (for_hidden, for_head, for_bias))
    return value * scale * options.temperature, tuple(gradients)


def _compare(
    z: Tensor, target: list[Tensor], options: Options, wanted: bool
) -> tuple[Tensor, Tensor | None]:
    """Divergence of some rows, and its gradient for the student's logits over T."""
    temperature, direction, beta = options.temperature, options.direction, options.beta
    if options.topk is not None:
        return topk_divergence(
            z,
            *target,
            topk=options.topk,
            temperature=temperature,
            direction=direction,
            beta=beta,
            wanted=wanted,
        )
    log_q, log_p = (log_probabilities(x, "multiclass", temperature) for x in (z, target[0]))
    return divergence(log_q, log_p, direction, beta, wanted)


@functools.cache
def _fused() -> Callable[..., tuple[Tensor, Tensor | None]]:
    return torch.compile(_compare)


def _logits(side: Linear, out: Tensor) -> None:
    _multiply(side.hidden, side.head.t(), out)
    if side.bias is not None:
        out += side.bias


def _multiply(a: Tensor, b: Tensor, out: Tensor) -> None:
    torch.mm(a, b, **_products(a, out), out=out)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    torch.addmm(total, a, b, **_products(a, total), out=total)


def _products(factor: Tensor, out: Tensor) -> dict[str, Any]:
    return {} if factor.dtype == out.dtype else {"out_dtype": out.dtype}


class _KnownGradients(torch.autograd.Function):
    """A scalar whose gradients for the student's tensors were worked out along with it."""

    @staticmethod
    def forward(
        ctx: Any,
        value: Tensor,
        hidden: Tensor,
        head: Tensor,
        bias: Tensor | None,
        *gradients: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(*gradients)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # a constant's derivative would be taken for 0 in silence
            raise RuntimeError(
                "linear_kd_loss is differentiable once but backward was called with create_graph; "
                "take the second derivative of a term without it"
            )
        gradients = ctx.saved_tensors
        if upstream.device.type != "cpu" or upstream != 1:  # a GPU would make the host wait for it
            gradients = tuple(None if g is None else g * upstream for g in gradients)
        return None, *gradients, None, None, None
