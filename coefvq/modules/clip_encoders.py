"""Encoders of one clip: pictures, text and sound become N tokens each, once per clip.

They are frozen as published, so that what they give can be kept on disk. Where there is no
pretrained checkpoint (the tiny size), `frozen=False` trains small ones along: features of frozen
random encoders tell little.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coefvq.modules.frames import FrameConfig, FrameProcessor
from coefvq.modules.pair_maps import pool_tokens
from coefvq.modules.pooling import masked_mean
from coefvq.modules.sound import SoundEncoder, SoundEncoderConfig
from coefvq.modules.text import TextEncoder
from coefvq.modules.vision import ConvEncoderConfig, SwinEncoderConfig
from coefvq.modules.whisper import WhisperEncoderConfig
from coefvq.types import Batch, Tensors

Modalities = Literal["V", "V+T", "V+A", "V+A+T"]
"""What is read: video frames always, text (T) and audio (A) on request."""

EMPTY_TEXT = 2
"""Tokens of a text with nothing in it: CLS and SEP."""


class ClipRows(Tensors):
    """Tensors whose first axis is clips: what a store of features can keep and put together."""

    def __getitem__(self, rows: slice | Tensor) -> Self:
        """Some of the clips, as indexing a tensor would give them."""
        return self._map(lambda tensor: tensor[rows])

    @classmethod
    def cat(cls, parts: list[Self]) -> Self:
        """Join clips of several batches."""
        columns: dict[str, Tensor | None] = {}
        for f in dataclasses.fields(cls):  # type: ignore[arg-type]
            values = [getattr(part, f.name) for part in parts]
            columns[f.name] = None if values[0] is None else torch.cat(values)
        return cls(**columns)


@dataclass(frozen=True)
class ClipFeatures(ClipRows):
    """What the encoders know of B clips; the pair module needs nothing else of them.

    Args:
        video: (B, N, D_v) tokens of the frames, 0 where masked.
        video_mask: (B, N) bool, True where a token counts.
        text: (B, N, D_t); None where the model does not read.
        text_mask: (B, N) bool; all False for a clip without text.
        audio: (B, N, D_a); None where the model does not listen.
        audio_mask: (B, N) bool; all False for a silent clip.
    """

    video: Tensor
    video_mask: Tensor
    text: Tensor | None = None
    text_mask: Tensor | None = None
    audio: Tensor | None = None
    audio_mask: Tensor | None = None

    def __len__(self) -> int:
        return len(self.video)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.video.device

    def public(self) -> Self:
        """Itself: there is nothing privileged in it (so that a `PairBatch` may carry it)."""
        return self


@dataclass(frozen=True)
class TextTokensConfig:
    """Shape of the text encoder; the defaults are BERT-base, which Sentence-BERT is made from.

    Args:
        vocab_size: V, tokens of the tokenizer; 0 where no text is read.
        width: D of the tokens.
        layers: how many.
        heads: they divide the width.
        feedforward: hidden width.
        max_length: longest text, in tokens.
        sentence: give one token, the mean over the text, as Sentence-BERT does; otherwise all.
    """

    vocab_size: int = 30_522
    width: int = 768
    layers: int = 12
    heads: int = 12
    feedforward: int = 3072
    max_length: int = 512
    sentence: bool = False

    def build(self) -> TextEncoder:
        """Make the encoder, randomly initialised, without dropout."""
        values = {k: v for k, v in dataclasses.asdict(self).items() if k != "sentence"}
        return TextEncoder(**{**values, "vocab_size": max(1, self.vocab_size), "dropout": 0.0})


@dataclass(frozen=True)
class ConvAudioConfig(SoundEncoderConfig):
    """A small convolutional sound encoder in Whisper's place, trained along.

    Args:
        mel_bins: see `SoundEncoderConfig`, as the rest.
        hidden: see `SoundEncoderConfig`.
        patch: see `SoundEncoderConfig`.
        stride: see `SoundEncoderConfig`.
        width: D of the tokens.
    """

    width: int = 64

    def build(self) -> SoundEncoder:
        """Make the encoder, randomly initialised."""
        return SoundEncoder(self, self.width)


def swin_tiny() -> SwinEncoderConfig:
    """Swin-T, 28 M: what MatchLite sees with."""
    return SwinEncoderConfig(embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24))


KINDS: dict[str, type[Any]] = {
    "swin": SwinEncoderConfig,
    "conv": ConvEncoderConfig,
    "whisper": WhisperEncoderConfig,
    "conv_audio": ConvAudioConfig,
}
"""Shapes of encoders by the word they are saved under."""


@dataclass(frozen=True)
class ClipEncoderConfig:
    """What reads a clip; the defaults are MatchLite's: Swin-T, BERT-base and Whisper-small.

    Args:
        vision: shape of the frame encoder.
        text: shape of the text encoder.
        audio: shape of the sound encoder.
        frames: how frames are prepared. Mirroring is off: a mirrored copy is a thing to find.
        tokens: N, tokens per modality.
        cells: side of the grid that each frame's map is averaged to, beside the frame's summary;
            0: the summary alone. Frames give F · (1 + cells²) tokens, pooled to N.
        frozen: encoders stay as they are, in eval mode, without gradients.
    """

    vision: SwinEncoderConfig | ConvEncoderConfig = field(default_factory=swin_tiny)
    text: TextTokensConfig = field(default_factory=TextTokensConfig)
    audio: WhisperEncoderConfig | ConvAudioConfig = field(default_factory=WhisperEncoderConfig)
    frames: FrameConfig = field(default_factory=lambda: FrameConfig(flip=False))
    tokens: int = 32
    cells: int = 0
    frozen: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is the way back."""
        values = dataclasses.asdict(self)
        for name in ("vision", "audio"):
            kind = next(k for k, cls in KINDS.items() if type(getattr(self, name)) is cls)
            values[name] = {"kind": kind, **values[name]}
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClipEncoderConfig:
        """Make a config from what `to_dict` gave."""
        made = dict(values)
        for name in ("vision", "audio"):
            shape = dict(made[name])
            made[name] = KINDS[shape.pop("kind")](**shape)
        made["text"] = TextTokensConfig(**made["text"])
        made["frames"] = FrameConfig(**made["frames"])
        return cls(**made)


