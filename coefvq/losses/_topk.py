"""A teacher stored as its k likeliest tokens: what is compared, and the gradient of that.

n tokens, a vocabulary of V, k entries stored for each token.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import torch
from torch import Tensor

from coefvq.losses._contract import IMPOSSIBLE, check_choice
from coefvq.losses.logit_kd import divergence, log_probabilities

TopK = Literal["raw", "tail", "renormalized", "teacher_renormalized"]
"""What is done about the tokens that were not stored; `token_kd_loss` defines the four."""

_ROUNDING: Final = 1e-2
"""Mass that stored probabilities may be off by, generous enough for float16 and bfloat16."""


def check_topk_options(topk: str, temperature: float, direction: str) -> None:
    """Refuse an unknown meaning, and what cannot be computed from k entries."""
    check_choice("topk", topk, get_args(TopK))
    if topk in ("raw", "tail") and temperature != 1:
        raise ValueError(
            f"topk {topk!r} needs temperature 1, got {temperature}: the normaliser of the softened "
            "teacher was not stored; choose topk 'renormalized' or 'teacher_renormalized'"
        )
    if topk in ("raw", "teacher_renormalized") and direction != "forward":
        raise ValueError(
            f"topk {topk!r} needs direction 'forward', got {direction!r}: the student's mass on "
            "other tokens meets no teacher; choose topk 'tail' or 'renormalized'"
        )


def check_topk_values(indices: Tensor, logprobs: Tensor, vocabulary: int) -> None:
    """Refuse entries (n, k) that cannot be a teacher's; reads them, so for CPU tensors only."""
    outside = (indices < 0) | (indices >= vocabulary)
    if bool(outside.any()):
        raise ValueError(
            f"topk_indices hold {indices[outside][0].item()}, which is not a token from 0 to "
            f"{vocabulary - 1} (V = {vocabulary})"
        )
    if bool((indices.sort(-1).values.diff(dim=-1) == 0).any()):
        raise ValueError("topk_indices hold a token twice at one position; store each once")
    mass = logprobs.exp().sum(-1)
    wrong = ~(mass <= 1 + _ROUNDING)  # also true for NaN
    if bool(wrong.any()):
        raise ValueError(
            f"topk_logprobs at one position add up to a probability of {mass[wrong][0].item():g}; "
            "store log-probabilities, log_softmax over the whole vocabulary"
        )


def topk_divergence(
    z: Tensor,
    indices: Tensor,
    logprobs: Tensor,
    *,
    topk: str,
    temperature: float,
    direction: str,
    beta: float,
    wanted: bool,
) -> tuple[Tensor, Tensor | None]:
    """Divergence (n,), and where wanted its gradient (n, V) for the student's logits over T.

    Works in the memory of the student's logits `z` (n, V), and returns the gradient there. The
    student is cut down to the outcomes that the meaning compares, k or k + 1 of them, and their
    gradient is dealt out to the logits again: the rest's in proportion to its probabilities.
    """
    if temperature != 1:
        z.div_(temperature)
    chosen = z.gather(-1, indices).clamp_min_(-IMPOSSIBLE)
    stored = logprobs.to(z.dtype).clamp_min(-IMPOSSIBLE)
    if topk == "renormalized":
        log_q = log_probabilities(chosen, "multiclass", 1.0)
        log_p = log_probabilities(stored, "multiclass", temperature)
        values, gradient = divergence(log_q, log_p, direction, beta, wanted)
        if gradient is None:
            return values, None
        return values, z.zero_().scatter_(-1, indices, gradient)
    # The other tokens' logsumexp, not log(1 − Σ q), which loses its digits as Σ q nears 1.
    z.scatter_(-1, indices, -torch.inf)
    top = z.amax(-1, keepdim=True).clamp_min_(-IMPOSSIBLE)
    rest = z.sub_(top).exp_()
    mass = rest.sum(-1, keepdim=True)
    log_rest = (mass.log() + top).clamp_min_(-IMPOSSIBLE)
    log_q = log_probabilities(torch.cat([chosen, log_rest], -1), "multiclass", 1.0)
    if topk == "tail":
        log_p = torch.cat([stored, _log_tail(stored, log_q[..., -1:])], -1)
        log_p = log_probabilities(log_p, "multiclass", 1.0)
        values, gradient = divergence(log_q, log_p, direction, beta, wanted)
    else:
        if topk == "teacher_renormalized":
            stored = log_probabilities(stored, "multiclass", temperature)
        log_p = torch.cat([stored, torch.full_like(log_rest, -IMPOSSIBLE)], -1)
        missing = 1 - stored.exp().sum(-1, keepdim=True)
        q = log_q.exp()
        values, gradient = divergence(log_q, log_p, direction, beta, wanted)
        if gradient is not None:  # Σ p · q − p, and `divergence` takes Σ p for 1
            gradient = gradient.sub_(missing.mul(q))
    if gradient is None:
        return values, None
    rest.mul_(gradient[..., -1:] / mass.clamp_min(torch.finfo(z.dtype).tiny))
    return values, rest.scatter_(-1, indices, gradient[..., :-1])


def _log_tail(stored: Tensor, student_tail: Tensor) -> Tensor:
    """log(1 − Σ p), (n, 1), from log p (n, k).

    It is at least one unit of rounding, because 0 cannot be told from it and would cost a student
    1e30 in the reverse direction. Where the student has no other token, mass up to the rounding of
    a stored teacher is not charged to it.
    """
    mass = -torch.expm1(stored.logsumexp(-1, keepdim=True))
    tail = mass.clamp_min(torch.finfo(stored.dtype).eps).log()
    none = (student_tail <= -IMPOSSIBLE / 2) & (mass <= _ROUNDING)
    return torch.where(none, -IMPOSSIBLE, tail)
