"""What is left of a picture when its smooth part is taken away: where blur and noise live."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NUM_RESIDUALS = 4
"""Filters per scale."""

# Luma of the usual weights (0.299, 0.587, 0.114), for pixels of about unit deviation, in grey
# levels of 0..255: the logarithm below then bends at one level, the size of coding noise.
_LUMA = (17.1, 33.5, 6.5)


def luma(pixels: Tensor) -> Tensor:
    """Brightness in grey levels, up to a constant: (N, 3, h, w) normalised -> (N, h, w)."""
    weights = torch.tensor(_LUMA, dtype=pixels.dtype, device=pixels.device)
    return torch.einsum("nchw,c->nhw", pixels, weights)


def residuals(grey: Tensor) -> Tensor:
    """Log-magnitudes of four high-pass filters, at every pixel; no parameters.

    Differences to the left and the upper neighbour, the Laplacian, and the second difference
    taken both ways, as in the steganalysis of pictures (Fridrich and Kodovský, 2012, first- and
    second-order residuals). Blur empties them, noise fills them, compression puts zeros in them.

    Args:
        grey: (N, h, w) in grey levels; edges are repeated.

    Returns:
        (N, 4, h, w): log(1 + |residual|) − 1, so about zero mean.
    """
    around = F.pad(grey[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    rows, columns = around[:, 1:-1], around[:, :, 1:-1]
    left = rows[:, :, 1:-1] - rows[:, :, :-2]
    up = columns[:, 1:-1] - columns[:, :-2]
    across = rows[:, :, 2:] - 2 * grey + rows[:, :, :-2]
    down = columns[:, 2:] - 2 * grey + columns[:, :-2]
    second = around[:, :, 2:] - 2 * columns + around[:, :, :-2]
    both = second[:, 2:] - 2 * second[:, 1:-1] + second[:, :-2]
    return torch.stack([left, up, across + down, both], dim=1).abs().log1p() - 1


def residual_statistics(grey: Tensor, scales: int) -> tuple[Tensor, Tensor]:
    """Residuals at full size, and their mean and deviation at several sizes.

    Args:
        grey: (N, h, w) in grey levels.
        scales: sizes; each halves the picture, so h and w must be at least 2^(scales − 1).

    Returns:
        (N, 4, h, w) residuals, and (N, 8 · scales) statistics: mean and deviation of each filter,
        size by size.
    """
    maps, statistics = None, []
    for scale in range(scales):
        if scale:
            grey = F.avg_pool2d(grey[:, None], 2)[:, 0]
        current = residuals(grey)
        maps = current if maps is None else maps
        values = current.float().flatten(-2)
        # Two passes: torch.var_mean takes seven times as long on a CPU.
        mean = values.mean(-1, keepdim=True)
        variance = (values - mean).square().mean(-1)
        statistics += [mean.squeeze(-1), (variance + 1e-5).sqrt()]
    assert maps is not None, "scales is at least 1"
    return maps, torch.cat(statistics, dim=-1).to(maps.dtype)


__all__ = ["NUM_RESIDUALS", "luma", "residual_statistics", "residuals"]
