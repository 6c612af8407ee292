"""Qwen2.5-Omni's Thinker (Xu et al., 2025): vision, language and an audio tower of its own."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from transformers import Qwen2_5OmniThinkerConfig, Qwen2_5OmniThinkerForConditionalGeneration

from coefvq.modules.mllm.audio import whisper_features
from coefvq.modules.mllm.backbone import Backbone, Piece
from coefvq.modules.mllm.config import BackboneConfig
from coefvq.modules.mllm.families.qwen_frames import (
    MEAN,
    STD,
    positions_of,
    sections_of,
    whole_attention,
)
from coefvq.modules.mllm.families.qwen_vl import QwenVL

LEAST_MEL_FRAMES = 3
"""Shorter sound has no token: the tower halves it twice."""


class QwenOmni(Backbone):
    """Frames as in Qwen2.5-VL; with audio mode `"own"` sound goes through its own tower.

    The sequence puts sound where the layout says, not interleaved with the frames by time. Random
    weights take the shape of the audio tower from that of the vision tower.
    """

    family = "qwen2_5_omni"
    model_types = ("qwen2_5_omni_thinker", "qwen2_5_omni")
    model_class = Qwen2_5OmniThinkerForConditionalGeneration
    mean, std = MEAN, STD
    _frame_size = QwenVL._frame_size
    encode_frames = QwenVL.encode_frames

    @staticmethod
    def architecture(config: BackboneConfig) -> Qwen2_5OmniThinkerConfig:
        """The transformers config of a shape."""
        last = config.vocab_size - 1  # placeholders of the processor, not read here
        return Qwen2_5OmniThinkerConfig(
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
            audio_config={
                "encoder_layers": config.vision_layers,
                "d_model": config.vision_width,
                "encoder_attention_heads": config.vision_heads,
                "encoder_ffn_dim": config.vision_feedforward,
                "output_dim": config.width,
            },
            text_config={
                "vocab_size": config.vocab_size,
                "hidden_size": config.width,
                "num_hidden_layers": config.layers,
                "num_attention_heads": config.heads,
                "num_key_value_heads": config.key_value_heads,
                "intermediate_size": config.feedforward,
                "initializer_range": config.init_std,
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 1_000_000.0,
                    "mrope_section": sections_of(config.width // config.heads),
                },
            },
            audio_token_index=last - 2,
            image_token_index=last - 1,
            video_token_index=last,
        )

    @property
    def tower(self) -> nn.Module:
        """The vision tower."""
        return self.model.model.visual

    @property
    def audio_tower(self) -> nn.Module:
        """The audio tower."""
        return self.model.model.audio_tower

    def encode_audio(self, audio: Tensor, audio_mask: Tensor) -> list[Tensor]:
        """As transformers' `get_audio_features`: a token for each 40 ms at a hop of 10 ms.

        Raises:
            ValueError: another number of mel bins than the tower's.
        """
        bins = self.model.config.audio_config.num_mel_bins
        if audio.shape[1] != bins:
            raise ValueError(
                f"sound has {audio.shape[1]} mel bins, the audio tower reads {bins}; "
                f"set the data's mel_bins to {bins}"
            )
        lengths = audio_mask.sum(1)
        heard = lengths >= LEAST_MEL_FRAMES
        nothing = audio.new_zeros(0, self.width)
        if not heard.any():
            return [nothing] * len(audio)
        # The tower wants the frames that count in front, which is where sound is.
        features = whisper_features(audio[heard], audio_mask[heard])
        states = self.model.model.get_audio_features(
            features.to(self.audio_tower.dtype), audio_mask[heard].long()
        ).last_hidden_state
        _, sizes = self.audio_tower._get_feat_extract_output_lengths(lengths[heard])
        tokens = iter(states.split(sizes.tolist()))
        return [next(tokens) if audible else nothing for audible in heard.tolist()]

    def position_ids(self, sequences: Sequence[Sequence[Piece]], length: int) -> Tensor:
        """Positions on three axes: (3, B, length) int64."""
        interval = self.model.config.position_id_per_seconds
        return positions_of(sequences, length, interval, time_counts=True)


__all__ = ["LEAST_MEL_FRAMES", "QwenOmni"]
