"""Cross-modal layers: text asks, pictures and sound answer.

Written here because `BertModel(add_cross_attention=True)` turns causal under a two-dimensional
mask. Names are ours; `coefvq.modules.checkpoints` maps BERT's and X-VLM's onto them.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention, residual and layer norm after it, as in BERT.

    Args:
        width: D of the queries and of the result.
        memory_width: of keys and values.
        heads: they divide the width.
        dropout: on attention weights and on the result.
    """

    def __init__(self, width: int, memory_width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(memory_width, width)
        self.value = nn.Linear(memory_width, width)
        self.output = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend from (B, T, D) to (B, N, memory_width) where `mask` (B, N) is True."""
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(
            self._split(self.query(x)),
            self._split(self.key(memory)),
            self._split(self.value(memory)),
            attn_mask=None if mask is None else mask[:, None, None, :],
            dropout_p=dropout,
        )
        attended = self.output(attended.transpose(1, 2).flatten(2))
        return self.norm(x + F.dropout(attended, self.dropout, self.training))


class FeedForward(nn.Module):
    """Two linear maps with GELU between them, residual and layer norm after it, as in BERT."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        change = self.contract(F.gelu(self.expand(x)))
        return self.norm(x + F.dropout(change, self.dropout, self.training))


class CrossModalLayer(nn.Module):
    """Self-attention over text, cross-attention to the memory, feed-forward.

    Args:
        width: D of the text.
        memory_width: of the memory tokens (X-VLM gives vision tokens as they are, no projection).
        heads: they divide the width.
        feedforward: hidden width.
        dropout: everywhere.
    """

    def __init__(
        self, width: int, memory_width: int, heads: int, feedforward: int, dropout: float
    ) -> None:
        super().__init__()
        self.self_attention = Attention(width, width, heads, dropout)
        self.cross_attention = Attention(width, memory_width, heads, dropout)
        self.feedforward = FeedForward(width, feedforward, dropout)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        text_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        """Mix.

        Args:
            x: (B, T, D) text.
            memory: (B, N, memory_width) tokens of the other modalities.
            text_mask: (B, T) bool, True where a token counts; None: all.
            memory_mask: (B, N) bool, True where a token counts; at least one per clip. None: all.

        Returns:
            (B, T, D).
        """
        x = self.self_attention(x, x, text_mask)
        x = self.cross_attention(x, memory, memory_mask)
        return self.feedforward(x)


class CrossModalEncoder(nn.Module):
    """A stack of `CrossModalLayer`; X-VLM has six, taken from BERT's layers 6 to 11.

    Args:
        layers: how many.
        width: see `CrossModalLayer`, as the rest.
        memory_width: see `CrossModalLayer`.
        heads: see `CrossModalLayer`.
        feedforward: see `CrossModalLayer`.
        dropout: see `CrossModalLayer`.
    """

    def __init__(
        self,
        *,
        layers: int,
        width: int,
        memory_width: int,
        heads: int,
        feedforward: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            CrossModalLayer(width, memory_width, heads, feedforward, dropout) for _ in range(layers)
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        text_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        """Mix layer by layer; arguments and result as in `CrossModalLayer.forward`."""
        for layer in self.layers:
            x = layer(x, memory, text_mask, memory_mask)
        return x


__all__ = ["Attention", "CrossModalEncoder", "CrossModalLayer", "FeedForward"]
