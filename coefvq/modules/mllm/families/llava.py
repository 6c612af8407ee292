"""LLaVA-OneVision (Li et al., 2024): SigLIP, a two-layer projector and Qwen2."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2Config,
    SiglipVisionConfig,
)

from coefvq.modules.mllm.backbone import Backbone, Piece
from coefvq.modules.mllm.config import BackboneConfig


class LlavaOneVision(Backbone):
    """Tokens of a frame are averaged two by two; a learned token closes each clip."""

    family = "llava_onevision"
    model_types = ("llava_onevision",)
    model_class = LlavaOnevisionForConditionalGeneration
    projector_paths = ("model.multi_modal_projector",)

    @staticmethod
    def architecture(config: BackboneConfig) -> LlavaOnevisionConfig:
        """The transformers config of a shape."""
        last = config.vocab_size - 1  # placeholders of the processor, not read here
        return LlavaOnevisionConfig(
            vision_config=SiglipVisionConfig(
                hidden_size=config.vision_width,
                num_hidden_layers=config.vision_layers,
                num_attention_heads=config.vision_heads,
                intermediate_size=config.vision_feedforward,
                image_size=config.image_size,
                patch_size=config.patch_size,
                vision_use_head=False,
            ),
            text_config=Qwen2Config(
                vocab_size=config.vocab_size,
                hidden_size=config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                num_key_value_heads=config.key_value_heads,
                intermediate_size=config.feedforward,
                initializer_range=config.init_std,
                tie_word_embeddings=True,
                rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
            ),
            image_token_index=last - 1,
            video_token_index=last,
            tie_word_embeddings=True,
        )

    @property
    def tower(self) -> nn.Module:
        """The vision tower."""
        return self.model.model.vision_tower

    def encode_frames(self, pixels: Tensor, counts: Sequence[int]) -> list[Piece]:
        """As transformers' `get_video_features`, which takes only clips of one length."""
        inner = self.model.model
        tokens = pixels.new_zeros(0, 1, self.width)
        if len(pixels):
            tokens = self._features(pixels.to(self.tower.dtype))
            # The projector is trained and stays float32 where the tower is bfloat16.
            tokens = inner.multi_modal_projector(
                tokens.to(inner.multi_modal_projector.linear_1.weight.dtype)
            )
            tokens = inner.apply_pooling(tokens)
        end = inner.image_newline[None].to(tokens.dtype)
        return [
            Piece(torch.cat([clip.flatten(0, 1), end]) if len(clip) else clip.flatten(0, 1))
            for clip in tokens.split(list(counts))
        ]

    def _features(self, pixels: Tensor) -> Tensor:
        config = self.model.config
        layers = config.vision_feature_layer
        if layers == -1 and hasattr(self.tower, "encoder"):
            # The usual case, without keeping the states of every layer.
            x = self.tower.encoder(inputs_embeds=self.tower.embeddings(pixels)).last_hidden_state
        else:
            states = self.tower(pixels, output_hidden_states=True).hidden_states
            chosen = [layers] if isinstance(layers, int) else layers
            x = torch.cat([states[layer] for layer in chosen], dim=-1)
        return x[:, 1:] if config.vision_feature_select_strategy == "default" else x


__all__ = ["LlavaOneVision"]
