"""Sounds of four kinds, two seconds each; some are rough by nature, which keeps the task honest."""

from __future__ import annotations

import numpy

RATE = 16_000
"""Samples per second."""


def make_sound(rng: numpy.random.Generator, seconds: float = 2.0) -> numpy.ndarray:
    """Make a waveform: chord, speech-like syllables, coloured noise, or a synth lead.

    Returns:
        (seconds · RATE,) float32 with a peak of 0.3 to 0.8.
    """
    n = int(seconds * RATE)
    time = numpy.arange(n) / RATE
    kind = rng.integers(4)
    if kind == 0:
        root = 110 * 2 ** rng.uniform(0, 2)
        notes = root * 2 ** (numpy.array([0, rng.integers(3, 5), 7, 12]) / 12)
        wave = sum(numpy.sin(2 * numpy.pi * f * time + rng.uniform(0, 6)) for f in notes)
        wave = wave * (0.6 + 0.4 * numpy.sin(2 * numpy.pi * rng.uniform(0.5, 4) * time))
    elif kind == 1:
        wave = _syllables(rng, time)
    elif kind == 2:
        slope = rng.uniform(0.5, 2.0)  # 1 is pink, 2 is brown
        spectrum = numpy.fft.rfft(rng.normal(size=n))
        wave = numpy.fft.irfft(spectrum / numpy.maximum(numpy.arange(len(spectrum)), 20) ** slope, n)
    else:
        steps = 220 * 2 ** (rng.choice([0, 2, 3, 5, 7, 10, 12], size=8) / 12)
        pitch = numpy.repeat(steps, n // 8 + 1)[:n]
        phase = numpy.cumsum(pitch) / RATE
        drive = rng.uniform(1, 4)  # a driven saw is nearly clipped, and meant to be
        wave = numpy.tanh(drive * (2 * (phase % 1) - 1))
    return (wave / numpy.abs(wave).max() * rng.uniform(0.3, 0.8)).astype(numpy.float32)


def _syllables(rng: numpy.random.Generator, time: numpy.ndarray) -> numpy.ndarray:
    """Glottal pulses through two moving formants, switched on and off like syllables."""
    pitch = rng.uniform(90, 220) * (1 + 0.1 * numpy.sin(2 * numpy.pi * 3 * time))
    phase = numpy.cumsum(pitch) / RATE
    wave = numpy.zeros_like(time)
    for formant, width in ((rng.uniform(300, 800), 80.0), (rng.uniform(1000, 2300), 120.0)):
        ringing = numpy.exp(-numpy.pi * width * (phase % 1) / pitch)
        wave += ringing * numpy.sin(2 * numpy.pi * formant * (phase % 1) / pitch)
    gate = numpy.sin(2 * numpy.pi * rng.uniform(2, 4) * time + rng.uniform(0, 6)) > rng.uniform(-0.7, 0)
    smooth = numpy.convolve(gate.astype(float), numpy.hanning(480) / numpy.hanning(480).sum(), "same")
    return wave * smooth