class ClipEncoder(nn.Module):
    """Frames, text and sound of a clip as N tokens each.

    Args:
        config: see `ClipEncoderConfig`.
        modalities: see `Modalities`; encoders of the others are not made.
    """

    features_class: ClassVar[type[ClipFeatures]] = ClipFeatures

    def __init__(self, config: ClipEncoderConfig, modalities: Modalities = "V+A+T") -> None:
        super().__init__()
        if modalities not in get_args(Modalities):
            raise ValueError(
                f"modalities {modalities!r} is unknown; "
                f"choose one of {', '.join(get_args(Modalities))}"
            )
        self.config = config
        self.frames = FrameProcessor(config.frames)
        self.vision = config.vision.build()
        # No tokenizer, no text: also where the data has no text fields.
        reads = "T" in modalities and config.text.vocab_size > 0
        self.text = config.text.build() if reads else None
        self.audio = config.audio.build() if "A" in modalities else None
        if config.frozen:
            self.requires_grad_(False).eval()

    @property
    def widths(self) -> dict[str, int]:
        """D of each modality that is read: `video`, `text`, `audio`."""
        widths = {"video": self.vision.width}
        if self.text is not None:
            widths["text"] = self.config.text.width
        if self.audio is not None:
            widths["audio"] = self.config.audio.width
        return widths

    def train(self, mode: bool = True) -> Self:
        """Frozen encoders stay in eval mode."""
        return super().train(mode and not self.config.frozen)

    def forward(self, batch: Batch) -> ClipFeatures:
        """Encode the clips of a batch; only its public part is read."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.frozen):
            video, video_mask = self._see(batch)
            text, text_mask = self._read(batch)
            audio, audio_mask = self._hear(batch)
        return ClipFeatures(video, video_mask, text, text_mask, audio, audio_mask)

    def _see(self, batch: Batch) -> tuple[Tensor, Tensor]:
        pixels = self.frames(batch.frames, next(self.vision.parameters()).dtype)
        clips, frames = pixels.shape[:2]
        tokens = self.vision(pixels.flatten(0, 1))
        if cells := self.config.cells:
            side = round((tokens.shape[1] - 1) ** 0.5)
            grid = tokens[:, 1:].transpose(1, 2).unflatten(-1, (side, -1))
            grid = F.adaptive_avg_pool2d(grid, cells).flatten(2).transpose(1, 2)
            tokens = torch.cat([tokens[:, :1], grid], dim=1)
        else:
            tokens = tokens[:, :1]
        mask = batch.frame_mask[:, :, None].expand(-1, -1, tokens.shape[1]).flatten(1)
        tokens = tokens.unflatten(0, (clips, frames)).flatten(1, 2)
        return pool_tokens(tokens, mask, self.config.tokens)

    def _read(self, batch: Batch) -> tuple[Tensor | None, Tensor | None]:
        if self.text is None:
            return None, None
        if batch.input_ids is None:
            return self._nothing(batch, self.config.text.width)
        mask = batch.text_mask
        mask = torch.ones_like(batch.input_ids, dtype=torch.bool) if mask is None else mask
        tokens = self.text(batch.input_ids, mask)
        empty = mask.sum(-1, keepdim=True) <= EMPTY_TEXT
        if self.config.text.sentence:
            tokens, mask = masked_mean(tokens, mask)[:, None], torch.ones_like(mask[:, :1])
        return pool_tokens(tokens, mask & ~empty, self.config.tokens)

    def _hear(self, batch: Batch) -> tuple[Tensor | None, Tensor | None]:
        if self.audio is None:
            return None, None
        if batch.audio is None:
            return self._nothing(batch, self.config.audio.width)
        mask = batch.audio_mask
        if mask is None:
            mask = batch.frame_mask.new_ones(len(batch), batch.audio.shape[-1])
        tokens, mask = self.audio(batch.audio, mask)
        return pool_tokens(tokens, mask, self.config.tokens)

    def _nothing(self, batch: Batch, width: int) -> tuple[Tensor, Tensor]:
        """What a batch without the modality has: N tokens per clip, none of which counts."""
        mask = batch.frame_mask.new_zeros(len(batch), self.config.tokens)
        dtype = next(self.vision.parameters()).dtype
        return torch.zeros(*mask.shape, width, dtype=dtype, device=mask.device), mask


__all__ = [
    "EMPTY_TEXT",
    "ClipEncoder",
    "ClipEncoderConfig",
    "ClipFeatures",
    "ClipRows",
    "ConvAudioConfig",
    "Modalities",
    "TextTokensConfig",
    "swin_tiny",
]
