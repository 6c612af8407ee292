"""A blind quality model as one ONNX file: decoded frames in, scores out."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coefvq.modules.vision import SwinEncoder
from coefvq.students.blind_quality import BlindQuality
from coefvq.students.export_onnx import need_onnx, write_graph

FILE = "quality.onnx"


class _PaddedPool(nn.Module):
    """Pool over one frame more, which is not real and so counts for nothing.

    A graph has one branch: without this it would be that for two frames or more, and fail at one.
    """

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, frames: Tensor, mask: Tensor, pixels: Tensor) -> Tensor:
        frames, pixels = (torch.cat([x, x[:, -1:]], dim=1) for x in (frames, pixels))
        mask = torch.cat([mask, torch.zeros_like(mask[:, -1:])], dim=1)
        found: Tensor = self.pool(frames, mask, pixels)
        return found


class _QualityGraph(nn.Module):
    def __init__(self, model: BlindQuality) -> None:
        super().__init__()
        model.pool = _PaddedPool(model.pool)  # type: ignore[assignment]
        self.model = model

    def forward(self, *tensors: Tensor) -> Tensor:
        frames, mask = tensors
        return self.model.score(self.model.frames(frames), mask)[0]


def export_blind_onnx(model: BlindQuality, folder: str | Path, frame_size: int) -> Path:
    """Write `quality.onnx`, for any number of frames and, with a `ConvEncoder`, of clips.

    A Swin is exported for one clip at a time (B = 1): the exporter cannot follow its windows
    through two open axes.

    Inputs: `frames` (B, F, 3, frame_size, frame_size) uint8 RGB as `coefvq.data.reader` gives them
    under the model's own `InputSpec`, and `frame_mask` (B, F) bool. Output: `scores` (B,), raw: the
    map to 0–100 is in the metadata of the model's folder
    (`coefvq.evaluation.score_calibration.ScoreCalibration.from_dict`).

    Args:
        model: in eval mode, on the CPU.
        folder: made if it is not there; a file of this name is replaced.
        frame_size: side of the decoded frames, `InputSpec.frame_size`.

    Returns:
        The file.

    Raises:
        ValueError: the model is in training mode, or `coefvq[onnx]` is not installed.
    """
    if model.training:
        raise ValueError("a model in training mode is random; call model.eval() before the export")
    need_onnx()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = copy.deepcopy(model)
    if isinstance(model.vision, SwinEncoder):
        # The exporter loses the memory layout of fused attention where an axis is left open.
        model.vision.swin.set_attn_implementation("eager")
    clips = 1 if isinstance(model.vision, SwinEncoder) else 2
    shape = (clips, 3, 3, frame_size, frame_size)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8)
    model.frames(frames)  # refuses frames that the model cannot read
    # An axis that is 1 in the example would be kept at 1.
    axes: dict[int, Any] = {1: torch.export.Dim("frames", min=1)}
    if clips > 1:
        axes[0] = torch.export.Dim("batch", min=1)
    dynamic = (dict(axes), dict(axes))
    example = (frames, torch.ones(clips, 3, dtype=torch.bool))
    write_graph(
        _QualityGraph(model).eval(), example, ("frames", "frame_mask"), ("scores",),
        folder / FILE, dynamic,
    )  # fmt: skip
    return folder / FILE


__all__ = ["FILE", "export_blind_onnx"]
