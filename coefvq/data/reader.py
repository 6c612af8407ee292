"""One clip, read the way an `InputSpec` says; what training, evaluation and serving share."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from coefvq.data.audio import log_mel, sound_of
from coefvq.data.chunks import Chunks
from coefvq.data.fragments import fitted
from coefvq.data.media import Media, UnreadableClip
from coefvq.data.sampling import check_policy
from coefvq.data.text import Tokens, encode, encode_fields, join_fields, separator_of
from coefvq.data.video import announced_seconds, frames_and_chunks_of
from coefvq.types import Batch, Clip, InputSpec

READING_VERSION = 2
"""Goes into the name of every cache of decoded clips; raised when reading gives other numbers."""


class Reading(NamedTuple):
    """What decoding a file gives, as arrays; the row of a frame cache.

    Args:
        frames: (F, 3, H, W) uint8.
        frame_mask: (F,) bool.
        audio: (mel_bins, M) float16; width and height 0 when no sound is read.
        audio_mask: (M,) bool.
        seconds: () float32, how long the video lasts.
        motion: (F, K, 3, h, w) uint8; all but the first and third 0 when no chunks are read.
    """

    frames: np.ndarray
    frame_mask: np.ndarray
    audio: np.ndarray
    audio_mask: np.ndarray
    seconds: np.ndarray
    motion: np.ndarray = np.zeros((0, 0, 3, 0, 0), np.uint8)


def reading_shapes(inputs: InputSpec) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of each field of a `Reading` under `inputs`; no `motion` without chunks."""
    mel_bins, mel_frames = (inputs.mel_bins, inputs.mel_frames) if inputs.audio else (0, 0)
    frames = (inputs.num_frames, 3, inputs.frame_size, inputs.frame_size)
    shapes: dict[str, tuple[tuple[int, ...], str]] = {
        "frames": (frames, "uint8"),
        "frame_mask": ((inputs.num_frames,), "bool"),
        "audio": ((mel_bins, mel_frames), "float16"),
        "audio_mask": ((mel_frames,), "bool"),
        "seconds": ((), "float32"),
    }
    if inputs.motion_frames:
        chunk = (inputs.motion_frames, 3, inputs.motion_size, inputs.motion_size)
        shapes["motion"] = ((inputs.num_frames, *chunk), "uint8")
    return shapes


def read_file(
    path: str | Path,
    inputs: InputSpec,
    sampling: str,
    rng: np.random.Generator | None = None,
) -> Reading:
    """Decode a file's frames and sound in one pass over it.

    Args:
        path: a local file.
        inputs: how to read it.
        sampling: the frame policy to use.
        rng: for random policies.

    Raises:
        UnreadableClip: see `coefvq.data.video.decode_frames` and `coefvq.data.audio.decode_audio`.
    """
    with open_clip(path, inputs) as media:
        return read_media(media, inputs, sampling, rng)


def open_clip(path: str | Path, inputs: InputSpec) -> Media:
    """Open a file with what will be read of it.

    Raises:
        UnreadableClip: see `coefvq.data.media.Media`.
    """
    return Media(path, sound=inputs.audio, sound_seconds=inputs.audio_seconds)


def read_media(
    media: Media, inputs: InputSpec, sampling: str, rng: np.random.Generator | None = None
) -> Reading:
    """The same as `read_file` of a file that is open."""
    chunks = None
    if inputs.motion_frames:
        chunks = Chunks(inputs.motion_frames, inputs.motion_seconds, inputs.motion_size)
    line = media.timeline()
    size, fit = inputs.frame_size, inputs.fit
    frames, frame_mask, _, motion = frames_and_chunks_of(
        media, inputs.num_frames, sampling, size, fit, rng, chunks=chunks, line=line
    )
    seconds = np.array(announced_seconds(line), np.float32)
    if not inputs.audio:
        silence = np.zeros((0, 0), np.float16), np.zeros(0, bool)
        return Reading(frames, frame_mask, *silence, seconds, motion)
    waveform = sound_of(media, inputs.sample_rate, inputs.audio_seconds)
    audio, audio_mask = log_mel(
        waveform,
        sample_rate=inputs.sample_rate,
        mel_bins=inputs.mel_bins,
        hop_length=inputs.hop_length,
        num_frames=inputs.mel_frames,
    )
    return Reading(frames, frame_mask, audio, audio_mask, seconds, motion)


