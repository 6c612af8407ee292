"""Two simulated models of a rare question, and the task shapes that every part must take."""

from dataclasses import dataclass

import numpy as np
import pytest

TASKS = ("binary", "multiclass", "multilabel")


@dataclass(frozen=True)
class Columns:
    """Raw logits of two models that were trained on balanced classes, and the truth."""

    light: np.ndarray
    heavy: np.ndarray
    labels: np.ndarray


def simulate(n, *, prevalence=0.02, seed=0, light=2.03, heavy=3.21, shared=0.37):
    """Positives lie `light` (`heavy`) standard deviations above negatives; noise is shared partly.

    The logit of a model that learned from as many positives as negatives is the log likelihood
    ratio d·x − d²/2; at another prevalence π it lacks logit(π).
    """
    draw = np.random.default_rng(seed)
    y = (draw.random(n) < prevalence).astype(np.int64)
    noise = draw.standard_normal((2, n))
    first = noise[0]
    second = shared * first + np.sqrt(1 - shared**2) * noise[1]
    logits = [d * (e + d * y) - d * d / 2 for d, e in ((light, first), (heavy, second))]
    return Columns(*logits, y)


@pytest.fixture(scope="session")
def rare():
    return simulate


@pytest.fixture(scope="session")
def shaped():
    """Logits and labels of each task: `shaped("multiclass", n=50, seed=1)`."""

    def make(task, n=200, seed=0, width=4):
        draw = np.random.default_rng(seed)
        z = 2 * draw.standard_normal((n, width))
        if task == "multiclass":
            e = np.exp(z - z.max(1, keepdims=True))
            p = (e / e.sum(1, keepdims=True)).cumsum(1)
            return z, (draw.random((n, 1)) > p).sum(1).clip(0, width - 1)
        y = (draw.random((n, width)) < 1 / (1 + np.exp(-z))).astype(np.int64)
        return (z[:, 0], y[:, 0]) if task == "binary" else (z, y)

    return make
