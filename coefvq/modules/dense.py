"""Encoder of privileged dense features."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DenseFeatureEncoder(nn.Module):
    """Values and missing-mask through an MLP.

    Reconstruction: the published text of DF-X-VLM does not say how dense features are encoded.
    Whole features are dropped in training, each for each clip on its own, and then look missing,
    so that the teacher neither leans on a single one nor is lost where one is missing.

    Args:
        num_features: P.
        width: of the result.
        hidden: width of the hidden layer; None: twice the result's.
        feature_dropout: probability that an observed feature is hidden in training.
        dropout: on the hidden layer.

    Example:
        >>> encoder = DenseFeatureEncoder(5, 16).eval()
        >>> encoder(torch.zeros(3, 5), torch.ones(3, 5, dtype=torch.bool)).shape
        torch.Size([3, 16])
    """

    def __init__(
        self,
        num_features: int,
        width: int,
        *,
        hidden: int | None = None,
        feature_dropout: float = 0.1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if not 0.0 <= feature_dropout < 1.0:
            raise ValueError(f"feature_dropout must be in [0, 1), got {feature_dropout}")
        self.num_features, self.feature_dropout = num_features, feature_dropout
        hidden = 2 * width if hidden is None else hidden
        self.mlp = nn.Sequential(
            nn.Linear(2 * num_features, hidden),
            nn.LayerNorm(hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, width),
        )

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode dense features.

        Args:
            values: (B, P), standardised; what lies under the mask is never read.
            mask: (B, P) bool, True where the value was observed; None: all.

        Returns:
            (B, width).

        Raises:
            ValueError: another number of features than the model's.
        """
        if values.shape[-1] != self.num_features:
            raise ValueError(
                f"clips have {values.shape[-1]} privileged features, the model reads "
                f"{self.num_features}; name the same privileged columns as in its training"
            )
        mask = torch.ones_like(values, dtype=torch.bool) if mask is None else mask.bool()
        if self.training and self.feature_dropout > 0.0:
            mask = mask & (torch.rand(mask.shape, device=mask.device) >= self.feature_dropout)
        values = values.masked_fill(~mask, 0.0)
        dtype = self.mlp[0].weight.dtype
        return self.mlp(torch.cat([values.to(dtype), mask.to(dtype)], dim=-1))


__all__ = ["DenseFeatureEncoder"]
