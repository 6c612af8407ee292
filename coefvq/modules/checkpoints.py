"""Weights that others trained: Hugging Face's Swin and BERT, the authors' X-VLM.

Every way in ends with a `LoadReport` that names what found no place and what stayed random.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import BertModel, SwinModel

from coefvq.modules.vision import SwinEncoder
from coefvq.modules.xvlm import XVLM

logger = logging.getLogger(__name__)

BERT_LAYER = {
    "attention.self.": "self_attention.",
    "attention.output.dense.": "self_attention.output.",
    "attention.output.LayerNorm.": "self_attention.norm.",
    "crossattention.self.": "cross_attention.",
    "crossattention.output.dense.": "cross_attention.output.",
    "crossattention.output.LayerNorm.": "cross_attention.norm.",
    "intermediate.dense.": "feedforward.expand.",
    "output.dense.": "feedforward.contract.",
    "output.LayerNorm.": "feedforward.norm.",
}
"""Parts of a BERT layer (and of X-VLM's, which adds `crossattention`) -> ours."""

SWIN = (
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^patch_embed\.norm\.", "embeddings.norm."),
    (r"^layers\.", "encoder.layers."),
    (r"^norm\.", "layernorm."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (
        r"\.attn\.relative_position_bias_table$",
        ".attention.relative_position_bias.relative_position_bias_table",
    ),
)
"""Names in Microsoft's Swin (and in X-VLM's `vision_encoder`) -> transformers' SwinModel."""

COMPUTED = re.compile(r"(relative_position_index|attn_mask|position_ids)$")
"""Buffers that old checkpoints carry and that are computed from the config."""


@dataclass(frozen=True)
class LoadReport:
    """What came of loading foreign weights.

    Args:
        source: file, folder or name.
        loaded: names of the model's weights that were set.
        unused: names in the checkpoint that have no place in the model.
    """

    source: str
    loaded: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        text = f"{self.source}: {len(self.loaded)} weights loaded"
        return f"{text}, not used: {', '.join(self.unused)}" if self.unused else text


@dataclass(frozen=True)
class Pretrained:
    """Weights to start from; each is a path or a Hugging Face name, and they are loaded in order.

    Args:
        vision: a Swin checkpoint for the vision encoder.
        text: a BERT checkpoint: its first layers go to the text encoder, the next to
            self-attention and feed-forward of the cross-modal layers (cross-attention is new).
        checkpoint: the authors' X-VLM file (`.th`, `.pth`, `.safetensors`), all parts at once.
    """

    vision: str | None = None
    text: str | None = None
    checkpoint: str | None = None

    def load_into(self, trunk: XVLM) -> list[LoadReport]:
        """Load what is named, log what found no place and what stays random.

        Raises:
            ValueError: a checkpoint that cannot be read or is of another architecture.
        """
        reports = []
        if self.vision is not None:
            reports.append(load_swin(trunk, self.vision))
        if self.text is not None:
            reports.append(load_bert(trunk, self.text))
        if self.checkpoint is not None:
            reports.append(load_xvlm(trunk, self.checkpoint))
        for report in reports:
            logger.info("%s", report)
        if reports:
            loaded = {name for report in reports for name in report.loaded}
            random = sorted(trunk.state_dict().keys() - loaded)
            logger.info("weights that stay random: %s", ", ".join(random) or "none")
        return reports


def load_swin(trunk: XVLM, source: str) -> LoadReport:
    """Load a Swin folder or name of Hugging Face into the vision encoder.

    Raises:
        ValueError: the trunk has another vision encoder, or one of another shape.
    """
    _swin_of(trunk, source)
    given = SwinModel.from_pretrained(source).state_dict()
    return _load(trunk, {f"vision.swin.{name}": value for name, value in given.items()}, source)


def load_bert(trunk: XVLM, source: str) -> LoadReport:
    """Load a BERT folder or name of Hugging Face into text encoder and cross-modal layers.

    Raises:
        ValueError: too few layers, or another width or vocabulary.
    """
    given = BertModel.from_pretrained(source, add_pooling_layer=False).state_dict()
    return _load(trunk, _place_bert(trunk, given, source), source)


def load_xvlm(trunk: XVLM, path: str | Path) -> LoadReport:
    """Load the authors' X-VLM checkpoint: keys `vision_encoder.*` and `text_encoder.bert.*`.

    The file is never unpickled beyond tensors and plain containers. Position tables of another
    window size are interpolated (bicubic; the authors use a geometric grid).

    Raises:
        ValueError: no such file, no such keys, or another architecture.
    """
    given = read_state_dict(Path(path), below="model", wanted="the path of an X-VLM checkpoint")
    vision, text, placed = {}, {}, {}
    for name, value in given.items():
        if name.startswith("vision_encoder."):
            vision[name.removeprefix("vision_encoder.")] = value
        elif name.startswith("text_encoder.") and not name.startswith("text_encoder.cls."):
            text[name.removeprefix("text_encoder.").removeprefix("bert.")] = value
        else:
            placed[name] = value
    if not vision or not text:
        raise ValueError(
            f"checkpoint {path} has no keys vision_encoder.* and text_encoder.*; "
            "give an official X-VLM checkpoint, or load its parts as vision and text"
        )
    _swin_of(trunk, str(path))
    placed.update({f"vision.swin.{k}": v for k, v in swin_from_original(vision).items()})
    placed.update(_place_bert(trunk, text, str(path)))
    return _load(trunk, placed, str(path))


def swin_from_original(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a Swin state dict of the original code to transformers' names, splitting `qkv`."""
    renamed = {}
    for name, value in given.items():
        for pattern, replacement in SWIN:
            name = re.sub(pattern, replacement, name)
        if ".attn.qkv." in name:
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                renamed[name.replace(".attn.qkv.", f".attention.{letter}_proj.")] = part
        else:
            renamed[name] = value
    return renamed


def _place_bert(trunk: XVLM, given: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Split BERT's layers between the text encoder and the cross-modal layers."""
    below, above = trunk.config.text_layers, trunk.config.cross_layers
    numbers = {int(m[1]) for name in given if (m := re.match(r"encoder\.layer\.(\d+)\.", name))}
    layers = len(numbers)
    if layers < below + above:
        raise ValueError(
            f"text checkpoint {source} has {layers} layers, the trunk needs {below} + {above}; "
            "lower text_layers and cross_layers or give a deeper BERT"
        )
    positions = trunk.config.max_text_length
    placed = {}
    for name, value in given.items():
        match = re.match(r"encoder\.layer\.(\d+)\.(.*)", name)
        if name == "embeddings.position_embeddings.weight" and len(value) > positions:
            value = value[:positions]
        if match is None or int(match[1]) < below:
            placed[f"text.bert.{name}"] = value
        else:
            layer, rest = int(match[1]) - below, match[2]
            for theirs, ours in BERT_LAYER.items():
                if rest.startswith(theirs):
                    rest = ours + rest.removeprefix(theirs)
                    break
            placed[f"cross_modal.layers.{layer}.{rest}"] = value
    return placed


def _load(trunk: XVLM, given: Mapping[str, Tensor], source: str) -> LoadReport:
    """Copy what has a place; refuse shapes that do not fit before anything is copied."""
    own = trunk.state_dict()
    fitting, unused = {}, []
    for name, value in given.items():
        if COMPUTED.search(name):
            continue
        if name not in own:
            unused.append(name)
            continue
        if name.endswith("relative_position_bias_table"):
            value = _resize_table(value, own[name])
        if value.shape != own[name].shape:
            raise ValueError(
                f"checkpoint {source} does not fit: {name} has shape {tuple(value.shape)}, "
                f"the model's is {tuple(own[name].shape)}; make the trunk's sizes those of the "
                "checkpoint (for word embeddings: use its tokenizer)"
            )
        fitting[name] = value
    if not fitting:
        raise ValueError(
            f"checkpoint {source} has no weight that the trunk knows, its first names are "
            f"{', '.join(list(given)[:3])}; give another checkpoint"
        )
    trunk.load_state_dict(fitting, strict=False)
    return LoadReport(source, tuple(fitting), tuple(unused))


def _resize_table(table: Tensor, like: Tensor) -> Tensor:
    """Interpolate a ((2w−1)², heads) table of relative positions to another window."""
    if table.shape == like.shape or table.shape[1] != like.shape[1]:
        return table
    old, new = round(len(table) ** 0.5), round(len(like) ** 0.5)
    grid = table.float().T.reshape(1, -1, old, old)
    grid = F.interpolate(grid, (new, new), mode="bicubic", align_corners=True)
    return grid.reshape(-1, new * new).T.to(table.dtype)


def _swin_of(trunk: XVLM, source: str) -> SwinEncoder:
    if not isinstance(trunk.vision, SwinEncoder):
        raise ValueError(
            f"checkpoint {source} holds a Swin, the trunk's vision is a "
            f"{type(trunk.vision).__name__}; choose student=xvlm_base or leave the checkpoint out"
        )
    return trunk.vision


def read_state_dict(path: Path, *, below: str, wanted: str) -> dict[str, Tensor]:
    """Read a file of weights; nothing but tensors and plain containers is ever unpickled.

    Args:
        path: `.safetensors`, or what `torch.save` wrote.
        below: where the weights may stand inside, such as `"model"`.
        wanted: what to give instead of a path that is no file.

    Raises:
        ValueError: no such file, one that is damaged, or one that holds more than tensors.
    """
    if not path.is_file():
        raise ValueError(f"checkpoint {path} is not a file; give {wanted}")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"checkpoint {path} is damaged: {error}; fetch it again") from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError):
        # Without torch's own words, which advise to unpickle it all the same.
        raise ValueError(
            f"checkpoint {path} holds more than tensors or is damaged, and is not unpickled; where "
            "you trust it, convert its weights to .safetensors"
        ) from None
    if isinstance(content, dict):
        content = content.get(below, content)
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(f"checkpoint {path} is not a table of tensors; give a state dict")
    return content


__all__ = [
    "LoadReport",
    "Pretrained",
    "load_bert",
    "load_swin",
    "load_xvlm",
    "read_state_dict",
    "swin_from_original",
]
