"""Shapes of a multimodal language model, as flat values that a recipe can hold.

Every default is the published teacher's: LLaVA-OneVision 0.5B and the encoder of Whisper-small.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Family = Literal["llava_onevision", "qwen2_5_vl", "qwen2_5_omni", "smolvlm"]
"""Which transformers classes the model is made of."""

AudioMode = Literal["saliency", "token", "mid", "late", "own"]
"""How sound gets in, see `AudioConfig`."""

ReadOutKind = Literal["head", "yes_no"]
"""What the last hidden state is turned into a logit by, see `MLLMConfig`."""

Dtype = Literal["float32", "bfloat16"]
"""Of weights that are frozen; what is trained in full stays float32."""


def _check(name: str, value: str, kinds: Any) -> None:
    if value not in get_args(kinds):
        raise ValueError(f"{name} {value!r} is unknown; choose one of {', '.join(get_args(kinds))}")


def made(kind: type[Any], name: str, value: Any) -> Any:
    """Give a config back, made from plain words where it is a mapping; None stays None.

    Args:
        kind: the config's class.
        name: what it is called where it was written.
        value: an instance, a mapping of its words, or None.

    Raises:
        ValueError: something else, or a word that the class doesn't have.

    >>> made(LoraSettings, "lora", {"rank": 4}).rank
    4
    """
    if value is None or isinstance(value, kind):
        return value
    words = [word.name for word in dataclasses.fields(kind)]
    strange = sorted(set(value) - set(words)) if isinstance(value, Mapping) else [repr(value)]
    if strange:
        raise ValueError(
            f"{name} has no word {', '.join(map(str, strange))}; give a mapping with some of "
            f"{', '.join(words)}"
        )
    return kind(**value)


@dataclass(frozen=True)
class BackboneConfig:
    """Vision tower, projector and language model.

    Args:
        model_name_or_path: a folder that transformers' `save_pretrained` wrote, or a Hugging Face
            name: its weights, and its shape in place of everything below except `dtype`. None:
            random weights in the shape below.
        family: see `Family`.
        dtype: of frozen weights.
        vocab_size: V, tokens; must cover the tokenizer of the texts.
        width: D of the language model.
        layers: of the language model.
        heads: attention heads of the language model; they divide the width.
        key_value_heads: heads of keys and values; they divide `heads`.
        feedforward: hidden width of the language model's layers.
        vision_width: of the vision tower.
        vision_layers: of the vision tower.
        vision_heads: attention heads of the vision tower.
        vision_feedforward: hidden width of the vision tower's layers.
        image_size: side of the frames that the tower reads, in pixels. The Qwen towers take any
            multiple of two patches.
        patch_size: side of a patch, in pixels.
        init_std: standard deviation of random weights of language model and projector. The usual
            0.02 is for the usual widths: a narrow model starts with hardly any signal then, and one
            of width 128 learns several times faster from 0.09.
        architecture: a transformers config as plain values, in place of the shape above; what
            saved models hold.
    """

    model_name_or_path: str | None = None
    family: Family = "llava_onevision"
    dtype: Dtype = "float32"
    vocab_size: int = 152_000
    width: int = 896
    layers: int = 24
    heads: int = 14
    key_value_heads: int = 2
    feedforward: int = 4864
    vision_width: int = 1152
    vision_layers: int = 26
    vision_heads: int = 16
    vision_feedforward: int = 4304
    image_size: int = 384
    patch_size: int = 14
    init_std: float = 0.02
    architecture: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.init_std <= 0:
            raise ValueError(f"init_std must be above 0, got {self.init_std}")
        _check("family", self.family, Family)
        _check("dtype", self.dtype, Dtype)
        for width, heads in (("width", "heads"), ("vision_width", "vision_heads")):
            if getattr(self, width) % getattr(self, heads):
                raise ValueError(
                    f"{heads}={getattr(self, heads)} must divide {width}={getattr(self, width)}"
                )
        if self.heads % self.key_value_heads:
            raise ValueError(
                f"key_value_heads={self.key_value_heads} must divide heads={self.heads}"
            )


@dataclass(frozen=True)
class AudioConfig:
    """Whisper's encoder and how its tokens get into the sequence.

    Args:
        mode: `"saliency"` (MatchLM): learned weights pool all tokens into one, which stands in the
            sequence. `"token"`: `stack` neighbouring tokens become one of the sequence. `"mid"`:
            vision tokens attend to sound through a gate that starts at 0. `"late"`: the pooled
            token is joined to the last hidden state before the head. `"own"`: the language model's
            own audio tower (Qwen2.5-Omni) in place of Whisper.
        model_name_or_path: a folder or Hugging Face name of a Whisper model or its encoder; its
            shape in place of everything below except `stack`. None: random weights.
        mel_bins: height of the log-mel picture; must be the data's.
        positions: tokens that come out; twice as many mel frames go in, shorter sound is padded.
        width: of the encoder.
        layers: of the encoder.
        heads: attention heads of the encoder.
        feedforward: hidden width of the encoder's layers.
        stack: neighbouring tokens per token of the sequence, for `mode="token"`.
        init_std: standard deviation of random weights. Whisper's own 0.02 is for its own widths: in
            a narrow encoder, what is heard is then drowned by what says where it stands (position
            vectors of size 1), and little is learnt from few clips.
        architecture: a transformers config as plain values; what saved models hold.
    """

    mode: AudioMode = "saliency"
    model_name_or_path: str | None = None
    mel_bins: int = 80
    positions: int = 1500
    width: int = 768
    layers: int = 12
    heads: int = 12
    feedforward: int = 3072
    stack: int = 10
    init_std: float = 0.02
    architecture: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        _check("audio mode", self.mode, AudioMode)
        if self.stack < 1:
            raise ValueError(f"stack is a number of tokens from 1, got {self.stack}")
        if self.init_std <= 0:
            raise ValueError(f"init_std must be above 0, got {self.init_std}")


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters on linear layers of the language model (Hu et al., 2022).

    Args:
        rank: of the update.
        alpha: the update is scaled by alpha / rank.
        dropout: on what enters the adapters.
        targets: names of the linear layers, in the language model only.
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05
    targets: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", tuple(self.targets))
        if type(self.rank) is not int or self.rank < 1:
            raise ValueError(f"rank of the adapters must be 1 or more, got {self.rank!r}")


@dataclass(frozen=True)
class MLLMConfig:
    """A multimodal language model with a read-out.

    The first three may also be mappings of their words.

    Args:
        backbone: vision tower, projector, language model.
        audio: sound; None: the model does not listen.
        lora: adapters; None: none.
        read_out: `"head"`: the last hidden state goes through a shared projection to one head per
            task. `"yes_no"`: the logit is that of the token `answer_words[0]` minus that of
            `answer_words[1]`; only for one output.
        answer_words: each must be a single token.
        features_width: of the shared projection, which is what `features` are under `"head"`.
        dropout: on the features before the heads.
        train_vision: also train the vision tower (for random weights).
        train_audio: also train Whisper's encoder.
        train_language: train the whole language model; not together with `lora`.
        gradient_checkpointing: recompute the language model's layers in backward: less memory,
            a third more time.
        topk: how many of the likeliest tokens at the place of the answer to give out with their
            log-probabilities, for a cache or a token loss; 0: none.
    """

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    audio: AudioConfig | None = field(default_factory=AudioConfig)
    lora: LoraSettings | None = field(default_factory=LoraSettings)
    read_out: ReadOutKind = "head"
    answer_words: tuple[str, str] = ("yes", "no")
    features_width: int = 512
    dropout: float = 0.0
    train_vision: bool = False
    train_audio: bool = False
    train_language: bool = False
    gradient_checkpointing: bool = False
    topk: int = 0

    def __post_init__(self) -> None:
        parts = {"backbone": BackboneConfig, "audio": AudioConfig, "lora": LoraSettings}
        for name, kind in parts.items():
            object.__setattr__(self, name, made(kind, name, getattr(self, name)))
        _check("read_out", self.read_out, ReadOutKind)
        if self.topk < 0:
            raise ValueError(f"topk is a number of tokens from 0, got {self.topk}")
        object.__setattr__(self, "answer_words", tuple(self.answer_words))
        if len(self.answer_words) != 2:
            raise ValueError(
                f"answer_words are the word for 1 and the word for 0, got {self.answer_words}"
            )
        if not all(isinstance(word, str) for word in self.answer_words):
            raise ValueError(
                f"answer_words are two words, got {self.answer_words}; YAML takes a bare yes or no "
                "for true or false: put them into quotes"
            )
        if self.lora is not None and self.train_language:
            raise ValueError(
                "lora and train_language were both given; adapters are for a frozen language "
                "model: set lora=null or train_language=false"
            )
        if self.read_out == "yes_no" and self.audio is not None and self.audio.mode == "late":
            raise ValueError(
                "audio mode 'late' joins sound to the head's input, which read_out 'yes_no' does "
                "not have; choose another mode or read_out='head'"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is the way back."""
        values = dataclasses.asdict(self)
        if self.audio is not None and self.audio.init_std == AudioConfig.init_std:
            del values["audio"]["init_std"]  # as in models saved before it could be chosen
        if not self.topk:
            del values["topk"]  # likewise
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MLLMConfig:
        """Make a config from what `to_dict` gave."""
        return cls(**values)


__all__ = [
    "AudioConfig",
    "AudioMode",
    "BackboneConfig",
    "Dtype",
    "Family",
    "LoraSettings",
    "MLLMConfig",
    "ReadOutKind",
    "made",
]
