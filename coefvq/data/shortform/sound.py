"""Sounds of four kinds, two seconds each; some are rough by nature, which keeps the task honest."""

from __future__ import annotations

import numpy as np

RATE = 16_000
"""Samples per second."""


def make_sound(rng: np.random.Generator, seconds: float = 2.0) -> np.ndarray:
    """Make a waveform: chord, speech-like syllables, coloured noise, or a synth lead.

    Returns:
        (seconds · RATE,) float32 with a peak of 0.3 to 0.8.
    """
    n = int(seconds * RATE)
    time = np.arange(n) / RATE
    kind = rng.integers(4)
    if kind == 0:
        root = 110 * 2 ** rng.uniform(0, 2)
        notes = root * 2 ** (np.array([0, rng.integers(3, 5), 7, 12]) / 12)
        wave = sum(np.sin(2 * np.pi * f * time + rng.uniform(0, 6)) for f in notes)
        wave = wave * (0.6 + 0.4 * np.sin(2 * np.pi * rng.uniform(0.5, 4) * time))
    elif kind == 1:
        wave = _syllables(rng, time)
    elif kind == 2:
        slope = rng.uniform(0.5, 2.0)  # 1 is pink, 2 is brown
        spectrum = np.fft.rfft(rng.normal(size=n))
        wave = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 20) ** slope, n)
    else:
        steps = 220 * 2 ** (rng.choice([0, 2, 3, 5, 7, 10, 12], size=8) / 12)
        pitch = np.repeat(steps, n // 8 + 1)[:n]
        phase = np.cumsum(pitch) / RATE
        drive = rng.uniform(1, 4)  # a driven saw is nearly clipped, and meant to be
        wave = np.tanh(drive * (2 * (phase % 1) - 1))
    return (wave / np.abs(wave).max() * rng.uniform(0.3, 0.8)).astype(np.float32)


def _syllables(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """Glottal pulses through two moving formants, switched on and off like syllables."""
    pitch = rng.uniform(90, 220) * (1 + 0.1 * np.sin(2 * np.pi * 3 * time))
    phase = np.cumsum(pitch) / RATE
    wave = np.zeros_like(time)
    for formant, width in ((rng.uniform(300, 800), 80.0), (rng.uniform(1000, 2300), 120.0)):
        ringing = np.exp(-np.pi * width * (phase % 1) / pitch)
        wave += ringing * np.sin(2 * np.pi * formant * (phase % 1) / pitch)
    gate = np.sin(2 * np.pi * rng.uniform(2, 4) * time + rng.uniform(0, 6)) > rng.uniform(-0.7, 0)
    smooth = np.convolve(gate.astype(float), np.hanning(480) / np.hanning(480).sum(), "same")
    return wave * smooth