@dataclass(frozen=True)
class Sample:
    """One clip as tensors; a `Batch` without its first axis, labels and privileged features.

    Args:
        id: the clip's id.
        frames: (F, 3, H, W) uint8 RGB.
        frame_mask: (F,) bool.
        input_ids: (T,) int64, or None when no text is read.
        text_mask: (T,) bool, or None.
        audio: (mel_bins, M) float32, or None when no sound is read.
        audio_mask: (M,) bool, or None.
        motion: (F, K, 3, h, w) uint8 RGB, or None when no chunks are read.
        field_ids: (K, T) int64, or None unless texts are also read field by field.
        field_mask: (K, T) bool, or None.
        seconds: () float32, how long the video lasts.
    """

    id: str
    frames: Tensor
    frame_mask: Tensor
    input_ids: Tensor | None = None
    text_mask: Tensor | None = None
    audio: Tensor | None = None
    audio_mask: Tensor | None = None
    motion: Tensor | None = None
    field_ids: Tensor | None = None
    field_mask: Tensor | None = None
    seconds: Tensor | None = None


class ClipReader:
    """Read clips from their files.

    Args:
        inputs: how a file becomes tensors.
        tokenizer: a Hugging Face tokenizer; None when no text is read.

    Raises:
        ValueError: unknown sampling policy or fit.
    """

    def __init__(self, inputs: InputSpec, tokenizer: Any = None) -> None:
        check_policy(inputs.sampling, training=False)
        check_policy(inputs.train_sampling)
        fitted(inputs.frame_size, inputs.fit)  # refuses an unknown fit
        self.inputs = inputs
        self.tokenizer = tokenizer

    def read(
        self, clip: Clip, train: bool = False, rng: np.random.Generator | None = None
    ) -> Sample:
        """Read one clip; labels and privileged features are not looked at.

        Args:
            clip: file and text fields.
            train: use the policy for training.
            rng: for random policies.

        Raises:
            UnreadableClip: the file cannot be read.
        """
        inputs = self.inputs
        policy = inputs.train_sampling if train else inputs.sampling
        reading = read_file(clip.path, inputs, policy, rng)
        texts = self.tokens([clip])._asdict().items()
        return Sample(
            clip.id,
            torch.from_numpy(reading.frames),
            torch.from_numpy(reading.frame_mask),
            audio=torch.from_numpy(reading.audio).float() if inputs.audio else None,
            audio_mask=torch.from_numpy(reading.audio_mask) if inputs.audio else None,
            motion=torch.from_numpy(reading.motion) if inputs.motion_frames else None,
            seconds=torch.from_numpy(reading.seconds),
            **{name: None if value is None else value[0] for name, value in texts},
        )

    def tokens(self, clips: Sequence[Clip]) -> Tokens:
        """Token ids and masks of many clips at once; Nones when no text is read."""
        inputs = self.inputs
        if self.tokenizer is None or not inputs.text_fields:
            return Tokens()
        separator = separator_of(self.tokenizer)
        texts = [join_fields(clip.text, inputs.text_fields, separator) for clip in clips]
        joined = encode(texts, self.tokenizer, inputs.max_text_length)
        if not inputs.separate_text:
            return Tokens(*joined)
        return Tokens(
            *joined,
            *encode_fields(
                [clip.text for clip in clips],
                inputs.text_fields,
                self.tokenizer,
                inputs.max_field_length,
            ),
        )


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples into a batch without labels.

    Raises:
        ValueError: there are no samples.
    """
    if not samples:
        raise ValueError("cannot make a batch of no samples; give at least one")
    fields = [field.name for field in dataclasses.fields(Sample) if field.name != "id"]
    columns = {name: [getattr(sample, name) for sample in samples] for name in fields}
    return Batch(
        ids=tuple(sample.id for sample in samples),
        **{
            name: None if column[0] is None else torch.stack(column)
            for name, column in columns.items()
        },
    )


__all__ = [
    "READING_VERSION",
    "ClipReader",
    "Reading",
    "Sample",
    "UnreadableClip",
    "collate",
    "read_file",
    "reading_shapes",
]
