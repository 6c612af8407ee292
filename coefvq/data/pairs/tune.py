"""Sound tracks that can be told apart: a random tune each."""

from __future__ import annotations

import numpy as np

NOTES = 8
"""Notes of a tune; a copy of a quarter of a clip still has two."""


def make_tune(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """Make a tune of two voices over faint noise; equal generators make equal tunes.

    Args:
        rng: where chance comes from.
        seconds: length.
        rate: samples per second.

    Returns:
        (seconds · rate,) float32 with a peak of 0.3 to 0.8.
    """
    total = int(seconds * rate)
    time = np.arange(-(-total // NOTES)) / rate
    bright = rng.uniform(0.8, 2.5)  # overtone k has 1 / k to this power
    decay = rng.uniform(1, 10)
    notes = []
    for _ in range(NOTES):
        note = np.zeros_like(time)
        for pitch in 130 * 2 ** rng.uniform(0, 3.5, size=2):
            overtones = np.arange(1, max(2, min(8, int(0.45 * rate / pitch))))
            phases = rng.uniform(0, 2 * np.pi, size=len(overtones))
            waves = np.sin(2 * np.pi * pitch * overtones[:, None] * time + phases[:, None])
            note += (waves / overtones[:, None] ** bright).sum(0)
        notes.append(note * np.exp(-decay * time))
    wave = np.concatenate(notes)[:total]
    wave = wave + 0.01 * np.abs(wave).max() * rng.normal(size=total)
    return (wave / np.abs(wave).max() * rng.uniform(0.3, 0.8)).astype(np.float32)


__all__ = ["NOTES", "make_tune"]
