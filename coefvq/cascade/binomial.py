"""Tails of the binomial distribution, exact, with NumPy alone."""

from __future__ import annotations

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
