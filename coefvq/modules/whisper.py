"""Whisper's encoder on our log-mel: sound in, one token per 20 ms out, and what of it is real."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder as HFWhisperEncoder

Window = Literal["full", "clip"]
"""How much is computed, see `WhisperEncoderConfig`."""


def whisper_mel(audio: Tensor, audio_mask: Tensor) -> Tensor:
    """Our log-mel picture in Whisper's scale.

    Ours is (log10(power) + 3) / 5, see `coefvq.data.audio.log_mel`; Whisper clamps to eight
    decades below the clip's maximum and gives (log10(power) + 4) / 4. Windows and filters are the
    same; left over is our floor of 1e-8 (Whisper's is 1e-10: heard in clips that never get
    loud), the padding at the first frame, and float16.

    Args:
        audio: (B, mel_bins, M) log-mel.
        audio_mask: (B, M) bool, True where there is sound.

    Returns:
        (B, mel_bins, M) float32; padding is what eight decades below the maximum is, and a clip
        without sound is -1.5, as digital silence is for Whisper.
    """
    power = (5 * audio.float() - 3).masked_fill(~audio_mask[:, None], -10.0)
    loudest = power.amax((1, 2), keepdim=True)
    return (torch.maximum(power, loudest - 8) + 4) / 4


@dataclass(frozen=True)
class WhisperEncoderConfig:
    """Shape of a Whisper encoder; the defaults are Whisper-small (88 M).

    Args:
        mel_bins: height of the log-mel picture; must be the data's.
        width: D of the tokens.
        layers: how many.
        heads: they divide the width.
        feedforward: hidden width.
        positions: longest sound, in tokens of two mel frames.
        window: `"full"` as published: sound is padded with silence to `positions`, and attention
            reads the padding. `"clip"`: only as long as the longest sound of the batch, padding
            masked; ten seconds then cost a third of thirty. Pretrained weights have been trained
            on full windows.
    """

    mel_bins: int = 80
    width: int = 768
    layers: int = 12
    heads: int = 12
    feedforward: int = 3072
    positions: int = 1500
    window: Window = "full"

    def __post_init__(self) -> None:
        if self.window not in get_args(Window):
            raise ValueError(
                f"window {self.window!r} is unknown; choose one of {', '.join(get_args(Window))}"
            )

    def build(self) -> WhisperEncoder:
        """Make the encoder, randomly initialised."""
        return WhisperEncoder(self)


class WhisperEncoder(nn.Module):
    """Encoder of Whisper (Radford et al., 2022), transformers' class.

    Args:
        config: see `WhisperEncoderConfig`.
    """

    def __init__(self, config: WhisperEncoderConfig) -> None:
        super().__init__()
        self.config, self.width = config, config.width
        shape = WhisperConfig(
            num_mel_bins=config.mel_bins,
            d_model=config.width,
            encoder_layers=config.layers,
            encoder_attention_heads=config.heads,
            encoder_ffn_dim=config.feedforward,
            max_source_positions=config.positions,
            dropout=0.0,
        )
        shape._attn_implementation = "sdpa"
        self.encoder = HFWhisperEncoder(shape)

    def forward(self, audio: Tensor, audio_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode sound.

        Args:
            audio: (B, mel_bins, M) log-mel of the data (`coefvq.data.audio.log_mel`).
            audio_mask: (B, M) bool, True where there is sound.

        Returns:
            (B, N, width) tokens and their (B, N) bool mask; N is `positions`, or what the longest
            sound of the batch needs.

        Raises:
            ValueError: other mel bins than the model's, or a longer sound.
        """
        config, frames = self.config, audio.shape[-1]
        if audio.shape[1] != config.mel_bins:
            raise ValueError(
                f"sound has {audio.shape[1]} mel bins, Whisper reads {config.mel_bins}; "
                "make the data's mel_bins and the encoder's mel_bins equal"
            )
        if frames > 2 * config.positions:
            raise ValueError(
                f"sound has {frames} mel frames, Whisper reads {2 * config.positions}; lower the "
                "data's audio_seconds or raise the encoder's positions"
            )
        missing = 2 * config.positions - frames
        audio, audio_mask = F.pad(audio, (0, missing)), F.pad(audio_mask, (0, missing))
        counts = audio_mask.view(len(audio_mask), -1, 2).any(-1)
        mel = whisper_mel(audio, audio_mask).to(self.encoder.conv1.weight.dtype)
        if config.window == "full":
            return self.encoder(mel).last_hidden_state, counts
        return self._clip(mel, audio_mask, counts)

    def _clip(self, mel: Tensor, mask: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Whisper's forward with masks; nothing depends on how far a batch was padded."""
        encoder = self.encoder
        places = torch.arange(1, counts.shape[-1] + 1, device=counts.device)
        length = max(1, int((places * counts).max()))
        mel, mask, counts = mel[..., : 2 * length], mask[:, : 2 * length], counts[:, :length]
        x = F.gelu(encoder.conv1(mel.masked_fill(~mask[:, None], 0.0)))
        x = F.gelu(encoder.conv2(x.masked_fill(~mask[:, None], 0.0))).transpose(1, 2)
        x = x + encoder.embed_positions.weight[:length]
        # A clip without sound attends to everything: its tokens are masked, and must be finite.
        read = counts | ~counts.any(-1, keepdim=True)
        attention_mask = read[:, None, None, :].expand(-1, 1, length, -1)
        for layer in encoder.layers:
            x = layer(x, attention_mask)
        return encoder.layer_norm(x), counts


__all__ = ["WhisperEncoder", "WhisperEncoderConfig", "Window", "whisper_mel"]
