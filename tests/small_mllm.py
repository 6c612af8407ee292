"""Small multimodal language models and clips that they can read."""

import torch

from coefvq.modules.mllm.config import AudioConfig, BackboneConfig, LoraSettings, MLLMConfig
from coefvq.pairs import PairBatch
from coefvq.types import Batch

VOCABULARY = 60
MEL_BINS, MEL_FRAMES = 8, 20


class LetterTokenizer:
    """One token per letter, or per word for the words that it is told about."""

    def __init__(self, *words: str) -> None:
        self.words = {word: 40 + i for i, word in enumerate(words)}

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        if text in self.words:
            return [self.words[text]]
        return [1 + ord(letter) % 30 for letter in text]


def small_backbone(**changes) -> BackboneConfig:
    """Two layers on each side; LLaVA-OneVision pools frames of 3x3 patches to 2x2 tokens."""
    values = {
        "vocab_size": VOCABULARY,
        "width": 16,
        "layers": 2,
        "heads": 4,
        "key_value_heads": 2,
        "feedforward": 32,
        "vision_width": 16,
        "vision_layers": 2,
        "vision_heads": 2,
        "vision_feedforward": 32,
        "image_size": 24,
        "patch_size": 8,
    }
    return BackboneConfig(**{**values, **changes})


def small_audio(**changes) -> AudioConfig:
    values = {
        "mel_bins": MEL_BINS,
        "positions": MEL_FRAMES // 2,
        "width": 12,
        "layers": 1,
        "heads": 2,
        "feedforward": 24,
        "stack": 4,
    }
    return AudioConfig(**{**values, **changes})


def small_mllm(mode: str | None = "saliency", **changes) -> MLLMConfig:
    values = {
        "backbone": small_backbone(),
        "audio": None if mode is None else small_audio(mode=mode),
        "lora": LoraSettings(rank=2, dropout=0.0),
        "features_width": 10,
    }
    return MLLMConfig(**{**values, **changes})


def random_clips(clips: int = 3, *, frames: int = 4, seed: int = 0, size: int = 30) -> Batch:
    """Clips of different numbers of frames, lengths of sound (the last is silent) and texts."""
    generator = torch.Generator().manual_seed(seed)
    row = torch.arange(clips)[:, None]
    audio_mask = torch.arange(MEL_FRAMES).expand(clips, -1) < 7 + 5 * row
    audio_mask[-1] = False
    return Batch(
        ids=tuple(f"clip{i}" for i in range(clips)),
        frames=torch.randint(
            256, (clips, frames, 3, size, size), generator=generator, dtype=torch.uint8
        ),
        frame_mask=torch.arange(frames).expand(clips, -1) < (row + seed) % frames + 1,
        input_ids=torch.randint(VOCABULARY, (clips, 6), generator=generator),
        text_mask=torch.arange(6).expand(clips, -1) < row % 6 + 1,
        audio=torch.rand(clips, MEL_BINS, MEL_FRAMES, generator=generator) * 2 - 1,
        audio_mask=audio_mask,
    )


def random_pairs(pairs: int = 3, **options) -> PairBatch:
    return PairBatch(
        tuple(f"pair{i}" for i in range(pairs)),
        random_clips(pairs, seed=1, **options),
        random_clips(pairs, seed=2, **options),
    )


def rows(batch, start: int, stop: int):
    """Some rows of a batch of clips or pairs."""
    if isinstance(batch, PairBatch):
        return PairBatch(
            batch.ids[start:stop],
            rows(batch.query, start, stop),
            rows(batch.candidate, start, stop),
        )
    part = batch._map(lambda tensor: tensor[start:stop])
    return Batch(**{**vars(part), "ids": batch.ids[start:stop]})


def shake(module: torch.nn.Module, scale: float = 0.2) -> None:
    """Move what is trained away from its start, where adapters and gates are 0."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter += scale * torch.randn(parameter.shape, generator=generator)
