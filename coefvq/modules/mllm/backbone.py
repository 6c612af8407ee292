"""Vision tower, projector and language model of transformers, behind one small interface.

Four families are known. Each makes tokens from frames in its own way; all of them then run the
inner language model on embeddings, so that vocabulary-sized logits are never made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from coefvq.modules.mllm.architecture import plain
from coefvq.modules.mllm.config import BackboneConfig


@dataclass(frozen=True)
class Piece:
    """Neighbouring tokens of a sequence.

    Args:
        tokens: (n, D) embeddings.
        grid: frames, rows and columns that the tokens came from, for families whose positions
            have three axes; None: one after another, like text.
    """

    tokens: Tensor
    grid: tuple[int, int, int] | None = None


class Backbone(ABC, nn.Module):
    """What a family gives.

    Args:
        model: of the family's class, with its language-model head.
        config: the shape that was asked for.
    """

    family: ClassVar[str]
    model_types: ClassVar[tuple[str, ...]]
    model_class: ClassVar[type[PreTrainedModel]]
    language_path: ClassVar[str] = "model.language_model"
    projector_paths: ClassVar[tuple[str, ...]] = ()
    mean: ClassVar[tuple[float, float, float]] = (0.5, 0.5, 0.5)
    std: ClassVar[tuple[float, float, float]] = (0.5, 0.5, 0.5)

    def __init__(self, model: PreTrainedModel, config: BackboneConfig) -> None:
        super().__init__()
        self.model = model
        self.frame_size = self._frame_size(config)

    @staticmethod
    @abstractmethod
    def architecture(config: BackboneConfig) -> PreTrainedConfig:
        """The transformers config of a shape."""

    @property
    @abstractmethod
    def tower(self) -> nn.Module:
        """The vision tower."""

    @abstractmethod
    def encode_frames(self, pixels: Tensor, counts: Sequence[int]) -> list[Piece]:
        """Make tokens.

        Args:
            pixels: (N, 3, frame_size, frame_size), normalised, clip after clip.
            counts: B numbers of frames that add up to N.

        Returns:
            B pieces; one without tokens for a clip without frames.
        """

    @property
    def audio_tower(self) -> nn.Module | None:
        """The family's own audio tower; None: it has none."""
        return None

    def encode_audio(self, audio: Tensor, audio_mask: Tensor) -> list[Tensor]:
        """Make tokens with the family's own audio tower: B tensors (n_i, D).

        Raises:
            ValueError: the family has none.
        """
        raise ValueError(
            f"family {self.family} has no audio tower of its own; choose another audio mode"
        )

    def position_ids(self, sequences: Sequence[Sequence[Piece]], length: int) -> Tensor:
        """Positions of the padded sequences; here one after another: (B, length) int64."""
        return torch.arange(length).expand(len(sequences), length)

    def _frame_size(self, config: BackboneConfig) -> int:
        return int(self.model.config.vision_config.image_size)

    @property
    def language(self) -> nn.Module:
        """The language model without its head."""
        return self.model.get_submodule(self.language_path)

    @property
    def width(self) -> int:
        """D of the language model."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def vocab_size(self) -> int:
        """V, tokens that the language model knows."""
        return int(self.model.config.get_text_config().vocab_size)

    def projectors(self) -> list[nn.Module]:
        """What lies between tower and language model and is always trained in full."""
        return [self.model.get_submodule(path) for path in self.projector_paths]

    def plain_config(self) -> dict[str, Any]:
        """The transformers config as plain values."""
        return plain(self.model.config)

    def embed(self, ids: Tensor) -> Tensor:
        """(n,) token ids -> (n, D)."""
        return self.model.get_input_embeddings()(ids)

    def output_rows(self, ids: Sequence[int]) -> Tensor:
        """(n, D) rows of the language-model head, for the logits of n tokens alone."""
        return self.model.get_output_embeddings().weight[list(ids)]

    def forward(self, sequences: Sequence[Sequence[Piece]]) -> tuple[Tensor, Tensor]:
        """Run the language model.

        Args:
            sequences: B sequences of pieces; they may differ in length.

        Returns:
            (B, T, D) last hidden states, padded on the right, and their (B, T) bool mask.
        """
        tokens = [torch.cat([piece.tokens for piece in pieces]) for pieces in sequences]
        embeds = nn.utils.rnn.pad_sequence(tokens, batch_first=True)
        embeds = embeds.to(self.model.get_input_embeddings().weight.dtype)
        lengths = torch.tensor([len(row) for row in tokens], device=embeds.device)
        mask = torch.arange(embeds.shape[1], device=embeds.device) < lengths[:, None]
        hidden = self.language(
            inputs_embeds=embeds,
            attention_mask=mask.long(),
            position_ids=self.position_ids(sequences, embeds.shape[1]).to(embeds.device),
            use_cache=False,
        ).last_hidden_state
        return hidden, mask


def open_backbone(config: BackboneConfig) -> Backbone:
    """Make a backbone from a checkpoint, from plain values or from the flat shape.

    Raises:
        ValueError: a checkpoint of no family that is known, or one that cannot be read.
    """
    dtype = getattr(torch, config.dtype)
    source = config.model_name_or_path
    if source is not None:
        try:
            model_type = AutoConfig.from_pretrained(source).model_type
        except (OSError, ValueError) as error:
            raise ValueError(
                f"model_name_or_path {source!r} could not be opened; give a folder that "
                "transformers' save_pretrained wrote, or a Hugging Face name"
            ) from error
        family = next((f for f in families() if model_type in f.model_types), None)
        if family is None:
            known = ", ".join(name for f in families() for name in f.model_types)
            raise ValueError(f"model {source!r} is a {model_type}; models here are {known}")
        return family(family.model_class.from_pretrained(source, dtype=dtype), config)
    family = next(f for f in families() if f.family == config.family)
    if config.architecture is not None:
        shape = family.model_class.config_class.from_dict(dict(config.architecture))
    else:
        shape = family.architecture(config)
    # Made in float32 and cast: initialisation in bfloat16 would round twice.
    return family(family.model_class(shape).to(dtype), config)


def families() -> tuple[type[Backbone], ...]:
    """The families that are known."""
    # Here, because each of these files needs `Backbone` from this one.
    from coefvq.modules.mllm.families.llava import LlavaOneVision
    from coefvq.modules.mllm.families.qwen_omni import QwenOmni
    from coefvq.modules.mllm.families.qwen_vl import QwenVL
    from coefvq.modules.mllm.families.smolvlm import SmolVLM

    return (LlavaOneVision, QwenVL, QwenOmni, SmolVLM)


__all__ = ["Backbone", "Piece", "families", "open_backbone"]
