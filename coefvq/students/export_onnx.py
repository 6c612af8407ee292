"""MatchLite's serving half as two ONNX files: one run per clip, one per pair.

    features of a clip -> clip.onnx -> prepared clip;   two prepared clips -> pair.onnx -> answers

The encoders are not exported: their features are kept per clip (`coefvq.students.feature_store`).
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coefvq.modules.clip_encoders import ClipFeatures
from coefvq.students.matchlite import MatchLite, PreparedClips

CLIP, PAIR = "clip.onnx", "pair.onnx"
PREPARED = ("units", "mask", "as_query", "as_candidate")


class _ClipGraph(nn.Module):
    def __init__(self, model: MatchLite, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        features = ClipFeatures(**dict(zip(self.names, tensors, strict=True)))
        prepared = self.model.prepare(features)
        return tuple(getattr(prepared, name) for name in PREPARED)


class _PairGraph(nn.Module):
    def __init__(self, model: MatchLite) -> None:
        super().__init__()
        self.model = model

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        half = len(PREPARED)
        output = self.model.compare(PreparedClips(*tensors[:half]), PreparedClips(*tensors[half:]))
        answers = (output.logits, output.features, output.sub_logits)
        return tuple(answer for answer in answers if answer is not None)


def export_onnx(model: MatchLite, folder: str | Path) -> tuple[Path, Path]:
    """Write `clip.onnx` and `pair.onnx`; the number of clips or pairs at a time is left open.

    Inputs of `clip.onnx` are the fields of `ClipFeatures` that the model reads, its outputs those
    of `PreparedClips`. Inputs of `pair.onnx` are these with `query_` and `candidate_` in front;
    outputs are `logits` (B,), `features` (B, D) and, where there are sub-labels, `sub_logits`
    (B, S).

    Args:
        model: in eval mode, on the CPU.
        folder: made if it is not there; files of these names are replaced.

    Returns:
        The two files.

    Raises:
        ValueError: the model is in training mode, or `coefvq[onnx]` is not installed.
    """
    if model.training:
        raise ValueError("a model in training mode is random; call model.eval() before the export")
    need_onnx()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    features = _example(model)
    names = tuple(features)
    clip = _ClipGraph(model, names).eval()
    with torch.no_grad():
        prepared = clip(*features.values())
    write_graph(clip, tuple(features.values()), names, PREPARED, folder / CLIP)

    sides = [f"{side}_{name}" for side in ("query", "candidate") for name in PREPARED]
    answers = ("logits", "features", "sub_logits")[: 3 if model.num_sub_labels else 2]
    # Not the same tensors twice: the exporter would take the two sides for one.
    both = prepared + tuple(tensor.clone() for tensor in prepared)
    write_graph(_PairGraph(model).eval(), both, tuple(sides), answers, folder / PAIR)
    return folder / CLIP, folder / PAIR


def need_onnx() -> None:
    """Refuse to begin without the packages of the extra `onnx`.

    Raises:
        ValueError: they are not installed.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        raise ValueError(
            "the export to ONNX needs the packages onnx and onnxscript; "
            "install them with pip install 'coefvq[onnx]'"
        ) from None


def _example(model: MatchLite) -> dict[str, Tensor]:
    """Features of two clips, of the right shapes."""
    tokens = model.shape.encoders.tokens
    columns: dict[str, Tensor] = {}
    for name, width in model.encoder.widths.items():
        columns[name] = torch.randn(2, tokens, width)
        columns[f"{name}_mask"] = torch.ones(2, tokens, dtype=torch.bool)
    return columns


def write_graph(
    graph: nn.Module,
    example: tuple[Tensor, ...],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    file: Path,
    dynamic: tuple[dict[int, Any], ...] | None = None,
) -> None:
    """Write one graph as one file, which appears whole or not at all.

    Args:
        graph: takes the example's tensors, in eval mode.
        example: one tensor per input.
        inputs: their names.
        outputs: names of what it returns.
        file: replaced if it is there.
        dynamic: for each input, what is left open by axis; None: the first axis of all.
    """
    batch = torch.export.Dim("batch", min=1)
    shapes = dynamic or tuple({0: batch} for _ in example)
    part = file.with_name(f".{file.name}")
    with warnings.catch_warnings(), _without_torchvision():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        torch.onnx.export(
            graph,
            example,
            part,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=(shapes,),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    part.replace(file)


@contextlib.contextmanager
def _without_torchvision() -> Iterator[None]:
    """Leave out the exporter's lines about operators of a package that we don't need."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")

    def needed(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("torchvision is not installed. Skipping ")

    logger.addFilter(needed)
    try:
        yield
    finally:
        logger.removeFilter(needed)


__all__ = ["CLIP", "PAIR", "PREPARED", "export_onnx", "need_onnx", "write_graph"]
