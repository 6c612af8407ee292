"""X-VLM: frames, text and, as our extension, sound become one feature vector per clip."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from coefvq.modules.cross_modal import CrossModalEncoder
from coefvq.modules.pooling import masked_mean, masked_statistics
from coefvq.modules.sound import SoundEncoder, SoundEncoderConfig
from coefvq.modules.text import TextEncoder
from coefvq.modules.vision import ConvEncoderConfig, SwinEncoderConfig

Pool = Literal["text", "all"]
"""What the features are made of, see `XVLMConfig`."""

VISION_CONFIGS = {"conv": ConvEncoderConfig, "swin": SwinEncoderConfig}


@dataclass(frozen=True)
class XVLMConfig:
    """Shape of an X-VLM trunk; the defaults are the published base size.

    Args:
        vocab_size: V, tokens of the tokenizer; 0 where no text is read.
        vision: shape of the vision encoder. Any frozen dataclass with `build()` will do;
            saving knows the two that come with the library.
        width: D of the text side.
        heads: attention heads of the text side; they divide the width.
        text_layers: layers that read text alone.
        cross_layers: layers that also attend to the memory.
        feedforward: hidden width; None: four times the width.
        dropout: in text and cross-modal layers.
        max_text_length: longest text, in tokens.
        max_frames: most frames per clip.
        cls_token_id: token that stands alone where a batch has no text: 2 in tokenizers trained
            here, 101 in BERT's.
        sound: shape of the sound encoder; None as published: X-VLM does not listen.
        pool: `"text"` as published: text position 0 after the cross-modal layers. `"all"` is a
            deviation for small data, where the way from a pixel through attention to that one
            position takes too long to learn: beside position 0 stand the product of text mean and
            vision (for titles that don't fit the picture), mean and deviation over frames of the
            vision summary, and mean and deviation of the sound tokens.
    """

    vocab_size: int = 30_522
    vision: ConvEncoderConfig | SwinEncoderConfig = field(default_factory=SwinEncoderConfig)
    width: int = 768
    heads: int = 12
    text_layers: int = 6
    cross_layers: int = 6
    feedforward: int | None = None
    dropout: float = 0.1
    max_text_length: int = 512
    max_frames: int = 32
    cls_token_id: int = 2
    sound: SoundEncoderConfig | None = None
    pool: Pool = "text"

    def __post_init__(self) -> None:
        if self.pool not in get_args(Pool):
            raise ValueError(
                f"pool {self.pool!r} is unknown; choose one of {', '.join(get_args(Pool))}"
            )
        if self.width % self.heads:
            raise ValueError(f"heads={self.heads} must divide width={self.width}")
        if self.cls_token_id < 0 or 0 < self.vocab_size <= self.cls_token_id:
            raise ValueError(
                f"cls_token_id={self.cls_token_id} is outside the vocabulary of "
                f"{self.vocab_size} tokens; give the tokenizer's cls_token_id"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is the way back."""
        values = dataclasses.asdict(self)
        kinds = [kind for kind, cls in VISION_CONFIGS.items() if type(self.vision) is cls]
        if not kinds:
            raise ValueError(
                f"vision {type(self.vision).__name__} cannot be saved; use one of "
                f"{', '.join(cls.__name__ for cls in VISION_CONFIGS.values())}"
            )
        values["vision"] = {"kind": kinds[0], **values["vision"]}
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> XVLMConfig:
        """Make a config from what `to_dict` gave."""
        vision = dict(values["vision"])
        sound = values.get("sound")
        return cls(
            **{
                **values,
                "vision": VISION_CONFIGS[vision.pop("kind")](**vision),
                "sound": None if sound is None else SoundEncoderConfig(**sound),
            }
        )


class XVLM(nn.Module):
    """X-VLM trunk (Zeng et al., ICML 2022; frames as in X²-VLM, TPAMI 2023).

    Frames are encoded as pictures, get a learned frame position and are averaged per patch. The
    average is linear, so as published the position can say how many frames there are but not
    their order. Vision tokens are the memory of the cross-modal layers, in their own width, as
    in the authors' code; sound tokens and whatever a teacher adds are appended to them.

    Args:
        config: see `XVLMConfig`.
    """

    def __init__(self, config: XVLMConfig) -> None:
        super().__init__()
        self.config = config
        feedforward = 4 * config.width if config.feedforward is None else config.feedforward
        sizes = {"width": config.width, "heads": config.heads, "feedforward": feedforward}
        self.vision = config.vision.build()
        self.memory_width: int = self.vision.width
        self.frame_position = nn.Parameter(torch.zeros(config.max_frames, 1, self.memory_width))
        self.text = TextEncoder(
            vocab_size=max(config.vocab_size, config.cls_token_id + 1),
            layers=config.text_layers,
            dropout=config.dropout,
            max_length=config.max_text_length,
            **sizes,
        )
        self.cross_modal = CrossModalEncoder(
            layers=config.cross_layers,
            memory_width=self.memory_width,
            dropout=config.dropout,
            **sizes,
        )
        self.sound = None if config.sound is None else SoundEncoder(config.sound, self.memory_width)
        if config.pool == "all":
            self.match_text = nn.Linear(config.width, config.width)
            self.match_vision = nn.Linear(2 * self.memory_width, config.width)

    @property
    def features_width(self) -> int:
        """D of the features."""
        if self.config.pool == "text":
            return self.config.width
        parts = 2 if self.sound is None else 4
        return 2 * self.config.width + parts * self.memory_width

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, and of the pixels they want."""
        return self.frame_position.dtype

    def forward(
        self,
        pixels: Tensor,
        frame_mask: Tensor,
        input_ids: Tensor | None = None,
        text_mask: Tensor | None = None,
        audio: Tensor | None = None,
        audio_mask: Tensor | None = None,
        extra_tokens: Tensor | None = None,
    ) -> Tensor:
        """Encode clips.

        Args:
            pixels: (B, F, 3, h, w), normalised.
            frame_mask: (B, F) bool, True where a frame is real; at least one per clip.
            input_ids: (B, T) int64; None: a text of the CLS token alone.
            text_mask: (B, T) bool, True where a token counts.
            audio: (B, mel_bins, M) log-mel; None, or a trunk without sound: not heard.
            audio_mask: (B, M) bool, True where there is sound.
            extra_tokens: (B, N, memory_width) more memory tokens.

        Returns:
            (B, features_width).

        Raises:
            ValueError: more frames, a longer text or other mel bins than the model was made for.
        """
        clips, frames = pixels.shape[:2]
        if frames > self.config.max_frames:
            raise ValueError(
                f"clips have {frames} frames, the model takes {self.config.max_frames}; "
                "lower the data's num_frames or raise the trunk's max_frames"
            )
        tokens = self.vision(pixels.flatten(0, 1)).unflatten(0, (clips, frames))
        memory = [masked_mean(tokens + self.frame_position[:frames], frame_mask)]
        masks = [frame_mask.new_ones(clips, memory[0].shape[1])]
        heard = None
        if self.sound is not None and audio is not None:
            if audio_mask is None:
                audio_mask = frame_mask.new_ones(clips, audio.shape[-1])
            heard = self.sound(audio, audio_mask)
            memory.append(heard[0])
            masks.append(heard[1])
        if extra_tokens is not None:
            memory.append(extra_tokens)
            masks.append(masks[0].new_ones(clips, extra_tokens.shape[1]))

        if input_ids is None:
            input_ids = torch.full((clips, 1), self.config.cls_token_id, device=pixels.device)
            text_mask = None
        text = self.text(input_ids, text_mask)
        x = self.cross_modal(text, torch.cat(memory, 1), text_mask, torch.cat(masks, 1))[:, 0]
        if self.config.pool == "text":
            return x
        seen = masked_statistics(tokens[:, :, 0], frame_mask)
        match = self.match_text(masked_mean(text, text_mask)) * self.match_vision(seen)
        parts = [x, match, seen]
        if self.sound is not None:
            silence = seen.new_zeros(clips, 2 * self.memory_width)
            parts.append(silence if heard is None else masked_statistics(*heard))
        return torch.cat([part.to(x.dtype) for part in parts], dim=-1)


__all__ = ["XVLM", "Pool", "XVLMConfig"]
