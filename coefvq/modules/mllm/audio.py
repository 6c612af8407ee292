"""Sound for a language model: Whisper's encoder and four ways to put its tokens to use."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, WhisperConfig, WhisperModel
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from coefvq.modules.mllm.architecture import plain
from coefvq.modules.mllm.config import AudioConfig


def whisper_features(audio: Tensor, audio_mask: Tensor, length: int | None = None) -> Tensor:
    """Bring our log-mel picture to Whisper's scale.

    Ours is (log10 p + 3) / 5 with powers below 1e-8 raised to that; Whisper's is
    (log10 p + 4) / 4 where nothing lies more than 8 decades below the clip's maximum (Radford et
    al., 2022). What is masked becomes Whisper's padding, whatever stands there.

    Args:
        audio: (B, mel_bins, M) log-mel.
        audio_mask: (B, M) bool, True where there is sound.
        length: mel frames of the result, cut or padded; None: M.

    Returns:
        (B, mel_bins, length) float32.

    Example:
        >>> loud = torch.tensor([[[0.6, -1.0, 9.9]]])  # 1, the floor of 1e-8, and padding
        >>> whisper_features(loud, torch.tensor([[True, True, False]]))
        tensor([[[ 1., -1., -1.]]])
    """
    length = audio.shape[-1] if length is None else length
    audio, audio_mask = audio[..., :length].float(), audio_mask[..., :length]
    decades = (5.0 * audio - 3.0).masked_fill(~audio_mask[:, None], -10.0)
    decades = F.pad(decades, (0, length - decades.shape[-1]), value=-10.0)
    floor = decades.amax(dim=(1, 2), keepdim=True) - 8.0
    return (torch.maximum(decades, floor) + 4.0) / 4.0


class WhisperTower(nn.Module):
    """Whisper's encoder, with a mask for what it makes of padding.

    Whisper has no mask of its own: it reads padding as silence. Its padded outputs are never used.

    Args:
        config: see `AudioConfig`.
    """

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.encoder = _open_whisper(config)
        if not isinstance(self.encoder.config, WhisperConfig):
            raise ValueError(
                f"audio checkpoint {config.model_name_or_path} is a "
                f"{self.encoder.config.model_type}, expected a Whisper model"
            )

    @property
    def width(self) -> int:
        """Of the tokens."""
        return int(self.encoder.config.d_model)

    @property
    def mel_bins(self) -> int:
        """Height of the log-mel picture."""
        return int(self.encoder.config.num_mel_bins)

    @property
    def positions(self) -> int:
        """N, tokens that come out."""
        return int(self.encoder.config.max_source_positions)

    def architecture(self) -> dict[str, object]:
        """The transformers config as plain values."""
        return plain(self.encoder.config)

    def forward(self, audio: Tensor, audio_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode sound.

        Args:
            audio: (B, mel_bins, M) log-mel of the library's scale; what is longer than Whisper
                takes is cut.
            audio_mask: (B, M) bool, True where there is sound.

        Returns:
            (B, N, width) float32 tokens and their (B, N) bool mask.

        Raises:
            ValueError: another number of mel bins than the model's.
        """
        if audio.shape[1] != self.mel_bins:
            raise ValueError(
                f"sound has {audio.shape[1]} mel bins, the audio tower reads {self.mel_bins}; "
                "make the data's mel_bins and the model's audio.mel_bins equal"
            )
        length = 2 * self.positions
        mask = F.pad(audio_mask[:, :length], (0, max(0, length - audio_mask.shape[1])))
        mask = mask.unflatten(1, (-1, 2)).any(-1)
        heard = mask.any(1)
        tokens = audio.new_zeros(len(audio), self.positions, self.width, dtype=torch.float32)
        if heard.any():  # silent clips cost nothing
            features = whisper_features(audio[heard], audio_mask[heard], length)
            features = features.to(self.encoder.conv1.weight.dtype)
            tokens[heard] = self.encoder(features).last_hidden_state.float()
        return tokens, mask


class SaliencyPool(nn.Module):
    """Weigh tokens by a learned saliency and add them up: many tokens become one.

    Args:
        width: D of the tokens.

    Example:
        >>> pool = SaliencyPool(4)
        >>> pool(torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.bool)).shape
        torch.Size([2, 4])
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Pool.

        Args:
            tokens: (B, N, D).
            mask: (B, N) bool, True where a token counts.

        Returns:
            (B, D); 0 where no token counts.
        """
        tokens = tokens.masked_fill(~mask[..., None], 0.0)
        scores = self.score(tokens).squeeze(-1).float()
        scores = scores.masked_fill(~mask, torch.finfo(torch.float32).min)
        weights = scores.softmax(-1).masked_fill(~mask, 0.0).to(tokens.dtype)
        return (weights[:, None] @ tokens).squeeze(1)


