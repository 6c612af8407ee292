"""Bidirectional cross-attention: two sequences read each other through one score matrix."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last dimension where `mask` (broadcast) is True; all 0 where nothing is.

    Computed in float32, given back in the dtype of the scores.

    Example:
        >>> masked_softmax(torch.zeros(2, 2), torch.tensor([[True, True], [False, False]]))
        tensor([[0.5000, 0.5000],
                [0.0000, 0.0000]])
    """
    # A finite filler: a row of -inf would be NaN, and a NaN's gradient stays one under a mask.
    weights = scores.float().masked_fill(~mask, torch.finfo(torch.float32).min).softmax(-1)
    return weights.masked_fill(~mask, 0.0).to(scores.dtype)


class MLP(nn.Sequential):
    """Layer norm, expand, GELU, contract."""

    def __init__(self, width: int, ratio: int, dropout: float) -> None:
        super().__init__(
            nn.LayerNorm(width),
            nn.Linear(width, ratio * width),
            nn.GELU(),
            nn.Linear(ratio * width, width),
            nn.Dropout(dropout),
        )


class BiXTLayer(nn.Module):
    r"""One layer of bidirectional cross-attention (Hiller et al., NeurIPS 2024).

    Each side makes references r and values v; with :math:`A = r_a r_b^\top / \sqrt{d}` per head,

    .. math:: a \leftarrow a + W_a\,\mathrm{softmax}(A)\,v_b, \qquad
              b \leftarrow b + W_b\,\mathrm{softmax}(A^\top)\,v_a,

    and then an MLP on each side; layer norm before each. Masks are our addition. A token whose
    other side is empty learns nothing from it and only passes its MLP.

    Args:
        width: D of both sides.
        heads: they divide the width.
        mlp_ratio: hidden width of the MLPs, in widths.
        dropout: on what is added to a token.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads={heads} must divide width={width}")
        self.heads, self.dropout = heads, dropout
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.reference_value = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(2))
        self.output = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.mlp = nn.ModuleList(MLP(width, mlp_ratio, dropout) for _ in range(2))

    def _split(self, side: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D) -> references and values, each (B, heads, T, D / heads)."""
        both = self.reference_value[side](self.norm[side](x))
        references, values = both.unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return references, values

    def forward(self, a: Tensor, b: Tensor, a_mask: Tensor, b_mask: Tensor) -> tuple[Tensor, ...]:
        """Mix.

        Args:
            a: (B, T, D); finite under its mask too.
            b: (B, N, D), the same.
            a_mask: (B, T) bool, True where a token counts; a clip may have none.
            b_mask: (B, N) bool, the same.

        Returns:
            The new (B, T, D) and (B, N, D), 0 where masked.
        """
        (a_references, a_values), (b_references, b_values) = self._split(0, a), self._split(1, b)
        scores = a_references @ b_references.transpose(-1, -2) * a_references.shape[-1] ** -0.5
        from_b = masked_softmax(scores, b_mask[:, None, None, :]) @ b_values
        from_a = masked_softmax(scores.transpose(-1, -2), a_mask[:, None, None, :]) @ a_values
        sides = []
        for side, (x, mask, attended, other) in enumerate(
            ((a, a_mask, from_b, b_mask), (b, b_mask, from_a, a_mask))
        ):
            change = self.output[side](attended.transpose(1, 2).flatten(2))
            # The bias of the output map must not tell what an empty side has said.
            change = change.masked_fill(~other.any(-1)[:, None, None], 0.0)
            x = x + F.dropout(change, self.dropout, self.training)
            sides.append((x + self.mlp[side](x)).masked_fill(~mask[..., None], 0.0))
        return tuple(sides)


class BiXT(nn.Module):
    """A stack of `BiXTLayer`.

    Args:
        layers: how many.
        width: see `BiXTLayer`, as the rest.
        heads: see `BiXTLayer`.
        mlp_ratio: see `BiXTLayer`.
        dropout: see `BiXTLayer`.
    """

    def __init__(
        self, *, layers: int, width: int, heads: int, mlp_ratio: int = 4, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            BiXTLayer(width, heads, mlp_ratio, dropout) for _ in range(layers)
        )

    def forward(self, a: Tensor, b: Tensor, a_mask: Tensor, b_mask: Tensor) -> tuple[Tensor, ...]:
        """Mix layer by layer; arguments and result as in `BiXTLayer.forward`."""
        for layer in self.layers:
            a, b = layer(a, b, a_mask, b_mask)
        return a, b


__all__ = ["MLP", "BiXT", "BiXTLayer", "masked_softmax"]
