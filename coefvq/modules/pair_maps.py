"""Maps of a pair: each token of a query against each token of a candidate.

Sequences are brought to N tokens first, so that every map is N x N and all of them can be laid
over each other as channels. E counts the sequences that get a learned map, K those that get a
cosine map.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coefvq.modules.decision import BasicBlock, Norm


def pool_tokens(tokens: Tensor, mask: Tensor, slots: int) -> tuple[Tensor, Tensor]:
    """Bring sequences to `slots` tokens: short ones keep theirs, long ones are averaged in runs.

    Tokens that count are numbered in their order; of n > slots, number r goes to slot
    floor(r · slots / n). So it does not matter how far a clip was padded.

    Args:
        tokens: (B, T, D); what is under the mask is never read.
        mask: (B, T) bool, True where a token counts.
        slots: N.

    Returns:
        (B, N, D) tokens, 0 where masked, and their (B, N) bool mask.

    Example:
        >>> tokens = torch.tensor([[1.0, 9.0, 3.0, 5.0, 7.0], [2.0, 4.0, 0.0, 0.0, 0.0]])[..., None]
        >>> mask = torch.tensor([[1, 0, 1, 1, 1], [1, 1, 0, 0, 0]]).bool()
        >>> pool_tokens(tokens, mask, 2)[0].squeeze(-1)
        tensor([[2., 6.],
                [2., 4.]])
    """
    rank = mask.cumsum(-1) - 1
    count = mask.sum(-1, keepdim=True)
    long = torch.div(rank * slots, count.clamp(min=1), rounding_mode="floor")
    place = torch.where(count > slots, long, rank)
    chosen = (place[..., None] == torch.arange(slots, device=tokens.device)) & mask[..., None]
    sizes = chosen.sum(1)
    clean = tokens.masked_fill(~mask[..., None], 0.0)
    pooled = chosen.transpose(1, 2).to(clean.dtype) @ clean / sizes.clamp(min=1)[..., None]
    return pooled.to(tokens.dtype), sizes > 0


def cosine_maps(query: Tensor, candidate: Tensor) -> Tensor:
    """Cosine of every query token with every candidate token.

    Args:
        query: (B, K, N, D) of unit length, or 0 where masked (see `unit_tokens`).
        candidate: (B, K, N, D), the same.

    Returns:
        (B, K, N, N) in [-1, 1]; 0 in padding.
    """
    return query @ candidate.transpose(-1, -2)


def unit_tokens(tokens: Tensor, mask: Tensor) -> Tensor:
    """Scale tokens (..., N, D) to unit length, in float32; 0 where `mask` (..., N) is False."""
    unit = F.normalize(tokens.float(), dim=-1).to(tokens.dtype)
    return unit.masked_fill(~mask[..., None], 0.0)


class LearnedMaps(nn.Module):
    """Maps E of MatchLite, made without the maps D of concatenated tokens.

    Published: D = concat(f_q,i , f_c,j) over channels, then residual convolutions. The first of
    them is a 1x1 convolution here, which on a concatenation is A f_q,i + B f_c,j: both products
    are made once per clip (`project`), and a pair costs one sum of maps of `channels` instead of
    2 D channels.

    Args:
        maps: E, sequences that get a map; each has its own weights.
        width: D of their tokens.
        channels: of each map.
        blocks: residual blocks after the first convolution.
        norm: see `coefvq.modules.decision.Norm`.
    """

    def __init__(
        self, maps: int, width: int, channels: int, blocks: int = 1, norm: Norm = "batch"
    ) -> None:
        super().__init__()
        self.channels = channels
        self.query = nn.ModuleList(nn.Linear(width, channels) for _ in range(maps))
        self.candidate = nn.ModuleList(nn.Linear(width, channels, bias=False) for _ in range(maps))
        self.blocks = nn.ModuleList(
            nn.ModuleList(BasicBlock(channels, channels, norm=norm) for _ in range(blocks))
            for _ in range(maps)
        )

    def project(self, sequences: Tensor) -> tuple[Tensor, Tensor]:
        """(B, E, N, D) -> what each clip brings to a map as query and as candidate.

        Returns:
            Two (B, E, N, channels).
        """
        query, candidate = (
            torch.stack([linear(sequences[:, i]) for i, linear in enumerate(side)], dim=1)
            for side in (self.query, self.candidate)
        )
        return query, candidate

    def forward(
        self, query: Tensor, candidate: Tensor, query_mask: Tensor, candidate_mask: Tensor
    ) -> Tensor:
        """Make the maps of pairs.

        Args:
            query: (B, E, N, channels), first result of `project` for the queries.
            candidate: (B, E, N, channels), second result of `project` for the candidates.
            query_mask: (B, E, N) bool, True where a token counts.
            candidate_mask: (B, E, N) bool.

        Returns:
            (B, E · channels, N, N), 0 in padding.
        """
        query, candidate = query.transpose(-1, -2), candidate.transpose(-1, -2)
        maps = []
        for i in range(len(self.blocks)):
            real = query_mask[:, i, None, :, None] & candidate_mask[:, i, None, None, :]
            x = F.relu(query[:, i, :, :, None] + candidate[:, i, :, None, :])
            x = x.masked_fill(~real, 0.0)
            for block in cast(nn.ModuleList, self.blocks[i]):
                x = block(x).masked_fill(~real, 0.0)
            maps.append(x)
        return torch.cat(maps, dim=1)


__all__ = ["LearnedMaps", "cosine_maps", "pool_tokens", "unit_tokens"]
