"""SlowFast (Feichtenhofer et al., ICCV 2019), with the names of pytorchvideo's checkpoints.

Two ResNets: a slow one that sees every fourth picture, and a fast one with an eighth of the
channels that sees all. After the stem and the first three stages what the fast one has seen is
handed to the slow one.
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coefvq.modules.checkpoints import LoadReport, read_state_dict
from coefvq.modules.motion.encoder import MotionConfig, MotionEncoder

logger = logging.getLogger(__name__)

FUSION_KERNEL, FUSION_RATIO, EXPANSION = 7, 2, 4
PATHWAYS = 2
SLOW_KERNELS = (1, 1, 3, 3)
"""Pictures that the first convolution of a block spans in the slow pathway; 3 in the fast one."""


class _Stem(nn.Module):
    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        size, pad = (kernel, 7, 7), (kernel // 2, 3, 3)
        self.conv = nn.Conv3d(3, width, size, (1, 2, 2), pad, bias=False)
        self.norm = nn.BatchNorm3d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool3d(self.norm(self.conv(x)).relu(), (1, 3, 3), (1, 2, 2), (0, 1, 1))


class _Branch(nn.Module):
    """Down, look around, up: the residual of a block."""

    def __init__(self, width: int, inner: int, out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_a = nn.Conv3d(width, inner, (kernel, 1, 1), 1, (kernel // 2, 0, 0), bias=False)
        self.norm_a = nn.BatchNorm3d(inner)
        self.conv_b = nn.Conv3d(inner, inner, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)
        self.norm_b = nn.BatchNorm3d(inner)
        self.conv_c = nn.Conv3d(inner, out, 1, bias=False)
        self.norm_c = nn.BatchNorm3d(out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm_a(self.conv_a(x)).relu()
        x = self.norm_b(self.conv_b(x)).relu()
        result: Tensor = self.norm_c(self.conv_c(x))
        return result


class _Block(nn.Module):
    def __init__(self, width: int, inner: int, out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.branch1_conv: nn.Module | None = None
        self.branch1_norm: nn.Module | None = None
        if width != out or stride > 1:
            self.branch1_conv = nn.Conv3d(width, out, 1, (1, stride, stride), bias=False)
            self.branch1_norm = nn.BatchNorm3d(out)
        self.branch2 = _Branch(width, inner, out, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        short = x
        if self.branch1_conv is not None and self.branch1_norm is not None:
            short = self.branch1_norm(self.branch1_conv(x))
        return (short + self.branch2(x)).relu()


class _Stage(nn.Module):
    def __init__(
        self, depth: int, width: int, inner: int, out: int, kernel: int, stride: int
    ) -> None:
        super().__init__()
        self.res_blocks = nn.ModuleList(
            _Block(out if place else width, inner, out, kernel, 1 if place else stride)
            for place in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.res_blocks:
            x = block(x)
        return x


class _Fusion(nn.Module):
    """Hand what the fast pathway has seen to the slow one."""

    def __init__(self, width: int, alpha: int) -> None:
        super().__init__()
        self.conv_fast_to_slow = nn.Conv3d(
            width,
            FUSION_RATIO * width,
            (FUSION_KERNEL, 1, 1),
            (alpha, 1, 1),
            (FUSION_KERNEL // 2, 0, 0),
            bias=False,
        )
        self.norm = nn.BatchNorm3d(FUSION_RATIO * width)

    def forward(self, slow: Tensor, fast: Tensor) -> Tensor:
        return torch.cat([slow, self.norm(self.conv_fast_to_slow(fast)).relu()], dim=1)


class _Both(nn.Module):
    """One stage of both pathways."""

    def __init__(self, slow: nn.Module, fast: nn.Module, fusion: nn.Module | None) -> None:
        super().__init__()
        self.multipathway_blocks = nn.ModuleList([slow, fast])
        self.multipathway_fusion = fusion

    def forward(self, slow: Tensor, fast: Tensor) -> tuple[Tensor, Tensor]:
        slow, fast = self.multipathway_blocks[0](slow), self.multipathway_blocks[1](fast)
        if self.multipathway_fusion is not None:
            slow = self.multipathway_fusion(slow, fast)
        return slow, fast


class SlowFast(MotionEncoder):
    """SlowFast without its classifier: the means of both pathways, 2048 + 256 = 2304 numbers.

    At pytorchvideo's own sizes these are what its classifier reads, whatever the size of the
    pictures (the published one averages windows of 7 x 7 first).

    Args:
        config: of kind `"slowfast"`.

    Example:
        >>> tiny = SlowFast(MotionConfig(frames=8, size=32, width=8, depths=(1, 1, 1, 1))).eval()
        >>> tiny(torch.zeros(2, 8, 3, 32, 32, dtype=torch.uint8)).shape  # 32 · 8 + 32 · 1
        torch.Size([2, 288])
    """

    mean = (0.45, 0.45, 0.45)
    std = (0.225, 0.225, 0.225)

    def __init__(self, config: MotionConfig) -> None:
        super().__init__(config.frames, config.size, config.mode)
        self._config = dataclasses.replace(config, model_name_or_path=None)
        slow, fast = config.width, config.width // config.beta
        blocks = [_Both(_Stem(slow, 1), _Stem(fast, 5), _Fusion(fast, config.alpha))]
        # What comes in, then what is inside a block; a stage gives four times of the latter.
        slow_in, fast_in = slow + FUSION_RATIO * fast, fast
        for stage, (depth, kernel) in enumerate(zip(config.depths, SLOW_KERNELS, strict=True)):
            stride, slow_out, fast_out = 1 if stage == 0 else 2, EXPANSION * slow, EXPANSION * fast
            last = stage == len(config.depths) - 1
            blocks.append(
                _Both(
                    _Stage(depth, slow_in, slow, slow_out, kernel, stride),
                    _Stage(depth, fast_in, fast, fast_out, 3, stride),
                    None if last else _Fusion(fast_out, config.alpha),
                )
            )
            slow_in, fast_in = slow_out + FUSION_RATIO * fast_out, fast_out
            self.width = slow_out + fast_out
            slow, fast = 2 * slow, 2 * fast
        self.blocks = nn.ModuleList(blocks)

    @classmethod
    def open(cls, config: MotionConfig) -> Self:
        """Make the network, with the weights of a file where the config names one."""
        network = cls(config)
        if config.model_name_or_path is not None:
            logger.info("%s", load_slowfast(network, config.model_name_or_path))
        return network

    @property
    def config(self) -> MotionConfig:
        """The shape."""
        return self._config

    def encode(self, pixels: Tensor) -> Tensor:
        """(N, frames, 3, size, size) -> (N, width)."""
        fast = pixels.transpose(1, 2)
        count = self.frames // self._config.alpha
        places = torch.linspace(0, self.frames - 1, count).long()
        slow = fast[:, :, places.to(fast.device)]
        for block in self.blocks:
            slow, fast = block(slow, fast)
        return torch.cat([slow.mean((2, 3, 4)), fast.mean((2, 3, 4))], dim=1)


def load_slowfast(network: SlowFast, path: str | Path) -> LoadReport:
    """Load a state dict with pytorchvideo's names (also below `model_state`), by name.

    The file is never unpickled beyond tensors and plain containers.

    Returns:
        What was loaded, and what of the file has no place (the classifier).

    Raises:
        ValueError: no such file, one that holds more than tensors, or another architecture.
    """
    given = read_state_dict(
        Path(path), below="model_state", wanted="pytorchvideo's SlowFast weights"
    )
    own = network.state_dict()
    for name, value in own.items():
        found = tuple(given[name].shape) if name in given else None
        if found != tuple(value.shape) and not name.endswith("num_batches_tracked"):
            raise ValueError(
                f"checkpoint {path} does not fit: {name} has shape {found}, the network's is "
                f"{tuple(value.shape)}; give a SlowFast of pytorchvideo and make width, depths, "
                "alpha and beta those of the checkpoint"
            )
    loaded = {name: given[name] for name in own if name in given}
    network.load_state_dict(loaded, strict=False)
    return LoadReport(str(path), tuple(loaded), tuple(sorted(given.keys() - own.keys())))


__all__ = ["SlowFast", "load_slowfast"]
