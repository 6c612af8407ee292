"""Means and deviations over what counts."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the tokens that count; 0 where none does.

    Args:
        tokens: (B, N, ...).
        mask: (B, N) bool; None: all count.

    Returns:
        (B, ...) in the dtype of the tokens, summed in float32.

    Example:
        >>> mask = torch.tensor([[True, True, False]])
        >>> masked_mean(torch.tensor([[[1.0], [3.0], [9.0]]]), mask)
        tensor([[2.]])
    """
    values = tokens.float()
    if mask is None:
        return values.mean(1).to(tokens.dtype)
    mask = mask.view(*mask.shape, *[1] * (tokens.dim() - 2))
    return (values.masked_fill(~mask, 0.0).sum(1) / mask.sum(1).clamp(min=1)).to(tokens.dtype)


def masked_statistics(tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean and deviation over the tokens that count; both 0 where none does.

    Args:
        tokens: (B, N, D).
        mask: (B, N) bool.

    Returns:
        (B, 2 D), mean first; computed in float32, returned in the dtype of the tokens.
    """
    values = tokens.float()
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean[:, None]).square(), mask)
    # The root has no slope at 0, where clips of one token and silent clips are.
    safe = variance > 1e-12
    deviation = torch.where(safe, torch.where(safe, variance, 1.0).sqrt(), 0.0)
    return torch.cat([mean, deviation], dim=-1).to(tokens.dtype)


__all__ = ["masked_mean", "masked_statistics"]
