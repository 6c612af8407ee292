"""Task heads."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class TaskHead(nn.Module):
    """Linear – LayerNorm – GELU – Linear, X-VLM's own head.

    Args:
        width: D of the features.
        num_outputs: width of the logits; 1 gives (B,) as binary and regression tasks want.
        dropout: on the hidden layer (X-VLM has none).

    Example:
        >>> import torch
        >>> TaskHead(8, 1)(torch.zeros(3, 8)).shape, TaskHead(8, 5)(torch.zeros(3, 8)).shape
        (torch.Size([3]), torch.Size([3, 5]))
    """

    def __init__(self, width: int, num_outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        if num_outputs < 1:
            raise ValueError(f"a head needs at least one output, got num_outputs={num_outputs}")
        self.num_outputs, self.dropout = num_outputs, dropout
        self.hidden = nn.Linear(width, 2 * width)
        self.norm = nn.LayerNorm(2 * width)
        self.output = nn.Linear(2 * width, num_outputs)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, num_outputs), or (B,) for one output."""
        x = F.gelu(self.norm(self.hidden(features)))
        logits = self.output(F.dropout(x, self.dropout, self.training))
        return logits.squeeze(-1) if self.num_outputs == 1 else logits


__all__ = ["TaskHead"]
