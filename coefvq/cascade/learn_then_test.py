"""Several thresholds at once, with one guarantee for all: Learn-then-Test, through MAPIE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coefvq.cascade.arrays import Flags, Values, as_array, check_column, check_share
from coefvq.cascade.binomial import cdf


@dataclass(frozen=True)
class Risk:
    """A share that must stay small, for each of K candidates of thresholds.

    Args:
        name: for messages, for instance `"missed positives"`.
        losses: (K, n) of 0 and 1: whether candidate k goes wrong on clip i. Only the clips that
            the risk is about: for missed positives the positives.
        tolerance: the largest share allowed, in (0, 1).
    """

    name: str
    losses: Values
    tolerance: float

    def checked(self) -> Flags:
        """(K, n) bool.

        Raises:
            ValueError: another shape, other numbers, no clip, or a tolerance that is no share.
        """
        check_share(f"tolerance of {self.name!r}", self.tolerance, ends=False)
        losses = as_array(self.losses, f"losses of {self.name!r}")
        if losses.ndim != 2 or 0 in losses.shape or not np.isin(losses, (0.0, 1.0)).all():
            raise ValueError(
                f"losses of {self.name!r} must be (K, n) of 0 and 1, one row per candidate, got "
                f"shape {losses.shape}"
            )
        return losses.astype(np.bool_)


def learn_then_test(
    risks: Sequence[Risk], prices: Values, *, confidence: float = 0.95
) -> tuple[int, tuple[int, ...]]:
    """Choose the cheapest candidate whose risks all stay below their tolerances, with confidence.

    For several thresholds at once (a gate's and a decision's, or one per label) there is no single
    order statistic. Learn-then-Test (Angelopoulos et al., 2021) tests each candidate instead: its
    p-value per risk is the exact binomial P(X <= failures), the largest counts, and MAPIE
    (Bonferroni–Holm) keeps the chance that *any* accepted candidate breaks a tolerance below
    1 − confidence. So the cheapest accepted one may be taken. The candidates must be fixed before
    these clips are seen; few and far apart are better than many.

    Args:
        risks: one or more, all of the same K candidates.
        prices: (K,) of each candidate, for instance the deferred share; the smallest is taken.
        confidence: in (0, 1).

    Returns:
        The candidate, and all accepted ones.

    Raises:
        ValueError: MAPIE missing, inputs that don't belong together, or no candidate accepted.
    """
    check_share("confidence", confidence, ends=False)
    price = check_column(prices, "prices")
    if not risks:
        raise ValueError("no risk to control; give at least one")
    worst = np.zeros(len(price))
    for risk in risks:
        losses = risk.checked()
        if len(losses) != len(price):
            raise ValueError(
                f"losses of {risk.name!r} have {len(losses)} candidates and prices {len(price)}; "
                "give one row and one price per candidate"
            )
        tail = cdf(losses.shape[1], risk.tolerance)
        worst = np.maximum(worst, tail[losses.sum(axis=1)])
    accepted = _control(worst, 1 - confidence)
    if not accepted:
        raise ValueError(
            f"none of {len(price)} candidates is proven with confidence {confidence:g} (smallest "
            f"p-value {worst.min():.3g}); try fewer candidates, more clips or larger tolerances"
        )
    return min(accepted, key=lambda k: (price[k], k)), accepted


def _control(p_values: Values, delta: float) -> tuple[int, ...]:
    try:
        from mapie.risk_control import control_fwer
    except ImportError:
        raise ValueError(
            "several thresholds at once need MAPIE 1.6 or newer, which is not installed; "
            "pip install 'coefvq[cascade]', or choose one threshold with by_recall"
        ) from None
    found = control_fwer(p_values, delta, fwer_method="bonferroni_holm")
    return tuple(sorted(int(k) for k in found))
