"""Thresholds by recall: how far the cascade may trust the light model's no.

What recall means for two models in a row
------------------------------------------
A clip with uncertainty u is deferred where u >= τ. A positive clip is then

- *answered yes by the light model* if it is kept and the light score reaches the decision
  threshold, *answered yes by the heavy model* if it is deferred and the final score reaches it,
- *caught* if either happens, *missed* otherwise.

Three shares of positives are worth a promise, and they are different promises (`of`):

- `"system"`: caught, out of all positives. The heavy model's own misses count, so no threshold can
  promise more than the heavy model finds; then it is refused.
- `"heavy"`: caught, out of the positives that the heavy model finds: what the cascade keeps of
  running the heavy model on everything.
- `"gate"`: deferred or answered yes, out of all positives: what the light model does not silently
  drop, whatever becomes of it (for instance where people look at what is deferred).

For each positive there is a *critical value* c, the highest τ at which it still counts as found:
+inf where the light model says yes anyway, its uncertainty u where it must be deferred, −inf where
deferring doesn't help. With the band gate and no upper end u is the light score itself, and τ the
lowest score that is not dropped. One case runs the other way: a positive that the light model finds
and the heavy one misses is lost by deferring it. `"system"` counts it as a miss at every τ, which
can only make the promise stronger than needed.

The decision threshold, the calibrators and the gate must be fixed on *other* clips than these:
`coefvq.cascade.fitting.fit_policy` splits the clips for that.

Every rule here counts positives, so each must stand for as much traffic as any other
(`check_alike`). A weight per class, such as `serving_prevalence` makes, is no obstacle: it leaves
the share of positives that are found as it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from coefvq.cascade.arrays import (
    Array,
    Values,
    check_column,
    check_flags,
    check_share,
)
from coefvq.cascade.binomial import cdf

RecallOf = Literal["system", "heavy", "gate"]


@dataclass(frozen=True)
class RecallFloor:
    """A threshold and what it was chosen by.

    Args:
        threshold: τ, defer where uncertainty >= τ.
        positives: how many calibration positives it was chosen by.
        tolerated: how many of them may be (and at most are) missed.
        missed: how many are.
    """

    threshold: float
    positives: int
    tolerated: int
    missed: int


def critical_values(
    uncertainty: Values,
    light_yes: Values,
    heavy_yes: Values | None = None,
    *,
    of: RecallOf = "system",
) -> Array:
    """Return the highest threshold at which each *positive* clip is still found.

    Args:
        uncertainty: (n,) of positive clips, from a gate.
        light_yes: (n,) bool, where the light model's answer is yes.
        heavy_yes: (n,) bool, where the answer after deferring is yes; not read for `"gate"`.
        of: see the module.

    Returns:
        (n,), for `"heavy"` only of the clips where `heavy_yes`.

    Raises:
        ValueError: lengths that don't belong together, heavy_yes missing, unknown option.
    """
    if of not in get_args(RecallOf):
        raise ValueError(f"recall is of {', '.join(get_args(RecallOf))}, got {of!r}")
    u = check_column(uncertainty, "uncertainty")
    found = np.where(check_flags(light_yes, "light_yes", len(u)), np.inf, u)
    if of == "gate":
        return found
    if heavy_yes is None:
        raise ValueError(
            f"recall of the {of} needs heavy_yes: score the clips with both models, or use "
            "of='gate'"
        )
    heavy = check_flags(heavy_yes, "heavy_yes", len(u))
    return np.asarray(found[heavy]) if of == "heavy" else np.where(heavy, found, -np.inf)


def check_alike(weight: Values, kind: str) -> None:
    """Refuse unequal weights where clips are counted for a promise.

    An order statistic or a binomial tail holds for clips that each stand for the same amount of
    traffic. Drawn otherwise, the recall that is counted isn't the traffic's.

    Args:
        weight: (n,) of the clips that count, all of one kind.
        kind: the word for them, `"positive"` or `"negative"`.

    Raises:
        ValueError: weights that differ.
    """
    w = check_column(weight, "sample_weight")
    if len(w) and float(np.ptp(w)) > 1e-9 * float(np.abs(w).max()):
        raise ValueError(
            f"sample_weight of the {kind} clips runs from {w.min():g} to {w.max():g}, and a recall "
            f"can be promised only where all {kind} clips weigh the same; draw them as the traffic "
            "has them, or use budget, cost or threshold, which weigh each clip"
        )


def positives_needed(recall: float, confidence: float) -> int:
    """How many calibration positives a PAC floor needs: ⌈ln(1 − confidence) / ln(recall)⌉.

    With fewer, all of them being found proves too little. `coefvq.cascade.fitting.fit_policy`
    spends half of the labelled positives on other things and needs twice as many, less one: see
    `coefvq.cascade.fit_words.check_positives`.

    >>> [positives_needed(r, 0.95) for r in (0.95, 0.98, 0.99)]
    [59, 149, 299]
    """
    check_share("recall", recall, ends=False)
    check_share("confidence", confidence, ends=False)
    return math.ceil(math.log1p(-confidence) / math.log(recall) - 1e-9)


def positives_for_mean(recall: float) -> int:
    """How many calibration positives an expected recall (CRC) needs: ⌈1/(1 − recall)⌉ − 1.

    >>> [positives_for_mean(r) for r in (0.9, 0.95, 0.99)]
    [9, 19, 99]
    """
    check_share("recall", recall, ends=False)
    return math.ceil(1 / (1 - recall) - 1 - 1e-9)


def by_recall(critical: Values, recall: float, *, confidence: float = 0.95) -> RecallFloor:
    """Choose the highest threshold whose recall is at least this much, with confidence (PAC).

    The k-th smallest of n critical values, with the largest k such that
    P(Binomial(n, 1 − recall) <= k − 1) <= δ = 1 − confidence: at that threshold at most k − 1 of
    these positives are missed. Over repeated calibrations (n positives drawn anew, exchangeable
    with those to come) the true recall is below `recall` in at most a share δ of them. It is the
    one-sided tolerance limit of Wilks (1941); no assumption on either model.

    Args:
        critical: (n,) from `critical_values`, of calibration positives.
        recall: in (0, 1).
        confidence: 1 − δ, in (0, 1).

    Raises:
        ValueError: fewer positives than `positives_needed`, or a recall that the heavy model
            cannot give.
    """
    c = np.sort(check_column(critical, "critical"))
    needed = positives_needed(recall, confidence)
    if len(c) < needed:
        raise ValueError(
            f"a recall of {recall:g} with confidence {confidence:g} needs at least {needed} "
            f"calibration positives, got {len(c)}; label more, ask for less, or use expected_recall"
        )
    # The largest k with P(X <= k - 1) <= δ; `needed` makes it at least 1.
    k = int((cdf(len(c), 1 - recall) <= 1 - confidence + 1e-12).sum())
    return _floor(c, max(k, 1), recall)


def by_expected_recall(critical: Values, recall: float) -> RecallFloor:
    """Choose the highest threshold whose recall is at least this much *on average* (CRC).

    Conformal risk control (Angelopoulos et al., ICLR 2024) in closed form: at most
    k = ⌊(1 − recall)·(n + 1)⌋ − 1 of n positives missed, so that (k + 1)/(n + 1) <= 1 − recall.
    The mean runs over calibrations *and* the next clip. It says nothing about the one calibration
    at hand: about 45 % of them have a recall below what was asked. For a promise use `by_recall`.

    Args:
        critical: (n,) from `critical_values`, of calibration positives.
        recall: in (0, 1).

    Raises:
        ValueError: fewer positives than `positives_for_mean`, or a recall that the heavy model
            cannot give.
    """
    needed = positives_for_mean(recall)
    c = np.sort(check_column(critical, "critical"))
    if len(c) < needed:
        raise ValueError(
            f"an expected recall of {recall:g} needs at least {needed} calibration positives, "
            f"got {len(c)}; label more, or ask for less"
        )
    return _floor(c, math.floor((1 - recall) * (len(c) + 1) + 1e-9), recall)


def _floor(c: Array, k: int, recall: float) -> RecallFloor:
    """The k-th smallest: at most k − 1 are below."""
    threshold = float(c[k - 1])
    if threshold == -math.inf:
        lost = int((c == -np.inf).sum())
        raise ValueError(
            f"a recall of {recall:g} is out of reach: {lost} of {len(c)} calibration positives are "
            f"answered no even when deferred, and at most {k - 1} may be; lower the decision "
            "threshold, or ask for the recall of the heavy model's finds or of the gate alone "
            "(recall_of=heavy, recall_of=gate)"
        )
    return RecallFloor(threshold, len(c), k - 1, int((c < threshold).sum()))
