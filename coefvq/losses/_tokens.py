"""What the losses over tokens share: their options, and what each token counts."""

from __future__ import annotations

import torch
from torch import Tensor

from coefvq.losses._arguments import check_tensor, settled
from coefvq.losses._contract import check_weight
from coefvq.losses._topk import check_topk_options, check_topk_values
from coefvq.losses.logit_kd import _check_options as _check_kd_options


def check_token_options(
    temperature: float, direction: str, beta: float, reduction: str, topk: str | None
) -> None:
    """Refuse unknown options, and those that do not go together."""
    _check_kd_options("multiclass", temperature, direction, beta, reduction)
    if topk is not None:
        check_topk_options(topk, temperature, direction)


def check_one_teacher(
    dense: bool, name: str, topk: str | None, indices: Tensor | None, logprobs: Tensor | None
) -> None:
    """Refuse no teacher, two teachers and half a teacher."""
    if (indices is None) != (logprobs is None):
        raise ValueError("a stored teacher needs both topk_indices and topk_logprobs; got only one")
    if dense == (indices is not None):
        raise ValueError(
            f"got {'both' if dense else 'neither'} {name} {'and' if dense else 'nor'} "
            "topk_indices; pass one teacher: "
            f"{name}, or topk_indices with topk_logprobs"
        )
    if dense and topk is not None:
        raise ValueError(
            f"topk {topk!r} says what a stored teacher means but {name} hold the whole vocabulary; "
            "leave topk at None"
        )
    if not dense and topk is None:
        raise ValueError(
            "topk_indices need their meaning; set topk to one of raw, tail, renormalized, "
            "teacher_renormalized"
        )


def check_stored(
    indices: Tensor,
    logprobs: Tensor,
    mask: Tensor | None,
    tokens: tuple[int, ...],
    vocabulary: int,
) -> tuple[Tensor, Tensor]:
    """Check a stored teacher (*tokens, k); return it detached, and harmless outside the mask."""
    check_tensor("topk_indices", indices)
    check_tensor("topk_logprobs", logprobs)
    shape = tuple(indices.shape)
    if shape != tuple(logprobs.shape) or shape[:-1] != tokens or not shape or shape[-1] == 0:
        expected = ", ".join(map(str, (*tokens, "k")))
        raise ValueError(
            f"topk_indices have shape {shape} and topk_logprobs {tuple(logprobs.shape)}; "
            f"the student asks for ({expected}) with k from 1"
        )
    if indices.is_floating_point() or not logprobs.is_floating_point():
        raise ValueError(
            f"topk_indices must be integers and topk_logprobs floating point, got {indices.dtype} "
            f"and {logprobs.dtype}; check their order"
        )
    indices, logprobs = settled(indices).long(), settled(logprobs)
    if indices.device.type == "cpu" and not torch.compiler.is_compiling():
        if mask is None:
            check_topk_values(indices.flatten(0, -2), logprobs.flatten(0, -2), vocabulary)
        else:
            check_topk_values(indices[mask], logprobs[mask], vocabulary)
    if mask is not None:  # padding such as −1 is no token
        indices = torch.where(mask[..., None], indices, 0)
    return indices, logprobs


def token_shares(
    like: Tensor,
    mask: Tensor | None,
    sample_weight: Tensor | None,
    reduction: str,
    num_valid_tokens: float | Tensor | None,
) -> Tensor:
    """What each token counts: the loss is the sum of divergence times share.

    `like` has one number per token, (N,) or (B, T); so have the shares. A mean divides by the
    weights of the tokens in the mask, or by the number it was given; an empty mean is 0.
    """
    if mask is not None:
        check_tensor("mask", mask)
    if mask is not None and mask.dtype != torch.bool:
        raise ValueError(f"mask must be bool with True where a token counts, got {mask.dtype}")
    if mask is not None and mask.shape != like.shape:
        raise ValueError(
            f"mask has shape {tuple(mask.shape)} but the tokens ask for {tuple(like.shape)}"
        )
    _check_number(num_valid_tokens, reduction)
    weight = check_weight(sample_weight, like)
    shares = torch.ones_like(like)
    if weight is not None:
        shares = shares * weight.reshape(-1, *[1] * (like.ndim - 1))
    if mask is not None:
        shares = torch.where(mask, shares, 0.0)
    if reduction != "mean":
        return shares
    if num_valid_tokens is not None:
        return shares / num_valid_tokens
    total = shares.sum()
    return shares / torch.where(total > 0, total, 1.0)


def _check_number(number: float | Tensor | None, reduction: str) -> None:
    if number is None:
        return
    if reduction != "mean":
        raise ValueError(
            f"num_valid_tokens replaces what a mean divides by, got it with reduction "
            f"{reduction!r}; leave it at None or use 'mean'"
        )
    if isinstance(number, Tensor):
        if number.ndim != 0:
            raise ValueError(
                f"num_valid_tokens must be one number, got a tensor of shape {tuple(number.shape)}"
            )
        if number.device.type != "cpu" or torch.compiler.is_compiling():
            return
    if not number > 0:
        raise ValueError(
            f"num_valid_tokens must be above 0, got {number}; count the tokens that the mask keeps"
        )
