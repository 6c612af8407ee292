"""Small MatchLites and pairs that they can read, for the tests of modules and students."""

import dataclasses

import torch
from small_models import random_batch, small_swin

from coefvq.modules.clip_encoders import ClipEncoderConfig, ConvAudioConfig, TextTokensConfig
from coefvq.modules.decision import DecisionConfig
from coefvq.modules.frames import FrameConfig
from coefvq.modules.vision import ConvEncoderConfig
from coefvq.modules.whisper import WhisperEncoderConfig
from coefvq.pairs import PairBatch
from coefvq.students.matchlite import MatchLite, MatchLiteConfig

TEXT = TextTokensConfig(
    vocab_size=40, width=16, layers=1, heads=2, feedforward=32, max_length=12
)  # fmt: skip


def small_encoders(**changes) -> ClipEncoderConfig:
    """Trained along: convolutions for frames and sound."""
    values = {
        "vision": ConvEncoderConfig(widths=(8, 16), width=12),
        "text": TEXT,
        "audio": ConvAudioConfig(mel_bins=8, hidden=8, patch=2, stride=1, width=8),
        "frames": FrameConfig(size=32, mode="resize", flip=False),
        "tokens": 8,
        "cells": 2,
        "frozen": False,
    }
    return ClipEncoderConfig(**{**values, **changes})


def published_encoders(**changes) -> ClipEncoderConfig:
    """Frozen: the published classes, a thousand times smaller."""
    values = {
        "vision": small_swin(),
        "audio": WhisperEncoderConfig(
            mel_bins=8, width=16, layers=2, heads=2, feedforward=32, positions=16
        ),
        "frozen": True,
    }
    return small_encoders(**{**values, **changes})


def small_config(**changes) -> MatchLiteConfig:
    values = {
        "encoders": small_encoders(),
        "width": 16,
        "heads": 2,
        "map_channels": 4,
        "decision": DecisionConfig(width=8, depths=(1, 1), norm="group", stem="small"),
        "modality_dropout": 0.0,
    }
    return MatchLiteConfig(**{**values, **changes})


def small_matchlite(num_sub_labels: int = 3, **changes) -> MatchLite:
    torch.manual_seed(0)
    return MatchLite(small_config(**changes), num_sub_labels)


def random_pairs(pairs: int = 3, **changes) -> PairBatch:
    """Noise; the candidates are the queries in another order, with padding in other places."""
    query = random_batch(pairs, **changes)
    candidate = query._map(lambda tensor: tensor.roll(1, 0))
    candidate = dataclasses.replace(candidate, ids=tuple(f"{clip}-b" for clip in query.ids))
    labels = (torch.arange(pairs) % 2).float()
    return PairBatch(tuple(f"pair{i}" for i in range(pairs)), query, candidate, labels)
