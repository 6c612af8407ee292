"""Tails of the binomial distribution, exact, with NumPy alone."""

from __future__ import annotations

import math

import numpy as np

from coefvq.cascade.arrays import Array


def log_pmf(n: int, p: float) -> Array:
    """Logs of P(X = 0), …, P(X = n) for X ~ Binomial(n, p), 0 < p < 1."""
    k = np.arange(n, dtype=np.float64)
    steps = np.log(n - k) - np.log(k + 1) + np.log(p) - np.log1p(-p)
    return np.asarray(np.concatenate([[0.0], np.cumsum(steps)]) + n * np.log1p(-p))


def cdf(n: int, p: float) -> Array:
    """P(X <= 0), …, P(X <= n), each at most 1.

    >>> cdf(2, 0.5).tolist()
    [0.25, 0.75, 1.0]
    """
    return np.asarray(np.minimum(np.cumsum(np.exp(log_pmf(n, p))), 1.0))


def at_least(n: int, p: float, k: int) -> float:
    """P(X >= k)."""
    return float(min(1.0, np.exp(log_pmf(n, p))[k:].sum()))


def limits(n: int, k: int, tail: float) -> tuple[float, float]:
    """Shares p at which k of n, or fewer (upper end), or more (lower end), has this probability.

    Clopper & Pearson (1934), one-sided each: 0 for k = 0, 1 for k = n.

    >>> [round(p, 4) for p in limits(10, 0, 0.05)]
    [0.0, 0.2589]
    """

    def solve(falls: bool) -> float:
        low, high = 0.0, 1.0
        for _ in range(50):
            p = (low + high) / 2
            value = float(cdf(n, p)[k]) if falls else at_least(n, p, k)
            low, high = (p, high) if (value > tail) == falls else (low, p)
        return (low + high) / 2

    return solve(False) if k > 0 else 0.0, solve(True) if k < n else 1.0


def two_sample_tails(first: tuple[int, int], second: tuple[int, int]) -> tuple[float, float]:
    """P(X <= x) and P(X >= x) of the second sample's count x, given the count of both together.

    Fisher's exact test. It holds for a share that both samples have in common, whatever it is; and
    also where a threshold was put between the k-th and the next of n values, with X the number of
    m more values above it: P(X >= x) is then that of the Beta(k + 1, n − k) mixture of binomials,
    P(X <= x) that of Beta(k, n − k + 1), which is the same hypergeometric sum.

    Args:
        first: (k, n), k of n clips.
        second: (x, m).
    """
    (k, n), (x, m) = first, second
    drawn = k + x
    t = np.arange(max(0, drawn - n), min(m, drawn), dtype=np.float64)
    steps = np.log(m - t) + np.log(drawn - t) - np.log(t + 1) - np.log(n - drawn + t + 1)
    logs = np.concatenate([[0.0], np.cumsum(steps)])
    chance = np.exp(logs - logs.max())
    chance = chance / math.fsum(chance)
    place = x - max(0, drawn - n)
    return float(min(1.0, chance[: place + 1].sum())), float(min(1.0, chance[place:].sum()))
