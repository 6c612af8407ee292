"""Vision encoders: pictures in, a summary token and map tokens out.

An encoder is any module with an integer `width` and
`forward(pixels (N, 3, h, w)) -> (N, 1 + P, width)`, whose first token sums up the picture.
`SwinEncoder` is the published one; `ConvEncoder` is for two cores.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import SwinConfig, SwinModel

from coefvq.modules.residuals import NUM_RESIDUALS, luma, residual_statistics


@dataclass(frozen=True)
class SwinEncoderConfig:
    """Shape of a Swin transformer; the defaults are Swin-B at 224 pixels, as published for X-VLM.

    Args:
        embed_dim: channels of the first stage; they double at each stage.
        depths: blocks per stage.
        num_heads: attention heads per stage.
        window_size: side of a window, in patches: 7 for 224 pixels, 12 for 384.
        patch_size: side of a patch, in pixels.
        drop_path: stochastic depth of the last block; it rises linearly from 0.
    """

    embed_dim: int = 128
    depths: tuple[int, ...] = (2, 2, 18, 2)
    num_heads: tuple[int, ...] = (4, 8, 16, 32)
    window_size: int = 7
    patch_size: int = 4
    drop_path: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "depths", tuple(self.depths))
        object.__setattr__(self, "num_heads", tuple(self.num_heads))
        if len(self.depths) != len(self.num_heads):
            raise ValueError(
                f"depths {self.depths} and num_heads {self.num_heads} must have one entry per stage"
            )

    def build(self) -> SwinEncoder:
        """Make the encoder, randomly initialised."""
        return SwinEncoder(self)


class SwinEncoder(nn.Module):
    """Swin transformer whose token mean is put in front of its tokens (Liu et al., ICCV 2021).

    The final map is layer-normed before the mean is taken, as X-VLM's public code does.

    Args:
        config: see `SwinEncoderConfig`.
    """

    def __init__(self, config: SwinEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.swin = SwinModel(
            SwinConfig(
                embed_dim=config.embed_dim,
                depths=list(config.depths),
                num_heads=list(config.num_heads),
                window_size=config.window_size,
                patch_size=config.patch_size,
                drop_path_rate=config.drop_path,
                attn_implementation="sdpa",
            )
        )
        self.width = self.swin.num_features

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode pictures.

        Args:
            pixels: (N, 3, h, w).

        Returns:
            (N, 1 + P, width) with P = h · w / (patch_size · 2^(stages − 1))².

        Raises:
            ValueError: the picture is smaller than a window at some stage.
        """
        config = self.config
        last_stage = config.patch_size * 2 ** (len(config.depths) - 1)
        # transformers would shrink the window for good and then miss the position table.
        if min(pixels.shape[-2:]) // last_stage < config.window_size:
            raise ValueError(
                f"Swin with window_size={config.window_size} needs pictures of at least "
                f"{last_stage * config.window_size} pixels, got {tuple(pixels.shape[-2:])}; "
                "change the size in the model's frames or the window_size"
            )
        output = self.swin(pixels)
        return torch.cat([output.pooler_output[:, None], output.last_hidden_state], dim=1)


@dataclass(frozen=True)
class ConvEncoderConfig:
    """Shape of a small convolutional encoder that learns from pixels within a minute on two cores.

    Args:
        widths: channels of each convolution; each halves the side.
        width: D_v of the tokens.
        residual_scales: sizes at which the summary also gets statistics of high-pass residuals
            (`coefvq.modules.residuals`); the first convolution then sees them beside the colours.
            0: colours only, which learn what blur and noise look like too slowly for few labels.
    """

    widths: tuple[int, ...] = (16, 32, 64, 96)
    width: int = 64
    residual_scales: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        if not self.widths:
            raise ValueError("a convolutional encoder needs at least one entry in widths, got none")
        if self.residual_scales < 0:
            raise ValueError(
                f"residual_scales is a number of picture sizes from 0, got {self.residual_scales}"
            )

    def build(self) -> ConvEncoder:
        """Make the encoder, randomly initialised."""
        return ConvEncoder(self)


class ConvEncoder(nn.Module):
    """Strided convolutions; first token: mean and deviation of the map, the rest: its cells.

    Not part of the published X-VLM: it stands in Swin's place where there is neither a GPU nor a
    pretrained checkpoint. It has no batch normalisation, so a clip's answer does not depend on
    its neighbours, and no positions, so it takes any size from 2^len(widths) pixels up.

    Args:
        config: see `ConvEncoderConfig`.
    """

    def __init__(self, config: ConvEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        scales = config.residual_scales
        channels = (3 + (NUM_RESIDUALS if scales else 0), *config.widths)
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1)
            for before, after in itertools.pairwise(channels)
        )
        for conv in self.convs:
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)
        statistics = 2 * config.widths[-1] + 2 * NUM_RESIDUALS * scales
        self.to_summary = nn.Linear(statistics, config.width)
        self.to_token = nn.Linear(config.widths[-1], config.width)

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode pictures: (N, 3, h, w) -> (N, 1 + P, width), P cells of the last map."""
        known: list[Tensor] = []
        if self.config.residual_scales:
            with torch.no_grad():  # nothing to learn up to here
                maps, statistics = residual_statistics(luma(pixels), self.config.residual_scales)
            pixels, known = torch.cat([pixels, maps], dim=1), [statistics]
        x = pixels.contiguous(memory_format=torch.channels_last)
        for conv in self.convs:
            x = F.relu(conv(x), inplace=True)
        cells = x.permute(0, 2, 3, 1).flatten(1, 2)  # a view of channels_last, backward too
        variance, mean = torch.var_mean(cells.float(), dim=1, correction=0)
        summary = torch.cat([mean, (variance + 1e-5).sqrt(), *known], dim=-1).to(cells.dtype)
        return torch.cat([self.to_summary(summary)[:, None], self.to_token(cells)], dim=1)


__all__ = ["ConvEncoder", "ConvEncoderConfig", "SwinEncoder", "SwinEncoderConfig"]
