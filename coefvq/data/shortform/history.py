"""What an audience would have done with a clip. All of this is simulated.

A deployed service knows such counts for clips that have been online for a while, never for a new
one; that is why they are privileged. Every viewer finishes the clip, reports it, mutes it or flags
its title with probabilities that follow from how bad the clip really is; few viewers make the
counts rough.
"""

from __future__ import annotations

import numpy as np

NAMES = ("views", "completion_rate", "report_rate", "mute_rate", "misleading_rate")
"""Historical features; `views` is a count (log1p), the others are shares of views."""


def _sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


def simulate(
    rng: np.random.Generator, *, distance: float, sound_distance: float, mismatch: bool
) -> dict[str, float]:
    """Simulate the audience of one clip.

    Args:
        rng: for this clip alone.
        distance: perceptual distance of the picture, from 0.
        sound_distance: log-spectral distance of the sound, dB.
        mismatch: whether the title is about something else.

    Returns:
        Values by `NAMES`; views have a median of 40.
    """
    views = max(5, int(rng.lognormal(np.log(40), 0.7)))
    taste = rng.normal(0, 0.5)  # some clips are liked whatever their quality
    finish = _sigmoid(1.2 + taste - 0.5 * distance - 0.05 * sound_distance - 0.8 * mismatch)
    report = _sigmoid(-4.2 + 0.45 * distance + 0.5 * mismatch)
    mute = _sigmoid(-3.0 + 0.16 * sound_distance)
    mislead = _sigmoid(-3.2 + 2.2 * mismatch + 0.3 * taste)
    return {
        "views": float(views),
        "completion_rate": float(rng.binomial(views, finish) / views),
        "report_rate": float(rng.binomial(views, report) / views),
        "mute_rate": float(rng.binomial(views, mute) / views),
        "misleading_rate": float(rng.binomial(views, mislead) / views),
    }
