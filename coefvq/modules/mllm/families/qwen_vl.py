"""Qwen2.5-VL (Bai et al., 2025)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from coefvq.modules.mllm.backbone import Backbone, Piece
from coefvq.modules.mllm.config import BackboneConfig
from coefvq.modules.mllm.families.qwen_frames import (
    MEAN,
    STD,
    patches_of,
    positions_of,
    sections_of,
    whole_attention,
)


class QwenVL(Backbone):
    """Two frames and two by two patches become one token, with positions on three axes.

    The merger of patches is part of the tower here and is frozen with it. Times are those of
    transformers without a frame rate: one second from pair of frames to pair of frames.
    """

    family = "qwen2_5_vl"
    model_types = ("qwen2_5_vl",)
    model_class = Qwen2_5_VLForConditionalGeneration
    mean, std = MEAN, STD

    @staticmethod
    def architecture(config: BackboneConfig) -> Qwen2_5_VLConfig:
        """The transformers config of a shape."""
        last = config.vocab_size - 1  # placeholders of the processor, not read here
        return Qwen2_5_VLConfig(
            vision_config={
                "depth": config.vision_layers,
                "hidden_size": config.vision_width,
                "num_heads": config.vision_heads,
                "intermediate_size": config.vision_feedforward,
                "patch_size": config.patch_size,
                "window_size": 8 * config.patch_size,
                "out_hidden_size": config.width,
                "fullatt_block_indexes": whole_attention(config.vision_layers),
            },
            text_config={
                "vocab_size": config.vocab_size,
                "hidden_size": config.width,
                "num_hidden_layers": config.layers,
                "num_attention_heads": config.heads,
                "num_key_value_heads": config.key_value_heads,
                "intermediate_size": config.feedforward,
                "initializer_range": config.init_std,
                "bos_token_id": None,
                "eos_token_id": None,
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 1_000_000.0,
                    "mrope_section": sections_of(config.width // config.heads),
                },
            },
            image_token_id=last - 1,
            video_token_id=last,
            vision_start_token_id=last - 2,
            vision_end_token_id=last - 3,
            tie_word_embeddings=True,
        )

    @property
    def tower(self) -> nn.Module:
        """The vision tower."""
        return self.model.model.visual

    def _frame_size(self, config: BackboneConfig) -> int:
        vision = self.model.config.vision_config
        side = vision.patch_size * vision.spatial_merge_size
        if config.image_size < side:
            raise ValueError(
                f"image_size={config.image_size} is below the {side} pixels of one token"
            )
        return config.image_size // side * side

    def encode_frames(self, pixels: Tensor, counts: Sequence[int]) -> list[Piece]:
        """As transformers' `get_video_features`, without its processor."""
        vision = self.model.config.vision_config
        merge = vision.spatial_merge_size
        nothing = Piece(pixels.new_zeros(0, self.width))
        cut = [
            patches_of(clip, vision.patch_size, merge, vision.temporal_patch_size)
            for clip in pixels.split(list(counts))
            if len(clip)
        ]
        if not cut:
            return [nothing] * len(counts)
        grids = torch.tensor([grid for _, grid in cut], device=pixels.device)
        patches = torch.cat([patches for patches, _ in cut])
        tokens = iter(self.model.model.get_video_features(patches, grids).pooler_output)
        shapes = iter([(t, h // merge, w // merge) for _, (t, h, w) in cut])
        return [Piece(next(tokens), next(shapes)) if count else nothing for count in counts]

    def position_ids(self, sequences: Sequence[Sequence[Piece]], length: int) -> Tensor:
        """Positions on three axes: (3, B, length) int64."""
        interval = self.model.config.vision_config.tokens_per_second
        return positions_of(sequences, length, interval, time_counts=False)


__all__ = ["QwenVL"]
