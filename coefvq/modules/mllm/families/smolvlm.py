"""SmolVLM2 (Marafioti et al., 2025): SigLIP, pixel shuffle, one linear map and a small Llama."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from transformers import LlamaConfig, SmolVLMConfig, SmolVLMForConditionalGeneration

from coefvq.modules.mllm.backbone import Backbone, Piece
from coefvq.modules.mllm.config import BackboneConfig


class SmolVLM(Backbone):
    """Squares of patches become one token; frames follow one another without marks between.

    The published processor writes a time before each frame; here only the order says it.
    """

    family = "smolvlm"
    model_types = ("smolvlm",)
    model_class = SmolVLMForConditionalGeneration
    language_path = "model.text_model"
    projector_paths = ("model.connector",)

    @staticmethod
    def architecture(config: BackboneConfig) -> SmolVLMConfig:
        """The transformers config of a shape."""
        side = config.image_size // config.patch_size
        return SmolVLMConfig(
            vision_config={
                "hidden_size": config.vision_width,
                "num_hidden_layers": config.vision_layers,
                "num_attention_heads": config.vision_heads,
                "intermediate_size": config.vision_feedforward,
                "image_size": config.image_size,
                "patch_size": config.patch_size,
            },
            text_config=LlamaConfig(
                vocab_size=config.vocab_size,
                hidden_size=config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                num_key_value_heads=config.key_value_heads,
                intermediate_size=config.feedforward,
                initializer_range=config.init_std,
                bos_token_id=None,
                eos_token_id=None,
            ),
            image_token_id=config.vocab_size - 1,  # of the processor, not read here
            scale_factor=next(n for n in (4, 3, 2, 1) if side % n == 0),
        )

    @property
    def tower(self) -> nn.Module:
        """The vision tower."""
        return self.model.model.vision_model

    def encode_frames(self, pixels: Tensor, counts: Sequence[int]) -> list[Piece]:
        """As transformers' `get_image_features`, which would drop frames of plain grey."""
        if not len(pixels):
            return [Piece(pixels.new_zeros(0, self.width))] * len(counts)
        states = self.tower(pixels.to(self.tower.dtype)).last_hidden_state
        connector = self.model.model.connector
        # The connector is trained and stays float32 where the tower is bfloat16.
        tokens = connector(states.to(next(connector.parameters()).dtype))
        return [Piece(clip.flatten(0, 1)) for clip in tokens.split(list(counts))]


__all__ = ["SmolVLM"]