class AudioPath(nn.Module):
    """From a batch's sound to what the sequence, the vision tokens or the head are given.

    Args:
        config: see `AudioConfig`; its mode is not `"own"`.
        width: D of the language model.
    """

    def __init__(self, config: AudioConfig, width: int) -> None:
        super().__init__()
        self.mode, self.stack = config.mode, config.stack
        self.tower = WhisperTower(config)
        inner = self.tower.width
        if self.mode in ("saliency", "late"):
            self.pool = SaliencyPool(inner)
        if self.mode == "mid":
            self.cross = GatedCrossAttention(width, inner)
        else:
            given = inner * (self.stack if self.mode == "token" else 1)
            self.project = nn.Sequential(
                nn.LayerNorm(given), nn.Linear(given, width), nn.GELU(), nn.Linear(width, width)
            )

    def forward(self, audio: Tensor, audio_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode sound.

        Args:
            audio: (B, mel_bins, M) log-mel.
            audio_mask: (B, M) bool.

        Returns:
            (B, N, D) float32 tokens for the sequence (one for `"saliency"` and `"late"`; for
            `"mid"` Whisper's own, in its width) and their (B, N) bool mask.
        """
        tokens, mask = self.tower(audio, audio_mask)
        if self.mode == "mid":
            return tokens, mask
        if self.mode in ("saliency", "late"):
            return self.project(self.pool(tokens, mask))[:, None], mask.any(1, keepdim=True)
        missing = -tokens.shape[1] % self.stack
        tokens = F.pad(tokens.masked_fill(~mask[..., None], 0.0), (0, 0, 0, missing))
        mask = F.pad(mask, (0, missing)).unflatten(1, (-1, self.stack)).any(-1)
        return self.project(tokens.unflatten(1, (-1, self.stack)).flatten(2)), mask


class GatedCrossAttention(nn.Module):
    """Tokens of the sequence attend to sound: x + tanh(g) · attention, with g = 0 at the start.

    At the start the model is therefore exactly the one without sound.

    Args:
        width: D of the tokens that attend.
        memory_width: of what they attend to.
        heads: of the attention; they divide the width.
    """

    def __init__(self, width: int, memory_width: int, heads: int = 4) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(
                f"the {heads} heads of the attention to sound must divide width={width}"
            )
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(
            width, heads, kdim=memory_width, vdim=memory_width, batch_first=True
        )
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, pieces: list[Tensor], memory: Tensor, mask: Tensor) -> list[Tensor]:
        """Attend.

        Args:
            pieces: B tensors (n_i, D).
            memory: (B, N, memory_width).
            mask: (B, N) bool; a clip without sound is given back as it came.

        Returns:
            B tensors (n_i, D).
        """
        x = pad_sequence(pieces, batch_first=True)
        silent = ~mask.any(1)
        readable = mask.clone()
        readable[:, 0] |= silent  # attention to nothing is not a number
        memory = memory.masked_fill(~mask[..., None], 0.0)
        heard, _ = self.attention(
            self.norm(x), memory, memory, key_padding_mask=~readable, need_weights=False
        )
        x = x + (self.gate.tanh() * heard).masked_fill(silent[:, None, None], 0.0)
        return [row[: len(piece)] for row, piece in zip(x, pieces, strict=True)]


def _open_whisper(config: AudioConfig) -> WhisperEncoder:
    """Make the encoder from a folder or name, from plain values, or from the flat shape."""
    source = config.model_name_or_path
    if source is not None:
        given = AutoConfig.from_pretrained(source)
        if given.model_type != "whisper":
            raise ValueError(
                f"audio checkpoint {source} is a {given.model_type}, expected a Whisper model"
            )
        if given.architectures == ["WhisperEncoder"]:
            return WhisperEncoder.from_pretrained(source, dtype=torch.float32)
        return WhisperModel.from_pretrained(source, dtype=torch.float32).encoder
    if config.architecture is not None:
        return WhisperEncoder(WhisperConfig.from_dict(dict(config.architecture)))
    return WhisperEncoder(
        WhisperConfig(
            num_mel_bins=config.mel_bins,
            max_source_positions=config.positions,
            d_model=config.width,
            encoder_layers=config.layers,
            encoder_attention_heads=config.heads,
            encoder_ffn_dim=config.feedforward,
            init_std=config.init_std,
        )
    )


__all__ = ["AudioPath", "GatedCrossAttention", "SaliencyPool", "WhisperTower", "whisper_features"]
