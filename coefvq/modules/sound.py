"""Sound encoder: a log-mel picture becomes a few tokens of the cross-modal memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class SoundEncoderConfig:
    """Shape of the sound encoder.

    Args:
        mel_bins: height of the log-mel picture; must be the data's.
        hidden: channels between the two convolutions.
        patch: mel frames per patch of the first convolution.
        stride: patches per token.
        mel_frames: the most mel frames that are heard, from the start of the clip; None: all. For
            a student that is to be lighter than a teacher of the same batches.
    """

    mel_bins: int = 64
    hidden: int = 64
    patch: int = 4
    stride: int = 2
    mel_frames: int | None = None

    def __post_init__(self) -> None:
        if self.mel_frames is not None and self.mel_frames < 1:
            raise ValueError(
                f"mel_frames must be at least 1, or None for all, got {self.mel_frames}"
            )


class SoundEncoder(nn.Module):
    """Two convolutions over time; X-VLM has no sound, so this is our extension.

    What lies under the mask is never read: it is put to zero before each convolution. A silent
    clip has no token that counts; its vision tokens are there to be attended to.

    Args:
        config: see `SoundEncoderConfig`.
        width: of the tokens (the memory's).
    """

    def __init__(self, config: SoundEncoderConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.patches = nn.Conv1d(config.mel_bins, config.hidden, config.patch, config.patch)
        self.mix = nn.Conv1d(config.hidden, width, 3, config.stride, padding=1)

    def forward(self, audio: Tensor, audio_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode sound.

        Args:
            audio: (B, mel_bins, M) log-mel.
            audio_mask: (B, M) bool, True where there is sound.

        Returns:
            (B, N, width) tokens and their (B, N) bool mask, with N = M / (patch · stride).

        Raises:
            ValueError: another number of mel bins than the model's.
        """
        patch, stride = self.config.patch, self.config.stride
        if audio.shape[1] != self.config.mel_bins:
            raise ValueError(
                f"sound has {audio.shape[1]} mel bins, the model reads {self.config.mel_bins}; "
                "make the data's mel_bins and the trunk's sound.mel_bins equal"
            )
        audio, audio_mask = (
            audio[..., : self.config.mel_frames],
            audio_mask[:, : self.config.mel_frames],
        )
        audio = audio.to(self.patches.weight.dtype).masked_fill(~audio_mask[:, None], 0.0)
        missing = -audio.shape[-1] % (patch * stride)
        audio, counts = F.pad(audio, (0, missing)), F.pad(audio_mask, (0, missing))
        counts = counts.unflatten(-1, (-1, patch)).any(-1)
        x = F.gelu(self.patches(audio)).masked_fill(~counts[:, None], 0.0)
        tokens = self.mix(x).transpose(1, 2)
        return tokens, counts.unflatten(-1, (-1, stride)).any(-1)


__all__ = ["SoundEncoder", "SoundEncoderConfig"]
