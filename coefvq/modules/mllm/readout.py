"""From the last hidden state of a sequence to answers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Answers:
    """What sequences were read out to, in float32.

    Args:
        logits: (B,) or (B, C).
        features: (B, D).
        sub_logits: (B, S); None without sub-labels.
        topk_indices: (B, 1, k) int64, the likeliest next tokens; None: not asked for.
        topk_logprobs: (B, 1, k) their log-probabilities, the likeliest first.
    """

    logits: Tensor
    features: Tensor
    sub_logits: Tensor | None
    topk_indices: Tensor | None = None
    topk_logprobs: Tensor | None = None


def last_hidden(hidden: Tensor, mask: Tensor) -> Tensor:
    """Take the state of the last token that counts.

    Args:
        hidden: (B, T, D).
        mask: (B, T) bool; at least one token counts in each row.

    Returns:
        (B, D).

    Example:
        >>> states = torch.arange(6.0).view(1, 3, 2)
        >>> last_hidden(states, torch.tensor([[True, True, False]]))
        tensor([[2., 3.]])
    """
    places = torch.arange(mask.shape[1], device=mask.device)
    last = places.masked_fill(~mask, -1).amax(1)
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


def likeliest_tokens(states: Tensor, words: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """What a language model would say next, as far as its k likeliest tokens tell.

    Args:
        states: (B, D) at the place of the answer.
        words: (V, D) rows of the language-model head.
        k: at most V.

    Returns:
        (B, 1, k) indices and (B, 1, k) natural log-probabilities over all V, float32, without
        gradient: one position, as `TeacherOutput` keeps them.

    >>> states, words = torch.tensor([[1.0]]), torch.tensor([[0.0], [3.0], [1.0]])
    >>> likeliest_tokens(states, words, 2)[0].tolist()
    [[[1, 2]]]
    """
    with torch.no_grad(), torch.autocast(states.device.type, enabled=False):
        logits = states.float() @ words.float().T
        found = logits.log_softmax(-1).topk(k, dim=-1)
        return found.indices[:, None], found.values[:, None]


class HeadReadOut(nn.Module):
    """A shared projection and one head per task: (main, sub-labels). Always in float32.

    Args:
        width: D of what is read.
        num_outputs: of the main head; 1 gives (B,).
        num_sub_labels: S; 0: no second head.
        features_width: of the projection, which is what students learn to imitate.
        dropout: on the features before the heads.
    """

    def __init__(
        self,
        width: int,
        num_outputs: int,
        num_sub_labels: int,
        features_width: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_outputs, self.dropout = num_outputs, dropout
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, features_width)
        self.main = nn.Linear(features_width, num_outputs)
        self.sub = nn.Linear(features_width, num_sub_labels) if num_sub_labels else None

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Answer.

        Args:
            states: (B, width).

        Returns:
            Logits (B,) or (B, num_outputs), features (B, features_width), sub-logits (B, S) or
            None; all float32.
        """
        with torch.autocast(states.device.type, enabled=False):
            features = F.gelu(self.project(self.norm(states.float())))
            x = F.dropout(features, self.dropout, self.training)
            logits = self.main(x)
            if self.num_outputs == 1:
                logits = logits.squeeze(-1)
            return logits, features, None if self.sub is None else self.sub(x)


class YesNoReadOut(nn.Module):
    """The logit of one answer word minus that of the other: their log-odds, in nats.

    The rows of the language model's own head are used, so nothing new is learned for the main
    task; the sub-labels have a linear head. Features are the state itself.

    Args:
        width: D of the language model.
        num_sub_labels: S; 0: none.
        dropout: on the features before the sub-labels' head.
    """

    def __init__(self, width: int, num_sub_labels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.sub = nn.Linear(width, num_sub_labels) if num_sub_labels else None

    def forward(self, states: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Answer.

        Args:
            states: (B, D).
            rows: (2, D) rows of the language-model head: for 1, for 0.

        Returns:
            Logits (B,), features (B, D), sub-logits (B, S) or None; all float32.
        """
        with torch.autocast(states.device.type, enabled=False):
            features = states.float()
            # Two rows, not their difference: rounding then is the language model's own.
            both = features @ rows.float().T
            x = F.dropout(features, self.dropout, self.training)
            return both[:, 0] - both[:, 1], features, None if self.sub is None else self.sub(x)


__all__ = ["Answers", "HeadReadOut", "YesNoReadOut", "last_hidden", "likeliest_tokens"]
