"""Decision module: a ResNet-34 that reads maps of a pair instead of a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

Norm = Literal["batch", "group"]
"""`"batch"` as in ResNet-34; `"group"` (8 groups) for small batches: it is the same in training."""

Stem = Literal["imagenet", "small"]
"""`"imagenet"`: 7x7 with stride 2, then max pooling with stride 2; `"small"`: 3x3 with stride 1."""


def make_norm(norm: Norm, channels: int) -> nn.Module:
    """Make the normalisation of a convolution's result.

    Raises:
        ValueError: an unknown word.
    """
    if norm not in get_args(Norm):
        raise ValueError(f"norm {norm!r} is unknown; choose one of {', '.join(get_args(Norm))}")
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    groups = next(groups for groups in range(min(8, channels), 0, -1) if channels % groups == 0)
    return nn.GroupNorm(groups, channels)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a way past them (He et al., CVPR 2016).

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        stride: of the first convolution, and of the way past.
        norm: see `Norm`.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, norm: Norm = "batch") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = make_norm(norm, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = make_norm(norm, outputs)
        self.past: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.past = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), make_norm(norm, outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, outputs, h / stride, w / stride)."""
        change = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(change)) + self.past(x))


@dataclass(frozen=True)
class DecisionConfig:
    """Shape of the decision module; the defaults are ResNet-34's.

    Args:
        width: channels of the first stage; they double at each stage.
        depths: blocks per stage.
        norm: see `Norm`.
        stem: see `Stem`; the large one turns a map of 32 into one of 8 before the first stage.
    """

    width: int = 64
    depths: tuple[int, ...] = (3, 4, 6, 3)
    norm: Norm = "batch"
    stem: Stem = "imagenet"

    def __post_init__(self) -> None:
        object.__setattr__(self, "depths", tuple(self.depths))
        if not self.depths or min(self.depths) < 1:
            raise ValueError(f"depths needs at least one block per stage, got {self.depths}")
        for name, kind in (("norm", Norm), ("stem", Stem)):
            if (given := getattr(self, name)) not in get_args(kind):
                raise ValueError(
                    f"{name} {given!r} is unknown; choose one of {', '.join(get_args(kind))}"
                )

    @property
    def features_width(self) -> int:
        """D of the features."""
        return int(self.width * 2 ** (len(self.depths) - 1))


class DecisionModule(nn.Module):
    """ResNet-34 with as many input channels as a pair has maps, and no classifier.

    Args:
        config: see `DecisionConfig`.
        channels: of the maps.

    Example:
        >>> import torch
        >>> DecisionModule(DecisionConfig(width=8), 10).eval()(torch.zeros(2, 10, 32, 32)).shape
        torch.Size([2, 64])
    """

    def __init__(self, config: DecisionConfig, channels: int) -> None:
        super().__init__()
        self.config = config
        large = config.stem == "imagenet"
        kernel, stride = (7, 2) if large else (3, 1)
        self.stem = nn.Conv2d(
            channels, config.width, kernel, stride, padding=kernel // 2, bias=False
        )
        self.stem_norm = make_norm(config.norm, config.width)
        stages, inputs = [], config.width
        for stage, depth in enumerate(config.depths):
            outputs = config.width * 2**stage
            for block in range(depth):
                stride = 2 if stage and not block else 1
                stages.append(BasicBlock(inputs, outputs, stride, config.norm))
                inputs = outputs
        self.blocks = nn.Sequential(*stages)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, maps: Tensor) -> Tensor:
        """(B, channels, N, N) -> (B, features_width), the mean over what is left of the map."""
        x = F.relu(self.stem_norm(self.stem(maps)))
        if self.config.stem == "imagenet":
            x = F.max_pool2d(x, 3, 2, padding=1)
        features: Tensor = self.blocks(x).mean((-2, -1))
        return features


__all__ = ["BasicBlock", "DecisionConfig", "DecisionModule", "Norm", "Stem", "make_norm"]
