"""Calibration error where it matters: among the clips that a gate defers, and among the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from coefvq.cascade.arrays import (
    Flags,
    Task,
    Values,
    check_flags,
    check_labels,
    check_logits,
    check_weight,
)
from coefvq.cascade.weighted import weighted_ece
from coefvq.evaluation.calibration import (
    NUM_BINS,
    confidence_and_outcome,
    expected_calibration_error,
)
from coefvq.types import TaskSpec


@dataclass(frozen=True)
class BandError:
    """Expected calibration errors, in [0, 1]; NaN without clips.

    Args:
        everywhere: of all clips. At 2 % prevalence it is small even for a poor model, because most
            clips are sure.
        inside: of the clips that are deferred; the gate's order there depends on it.
        outside: of those that are kept, whose scores are final.
        clips_inside: how many are deferred.
    """

    everywhere: float
    inside: float
    outside: float
    clips_inside: int


def band_error(
    logits: Values,
    labels: Values,
    routes: Values,
    *,
    task: Task,
    bins: int = NUM_BINS,
    sample_weight: Values | None = None,
) -> BandError:
    """Measure the expected calibration error of all, deferred and kept clips.

    Args:
        logits: (N,), (N, C) or (N, L) calibrated logits of the light model.
        labels: (N,), or (N, L).
        routes: (N,) bool, True where deferred.
        task: what they mean. Multilabel: clips and labels pooled.
        bins: equal bins of the probability.
        sample_weight: (N,) how many clips of the traffic each stands for; None: all count alike.
            Not for multilabel.

    Raises:
        ValueError: shapes that don't belong together.
    """
    z = np.clip(check_logits(logits, task), -1e6, 1e6)
    y = check_labels(labels, z, task)
    inside = check_flags(routes, "routes", len(z))
    weight = None if sample_weight is None else check_weight(sample_weight, len(z))
    names = tuple(str(k) for k in range(2 if task == "binary" else z.shape[1]))
    spec = TaskSpec("cascade", task, names)

    def error(rows: Flags) -> float:
        if not rows.any():
            return math.nan
        columns = confidence_and_outcome(torch.from_numpy(z[rows]), torch.from_numpy(y[rows]), spec)
        if weight is not None:
            confidence, outcome = (column.numpy() for column in columns)
            return weighted_ece(confidence, outcome, weight[rows], bins)
        return expected_calibration_error(*columns, bins)

    everywhere = error(np.ones_like(inside))
    return BandError(everywhere, error(inside), error(~inside), int(inside.sum()))
