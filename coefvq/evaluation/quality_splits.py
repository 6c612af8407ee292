"""Scores looked at several times: over subsets of the test clips, and within groups of contents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from coefvq.evaluation.quality import Array, pearson, regression_metrics, srcc

MAX_SUBSETS = 10_000
"""More say nothing more: subsets of the same clips are anything but independent."""

AFTER_CURVE = ("plcc", "rmse")
"""Metrics that are taken after the logistic."""

LEAST = 3
"""Clips of a content that has numbers of its own."""


@dataclass(frozen=True)
class Spread:
    """One metric over several subsets.

    Args:
        median: what the field reports.
        low: 2.5 % of subsets are below (interpolated).
        high: 2.5 % of subsets are above (interpolated).
        n: subsets in which the metric was defined.
        mean: of these; of `logistic_fit` the share of subsets in which the curve was fitted.
    """

    median: float
    low: float
    high: float
    n: int
    mean: float

    def line(self) -> str:
        """What to print."""
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"


def summarise(rows: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Median and 95 % interval of every metric over subsets or splits.

    PLCC and RMSE of rows whose logistic was not fitted (`logistic_fit` of 0) are raw numbers, of
    another kind than the rest and sometimes of another unit, so they are left out.

    Args:
        rows: metrics by name, one mapping for each subset; undefined values are left out.

    >>> summarise([{"srcc": 0.5}, {"srcc": 0.7}, {"srcc": 0.6}])["srcc"].line()
    '0.600 [0.505, 0.695]'
    """
    found = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        counted = rows
        if name in AFTER_CURVE:
            counted = [row for row in rows if row.get("logistic_fit") != 0.0]
        values = [row[name] for row in counted if not math.isnan(row.get(name, math.nan))]
        cuts = np.percentile(values, [50, 2.5, 97.5]).tolist() if values else [math.nan] * 3
        mean = float(np.mean(values)) if values else math.nan
        found[name] = Spread(cuts[0], cuts[1], cuts[2], len(values), mean)
    return found


def content_subsets(
    groups: Sequence[str], count: int, *, share: float = 0.5, seed: int = 1
) -> list[np.ndarray]:
    """Draw subsets of whole contents.

    Args:
        groups: the content of each of n clips; clips of one content stay together.
        count: how many subsets, at most `MAX_SUBSETS`.
        share: of the contents, in (0, 1), at least one and not all.
        seed: another seed, other subsets.

    Returns:
        `count` sorted arrays of indices. Two subsets may overlap.

    Raises:
        ValueError: fewer than two contents, a `count` that is none, or a share outside (0, 1).
    """
    names = sorted(set(groups))
    if len(names) < 2:
        raise ValueError(
            f"subsets of contents need at least two contents, got {len(names)}; give a split with "
            "more clips, or correct the column of groups"
        )
    check_count(count)
    if not 0 < share < 1:
        raise ValueError(f"of the contents, expected a share between 0 and 1, got {share}")
    rng = np.random.default_rng(seed)
    size = min(max(1, round(share * len(names))), len(names) - 1)
    subsets = []
    for _ in range(count):
        chosen = {names[i] for i in rng.permutation(len(names))[:size]}
        subsets.append(np.array([i for i, group in enumerate(groups) if group in chosen]))
    return subsets


def check_count(count: object) -> None:
    """Refuse a number of subsets that cannot be drawn.

    Raises:
        ValueError: it is no whole number from 1 to `MAX_SUBSETS`.
    """
    good = isinstance(count, int) and not isinstance(count, bool)
    if not good or not 1 <= count <= MAX_SUBSETS:  # type: ignore[operator]
        raise ValueError(f"splits is a whole number from 1 to {MAX_SUBSETS}, got {count!r}")


def metrics_over_subsets(
    scores: Array,
    labels: Array,
    groups: Sequence[str],
    count: int = 10,
    *,
    share: float = 0.5,
    seed: int = 1,
    label_range: tuple[float, float] | None = None,
) -> dict[str, Spread]:
    """Metrics of one fixed model over resampled subsets of its test clips, whole contents each.

    This says how much the numbers depend on which clips were tested, not on which ones were
    trained on: the model stays the same, and subsets overlap, so that intervals are not those of
    independent splits. Training anew on each split is `coefvq.compare` with several seeds: the
    embedded clips and manifests without a column of splits are split anew by each.

    Args:
        scores: (n,).
        labels: (n,).
        groups: the content of each clip.
        count: subsets.
        share: of the contents in each.
        seed: of the draws.
        label_range: see `regression_metrics`.
    """
    subsets = content_subsets(groups, count, share=share, seed=seed)
    return summarise([regression_metrics(scores[s], labels[s], label_range) for s in subsets])


def metrics_by_group(
    scores: Array, labels: Array, groups: Sequence[str], *, least: int = LEAST
) -> dict[str, dict[str, float]]:
    """SRCC, PLCC and RMSE (raw: a curve of four parameters is too much for few clips) by content.

    Args:
        scores: (n,).
        labels: (n,).
        groups: the content of each clip.
        least: contents with fewer clips are left out.

    Returns:
        By content, in alphabetical order: `n`, `srcc`, `plcc_raw`, `rmse_raw`, `bias` (mean of
        score − label: what the model gives this content too much).
    """
    names, place = np.unique(np.array(groups, dtype=str), return_inverse=True)
    found = {}
    for number, name in enumerate(names.tolist()):
        s, y = scores[place == number], labels[place == number]
        if len(s) >= least:
            found[name] = {
                "n": float(len(s)),
                "srcc": srcc(s, y),
                "plcc_raw": pearson(s, y),
                "rmse_raw": float(np.sqrt(np.mean((s - y) ** 2))),
                "bias": float(np.mean(s - y)),
            }
    return found


__all__ = [
    "AFTER_CURVE",
    "LEAST",
    "MAX_SUBSETS",
    "Spread",
    "check_count",
    "content_subsets",
    "metrics_by_group",
    "metrics_over_subsets",
    "summarise",
]
