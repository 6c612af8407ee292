"""Sound: file to mono waveform on the picture's clock, waveform to log-mel.

Encoders put some samples in front of the sound (1 024 of them for AAC). Containers say so with
negative times, skip marks and edit lists; so samples are placed by their presentation time, and
whatever lies before the first picture is dropped. A sound track that starts late, or has holes, is
filled with silence for the same reason.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from coefvq.data.media import Media, UnreadableClip

RESYNC_SECONDS = 0.05
"""Times are only trusted where they leave the running sample count by more than this."""

LOG_FLOOR = -8.0
"""log10 of the least mel power told apart from silence: about the noise of 16-bit samples."""


def decode_audio(path: str | Path, sample_rate: int, seconds: float) -> np.ndarray | None:
    """Decode the start of a file's first sound track.

    Args:
        path: a local file.
        sample_rate: of the result, in Hz.
        seconds: at most this much is returned.

    Returns:
        (n,) float32 mono in about [-1, 1], sample 0 at the time of the first picture (of the first
        sound where there is no picture), n ≤ seconds · sample_rate; None without a sound track.

    Raises:
        UnreadableClip: the file cannot be opened, or nothing of its sound could be decoded.
    """
    with Media(path, sound=True, sound_seconds=seconds) as media:
        return sound_of(media, sample_rate, seconds)


def sound_of(media: Media, sample_rate: int, seconds: float) -> np.ndarray | None:
    """Like `decode_audio`, for a file that was opened with `sound=True`."""
    if media.sound is None:
        return None
    if not media.sound_packets:
        return np.zeros(0, np.float32)
    if media.video is not None and media.video_start is not None:
        origin = media.video_start
    else:
        origin = max(0.0, media.sound_start or 0.0)
    rate = media.sound.codec_context.sample_rate
    track = np.zeros(math.ceil(seconds * rate) + rate // 10, np.float32)
    end = _lay_out(media, rate, origin, track)
    if end is None:
        raise UnreadableClip.because(media.path, "its sound is damaged: nothing could be decoded")
    track = track[: max(0, end)]
    if rate != sample_rate and len(track):
        track = _resample(track, rate, sample_rate)
    return track[: int(seconds * sample_rate)].astype(np.float32, copy=False)


def _lay_out(media: Media, rate: int, origin: float, track: np.ndarray) -> int | None:
    """Write decoded samples to their places in `track`; return where the sound ends."""
    context = media.sound.codec_context
    if not context.is_open:
        context.thread_count = 1
    time_base = float(media.sound.time_base)
    mixers: dict[tuple[str, str, int], Any] = {}
    place: int | None = None
    end: int | None = None
    for packet in [*media.sound_packets, None]:
        try:
            frames = context.decode(packet)
        except av.FFmpegError:
            continue  # a damaged packet leaves a hole of its own length
        for frame in frames:
            if frame.pts is not None:
                start = round((frame.pts * time_base - origin) * rate)
                if place is None or abs(start - place) > RESYNC_SECONDS * rate:
                    place = start
            place = place or 0
            key = (frame.format.name, frame.layout.name, frame.sample_rate)
            if key not in mixers:
                mixers[key] = av.AudioResampler(format="fltp", rate=rate)
            for plain in mixers[key].resample(frame):
                # The mean of the channels: FFmpeg's own mix makes stereo copies 3 dB louder.
                samples = plain.to_ndarray().mean(axis=0)
                first, last = max(place, 0), min(place + len(samples), len(track))
                if first < last:
                    track[first:last] = samples[first - place : last - place]
                place += len(samples)
                end = max(end or 0, min(place, len(track)))
    return end


def _resample(samples: np.ndarray, rate: int, sample_rate: int) -> np.ndarray:
    frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    frame.sample_rate = rate
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=sample_rate)
    pieces = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([piece.to_ndarray()[0] for piece in pieces])


def log_mel(
    waveform: np.ndarray | None,
    *,
    sample_rate: int = 16_000,
    mel_bins: int = 64,
    hop_length: int = 160,
    num_frames: int = 200,
) -> tuple[np.ndarray, np.ndarray]:
    """Turn a waveform into a log-mel picture of fixed size.

    Power spectra of Hann windows of 25 ms, centred on the frames, through a Slaney mel filter
    bank (Whisper's recipe, Radford et al. 2022, at any rate and height). The scale differs from
    Whisper's on purpose: it is fixed, `(log10(power) + 3) / 5` with powers below 1e-8 raised to
    that, so -1 is silence and a full-scale tone comes out near +1. Whisper's clamp to
    eight decades below the clip's own maximum would make every value depend on the loudest moment.

    Args:
        waveform: (n,) float32 in [-1, 1]; None for a clip without sound.
        sample_rate: in Hz.
        mel_bins: height.
        hop_length: samples between frames.
        num_frames: M, width; longer sound is cut.

    Returns:
        mel (mel_bins, M) float16, 0 where masked.
        mask (M,) bool, True for frames whose centre lies in the sound.
    """
    mel = np.zeros((mel_bins, num_frames), np.float16)
    length = 0 if waveform is None else min(len(waveform), num_frames * hop_length)
    mask = np.arange(num_frames) * hop_length < length
    if waveform is None or not length:
        return mel, mask
    window, filters = _filters(sample_rate, mel_bins)
    padded = torch.zeros(num_frames * hop_length)
    padded[:length] = torch.from_numpy(np.ascontiguousarray(waveform[:length], np.float32))
    spectrum = torch.stft(
        padded,
        n_fft=len(window),
        hop_length=hop_length,
        window=window,
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    power = filters @ spectrum[:, :num_frames].abs().square()
    scaled = (power.clamp_min(10**LOG_FLOOR).log10() + 3) / 5
    mel[:, mask] = scaled.numpy()[:, mask].astype(np.float16)
    return mel, mask


@functools.cache
def _filters(sample_rate: int, mel_bins: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The analysis window and the (mel_bins, bins) filter bank."""
    from transformers.audio_utils import mel_filter_bank

    length = 2 * round(sample_rate * 0.0125)
    filters = mel_filter_bank(
        num_frequency_bins=length // 2 + 1,
        num_mel_filters=mel_bins,
        min_frequency=0.0,
        max_frequency=sample_rate / 2,
        sampling_rate=sample_rate,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.hann_window(length), torch.from_numpy(filters.T.astype(np.float32))


__all__ = ["LOG_FLOOR", "RESYNC_SECONDS", "decode_audio", "log_mel", "sound_of"]
