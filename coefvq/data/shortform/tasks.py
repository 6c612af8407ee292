"""Six tasks on one pool: what is asked, where the cuts are, and how raters err."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas

from coefvq.data.shortform.degrade import ARTEFACTS
from coefvq.types import TaskSpec

DEGRADED_CUT = 1.5
"""Perceptual distance above which a clip is called degraded (about 37 % of clips)."""
LEVEL_CUTS = (0.5, 2.0)
"""Perceptual distances between good, fair and poor (about 44, 27, 29 % of clips)."""
ARTEFACT_CUT = 0.25
"""Dose from which a careful rater sees an artefact."""
BAD_SOUND_CUT = 6.5
"""Log-spectral distance, dB, above which sound is called bad (about 9 % of clips)."""

QUALITY_RANGE = (1.0, 5.0)
"""Of mean opinion scores: 5 for a clip like its source, falling with the perceptual distance."""
QUALITY_FALL = 2.0
"""Perceptual distance at which 1/e of the way down from 5 to 1 is left."""
RATERS = 10
"""Opinions behind each score of the task `quality`."""

CUTS = (DEGRADED_CUT, LEVEL_CUTS, ARTEFACT_CUT, BAD_SOUND_CUT)

TASKS = {
    "degraded": TaskSpec("degraded", "binary", ("fine", "degraded")),
    "level": TaskSpec("level", "multiclass", ("good", "fair", "poor")),
    "artefacts": TaskSpec("artefacts", "multilabel", ARTEFACTS),
    "bad_sound": TaskSpec("bad_sound", "binary", ("fine", "bad")),
    "title_mismatch": TaskSpec("title_mismatch", "binary", ("match", "mismatch")),
    # New tasks go to the end: raters draw their errors by the place of their task.
    "quality": TaskSpec("quality", "regression", label_range=QUALITY_RANGE),
}


@dataclass(frozen=True)
class RaterNoise:
    """How much raters err.

    Args:
        picture: standard deviation of a rater's perceptual distance.
        dose: the same for the dose of an artefact.
        sound: the same for the distance of the sound, dB.
        flips: share of labels that are wrong for no reason: another class at random, the other
            value of a binary label, each label of a multilabel one by itself.
    """

    picture: float
    dose: float
    sound: float
    flips: float


NOISE = {
    "none": RaterNoise(0.0, 0.0, 0.0, 0.0),
    "normal": RaterNoise(0.35, 0.12, 1.2, 0.05),
    "heavy": RaterNoise(0.70, 0.24, 2.4, 0.15),
}


def make_labels(
    table: pandas.DataFrame, task: str, noise: RaterNoise, rng: np.random.Generator
) -> list[float | int | tuple[int, ...]]:
    """Label every row as noisy raters would; with `NOISE["none"]` the gold labels.

    Args:
        table: rows of a pool.
        task: one of `TASKS`.
        noise: how raters err.
        rng: draws the errors.

    Returns:
        0.0/1.0 for binary, a class index for multiclass, a tuple of 0/1 for multilabel, for
        regression a score in the task's range.
    """
    if task == "quality":
        return [mean for mean, _ in make_opinions(table, noise, rng)]
    n = len(table)
    distance = table["distance"].to_numpy() + noise.picture * rng.normal(size=n)
    if task == "degraded":
        return _flip(distance > DEGRADED_CUT, 2, noise.flips, rng).astype(float).tolist()
    if task == "level":
        return _flip(np.digitize(distance, LEVEL_CUTS), 3, noise.flips, rng).tolist()
    if task == "bad_sound":
        heard = table["sound_distance"].to_numpy() + noise.sound * rng.normal(size=n)
        return _flip(heard > BAD_SOUND_CUT, 2, noise.flips, rng).astype(float).tolist()
    if task == "title_mismatch":
        return _flip(table["mismatch"].to_numpy(), 2, noise.flips, rng).astype(float).tolist()
    assert task == "artefacts"
    doses = table[[f"dose_{name}" for name in ARTEFACTS]].to_numpy()
    seen = doses + noise.dose * rng.normal(size=doses.shape) > ARTEFACT_CUT
    return [tuple(row) for row in _flip(seen, 2, noise.flips, rng).tolist()]


def make_opinions(
    table: pandas.DataFrame, noise: RaterNoise, rng: np.random.Generator
) -> list[tuple[float, float | None]]:
    """Ask raters for a number from 1 to 5 about every row.

    The gold score is 1 + 4 · exp(−distance / `QUALITY_FALL`). Each of `RATERS` raters sees the
    distance with an error of twice the deviation of those who cut classes (who are pooled), and
    says the nearest whole number; a share of `noise.flips` of opinions is any of the five.

    Args:
        table: rows of a pool.
        noise: how raters err; without any, the answer is the gold score.
        rng: draws the errors.

    Returns:
        For each row the mean opinion in [1, 5] and the standard deviation of the opinions (n − 1);
        None for a gold score, which nobody gave.
    """
    low, high = QUALITY_RANGE
    distance = table["distance"].to_numpy()

    def score(seen: np.ndarray) -> np.ndarray:
        return np.clip(low + (high - low) * np.exp(-seen / QUALITY_FALL), low, high)

    if noise == NOISE["none"]:
        return [(float(gold), None) for gold in score(distance)]
    shape = (len(distance), RATERS)
    votes = score(distance[:, None] + 2 * noise.picture * rng.normal(size=shape)).round()
    anything = rng.integers(int(low), int(high) + 1, shape)
    votes = np.where(rng.random(shape) < noise.flips, anything, votes)
    return list(zip(votes.mean(1).tolist(), votes.std(1, ddof=1).tolist(), strict=True))


def _flip(labels: np.ndarray, classes: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Move a share of the labels to another class."""
    labels = labels.astype(int)
    wrong = rng.random(labels.shape) < share
    return np.where(wrong, (labels + rng.integers(1, classes, labels.shape)) % classes, labels)


__all__ = ["CUTS", "NOISE", "TASKS", "RaterNoise", "make_labels", "make_opinions"]
