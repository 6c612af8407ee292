"""Five tasks on one pool: what is asked, where the cuts are, and how raters err."""

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

CUTS = (DEGRADED_CUT, LEVEL_CUTS, ARTEFACT_CUT, BAD_SOUND_CUT)

TASKS = {
    "degraded": TaskSpec("degraded", "binary", ("fine", "degraded")),
    "level": TaskSpec("level", "multiclass", ("good", "fair", "poor")),
    "artefacts": TaskSpec("artefacts", "multilabel", ARTEFACTS),
    "bad_sound": TaskSpec("bad_sound", "binary", ("fine", "bad")),
    "title_mismatch": TaskSpec("title_mismatch", "binary", ("match", "mismatch")),
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
        0.0/1.0 for binary, a class index for multiclass, a tuple of 0/1 for multilabel.
    """
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


def _flip(labels: np.ndarray, classes: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Move a share of the labels to another class."""
    labels = labels.astype(int)
    wrong = rng.random(labels.shape) < share
    return np.where(wrong, (labels + rng.integers(1, classes, labels.shape)) % classes, labels)


__all__ = ["CUTS", "NOISE", "TASKS", "RaterNoise", "make_labels"]
