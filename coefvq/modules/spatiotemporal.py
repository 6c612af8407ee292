"""From what was seen of a clip to tokens of a language model: LMM-VQA's projector, both ways.

The paper's figure and its code differ (arXiv 2408.14008); both are here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coefvq.modules.quality_encoder import QualityFeatures

Projection = Literal["mean", "interleaved"]
"""`"mean"` as in the code, `"interleaved"` as in the figure; see `SpatioTemporalProjector`."""


@dataclass(frozen=True)
class ProjectorConfig:
    """Shape of the projector.

    Args:
        kind: see `Projection`.
        heads: of the transformer layer, for `"mean"`.
        feedforward: its hidden width.
    """

    kind: Projection = "mean"
    heads: int = 16
    feedforward: int = 4096

    def __post_init__(self) -> None:
        if self.kind not in get_args(Projection):
            raise ValueError(
                f"projector kind {self.kind!r} is unknown; "
                f"choose one of {', '.join(get_args(Projection))}"
            )


class SpatioTemporalProjector(nn.Module):
    """Spatial tokens and one motion token per frame become tokens of the language model.

    Motion is brought to the spatial tokens' width, Linear + LayerNorm, and stands behind the
    tokens of its frame. Then

    - `"mean"`: the mean over the frames, one transformer layer, Linear + LayerNorm: N + 1 tokens
      per clip, 258 at the published sizes;
    - `"interleaved"`: Linear + LayerNorm of frame after frame: F · (N + 1) tokens.

    Reconstruction: the transformer layer's own form (pre-norm, GELU, no dropout, no positions
    beside those that the tokens carry), and that the interleaved tokens pass no such layer.

    Args:
        config: see `ProjectorConfig`.
        spatial_width: D of the spatial tokens.
        motion_width: M of the chunks; None: no motion tokens.
        width: D of the language model.
    """

    def __init__(
        self, config: ProjectorConfig, spatial_width: int, motion_width: int | None, width: int
    ) -> None:
        super().__init__()
        self.kind = config.kind
        self.motion: nn.Module | None = None
        if motion_width is not None:
            self.motion = nn.Sequential(
                nn.Linear(motion_width, spatial_width), nn.LayerNorm(spatial_width)
            )
        self.layer: _Layer | None = None
        if config.kind == "mean":
            self.layer = _Layer(spatial_width, config.heads, config.feedforward)
        self.out = nn.Sequential(nn.Linear(spatial_width, width), nn.LayerNorm(width))

    def forward(self, features: QualityFeatures) -> list[Tensor]:
        """Make tokens, in float32.

        Args:
            features: of B clips, averaged over their frames for `"mean"` or not.

        Returns:
            B tensors (n_i, width); `"interleaved"` gives clips of fewer frames fewer tokens.

        Raises:
            ValueError: motion that the projector was not made for, or none where it was; averaged
                tokens for `"interleaved"`.
        """
        if (features.motion is None) != (self.motion is None):
            raise ValueError(
                f"the projector was made {'without' if self.motion is None else 'with'} motion "
                "tokens, the features are the other way; encode the clips with this model"
            )
        with torch.autocast(features.spatial.device.type, enabled=False):
            if self.kind == "mean":
                return list(self._mean(features))
            return self._interleaved(features)

    def _mean(self, features: QualityFeatures) -> Tensor:
        spatial, real = features.spatial.float(), features.frame_mask
        if spatial.shape[1] != 1:
            spatial = _masked_mean(spatial, real)
        tokens = spatial.squeeze(1) if spatial.ndim == 4 else spatial
        if features.motion is not None and self.motion is not None:
            motion = _masked_mean(self.motion(features.motion.float())[:, :, None], real)
            tokens = torch.cat([tokens, motion], dim=1)
        assert self.layer is not None
        result: Tensor = self.out(self.layer(tokens))
        return result

    def _interleaved(self, features: QualityFeatures) -> list[Tensor]:
        spatial, real = features.spatial.float(), features.frame_mask
        if spatial.shape[1] != real.shape[1]:
            raise ValueError(
                f"interleaved tokens are those of each frame, got {spatial.shape[1]} groups of "
                f"tokens for {real.shape[1]} frames; set the encoder's tokens to 'frames'"
            )
        if features.motion is not None and self.motion is not None:
            spatial = torch.cat([spatial, self.motion(features.motion.float())[:, :, None]], dim=2)
        tokens = self.out(spatial[real])
        return [clip.flatten(0, 1) for clip in tokens.split(real.sum(1).tolist())]


def _masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """(B, F, N, D) and (B, F) -> (B, N, D)."""
    tokens = tokens.masked_fill(~mask[..., None, None], 0.0)
    return tokens.sum(1) / mask.sum(1).clamp(min=1).view(-1, 1, 1)


class _Layer(nn.Module):
    """One layer of a vision transformer."""

    def __init__(self, width: int, heads: int, feedforward: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads={heads} of the projector must divide the width {width}")
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, feedforward), nn.Linear(feedforward, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).chunk(3, dim=-1)
        )
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.join(attended)
        result: Tensor = x + self.contract(F.gelu(self.expand(self.norm2(x))))
        return result


__all__ = ["Projection", "ProjectorConfig", "SpatioTemporalProjector"]
