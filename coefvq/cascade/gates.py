"""How unsure a light model is of a clip: pure functions of its logits, higher = less sure.

A clip is deferred where its uncertainty reaches a threshold (`coefvq.cascade.thresholds`). Give
these functions *calibrated* logits (`coefvq.cascade.calibrators`): a model that was trained on
balanced classes and serves 2 % positives is most unsure in the wrong place.

For a binary task entropy, 1 − largest probability and margin are all monotone in |z| and put the
clips in one and the same order, so there is one gate for it: `entropy`. For several classes they
differ, and `top_p_risk` (with p = 1 the largest probability) and `margin` are there too.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from coefvq.cascade.arrays import (
    Array,
    Values,
    as_array,
    check_logits,
    check_task,
    log_odds,
    mean_of,
    sigmoid,
    softmax,
    total,
)

Over = Literal["max", "sum"]
"""How the labels of a multilabel clip become one number: the worst one, or all together."""


def entropy(logits: Values, task: str, *, over: Over = "max") -> Array:
    """Entropy of the predicted distribution: H = logsumexp(z) − Σ softmax(z)·z.

    Computed after the largest logit was taken off, as log(1 + s) + Σ p·(z_max − z) with s the sum
    over the other classes: nothing cancels, so that very confident clips keep their order. Source
    of the gate: COEF-VQ (KDD 2025), abstract.

    Args:
        logits: (N,) binary, (N, C) multiclass, (N, L) multilabel; −inf masks a class.
        task: what they mean. Multilabel: the binary entropy of each label.
        over: for multilabel only, see `Over`.

    Returns:
        (N,) nats, in [0, log C], [0, log 2] or, for a sum, [0, L·log 2]. 0 where certain.

    Raises:
        ValueError: wrong shape or task, or a NaN.

    >>> entropy([0.0, 1e4], "binary").round(4).tolist()
    [0.6931, 0.0]
    """
    z = check_logits(logits, task)
    if task == "binary":
        return _binary_entropy(z)
    if task == "multilabel":
        return over_labels(_binary_entropy(z), over)
    # Sorted, so that the order of the classes cannot change the last bit.
    below = np.sort(z, axis=-1)[:, ::-1]
    gap = below[:, :1] - below[:, 1:]
    e = np.exp(-gap)
    rest = total(e)
    spread = total(np.where(e > 0, e * np.where(e > 0, gap, 0.0), 0.0))
    return np.asarray(np.log1p(rest) + spread / (1 + rest))


def top_p_risk(logits: Values, task: str, *, p: int = 1) -> Array:
    """One minus the probability of the p most likely classes together: 1 − Σ_{k ≤ p} p_(k).

    With p = 1 it is the usual 1 − largest probability. p = 2 suits a heavy model (or a person)
    that is asked only when the answer isn't among the light model's first two. It is summed from
    the classes that are left, so that small risks keep their digits.

    Args:
        logits: (N, C).
        task: multiclass. Binary and multilabel answers are yes or no: `entropy` is the one gate.
        p: how many classes, from 1 to C − 1.

    Returns:
        (N,) in [0, 1 − p / C].

    Raises:
        ValueError: another task, or p outside its range.

    >>> top_p_risk([[0.0, 0.0, 0.0, 0.0]], "multiclass", p=3).tolist()
    [0.25]
    """
    _several_classes(task, "top_p_risk")
    z = check_logits(logits, task)
    if not (isinstance(p, int) and 1 <= p < z.shape[1]):
        raise ValueError(
            f"p is the number of top classes, from 1 to {z.shape[1] - 1} for {z.shape[1]} classes, "
            f"got {p!r}"
        )
    ranked = np.sort(softmax(z), axis=-1)
    return total(ranked[:, : z.shape[1] - p])


def margin(logits: Values, task: str) -> Array:
    """One minus the lead of the first class over the second: 1 − (p_(1) − p_(2)).

    Args:
        logits: (N, C).
        task: multiclass; for binary it is the order of `entropy`.

    Returns:
        (N,) in [0, 1]; 1 where two classes tie for the first place.

    Raises:
        ValueError: another task.

    >>> margin([[1.0, 1.0, -9.0]], "multiclass").tolist()
    [1.0]
    """
    _several_classes(task, "margin")
    ranked = np.sort(softmax(check_logits(logits, task)), axis=-1)
    return np.minimum(total(ranked[:, :-1]) + ranked[:, -2], 1.0)


def band(logits: Values, task: str, *, low: float = 0.0, high: float = 1.0) -> Array:
    """How deep a clip lies between two thresholds on the probability: at least 0 is inside.

    min(z − logit(low), logit(high) − z), in nats of the logit. With the threshold 0 the band
    [low, high] itself is deferred: below it the light model says no, above it yes. Another
    threshold t moves both ends inwards by t (outwards where negative). An end at 0 or 1 is no end:
    `low` alone with `high` = 1 is a floor on the light score, and a clip is as uncertain as its
    score is high.

    Args:
        logits: (N,) binary; (N, L) multilabel, where the deepest label decides.
        task: what they mean.
        low: lower end on the probability, in [0, 1).
        high: upper end, in (low, 1].

    Returns:
        (N,) finite numbers.

    Raises:
        ValueError: a multiclass task, or ends that are no band.

    >>> band([0.0, 4.0], "binary", low=0.5, high=0.8).round(3).tolist()
    [0.0, -2.614]
    """
    check_task(task)
    if task == "multiclass":
        raise ValueError(
            "a band lies on the probability of yes, and a multiclass task has no yes; use entropy, "
            "margin or top_p_risk"
        )
    numbers = isinstance(low, int | float) and isinstance(high, int | float)
    if not numbers or not 0 <= low < high <= 1 or (low, high) == (0, 1):
        raise ValueError(
            f"a band needs 0 <= low < high <= 1 with at least one end inside, got low={low!r}, "
            f"high={high!r}"
        )
    largest = np.finfo(np.float64).max
    z = np.clip(check_logits(logits, task), -largest / 2, largest / 2)
    depth = np.full_like(z, largest)
    if low > 0:
        depth = np.minimum(depth, z - log_odds(low))
    if high < 1:
        depth = np.minimum(depth, log_odds(high) - z)
    return depth if task == "binary" else depth.max(axis=1)


def disagreement(
    logits: Values, task: str, *, measure: Literal["js", "vote"] = "js", over: Over = "max"
) -> Array:
    """How much several light models disagree about a clip; 0 where they agree.

    `"js"`: the Jensen–Shannon divergence of their predictions, H(mean p) − mean H(p): what they
    are unsure of *about each other*, not what each is unsure of. `"vote"`: the share of models
    that don't vote for the most frequent answer (argmax, or z > 0). Votes of few models tie often,
    and a budget cannot cut within a tie.

    Args:
        logits: (M, N), (M, N, C) or (M, N, L) of M ≥ 2 models, each calibrated.
        task: what they mean.
        measure: see above.
        over: for multilabel only, see `Over`.

    Returns:
        (N,) nats in [0, log M] (binary: at most log 2) for js; a share in [0, 1 − 1/M] for vote.

    Raises:
        ValueError: fewer than two models, wrong shapes, unknown option.

    >>> disagreement([[2.0, 9.0], [3.0, -9.0]], "binary", measure="vote").tolist()
    [0.0, 0.5]
    """
    check_task(task)
    if measure not in ("js", "vote"):
        raise ValueError(f"measure must be js or vote, got {measure!r}")
    every = as_array(logits, "logits")
    if every.ndim != 2 + (task != "binary") or len(every) < 2:
        raise ValueError(
            f"disagreement needs the logits of at least two light models, (M, N"
            f"{'' if task == 'binary' else ', ...'}), got shape {every.shape}"
        )
    members = [check_logits(z, task, what=f"logits of model {m}") for m, z in enumerate(every)]
    if measure == "vote":
        value = _split_vote(members, task)
    elif task == "multiclass":
        chances = [softmax(z) for z in members]
        value = _entropy_of(mean_of(chances)) - mean_of([_entropy_of(p) for p in chances])
    else:
        chances = [sigmoid(z) for z in members]
        others = [sigmoid(-z) for z in members]
        mixed = _plogp(mean_of(chances)) + _plogp(mean_of(others))
        value = mixed - mean_of(
            [_plogp(p) + _plogp(q) for p, q in zip(chances, others, strict=True)]
        )
    value = np.maximum(value, 0.0)  # what rounding may leave below
    return over_labels(value, over) if task == "multilabel" else value


def over_labels(values: Array, over: str) -> Array:
    """Bring (N, L) values of labels to (N,): their maximum or sum.

    Raises:
        ValueError: another word.
    """
    if over not in ("max", "sum"):
        raise ValueError(f"over must be max or sum, got {over!r}")
    return values.max(axis=1) if over == "max" else total(values)


def _several_classes(task: str, gate: str) -> None:
    check_task(task)
    if task != "multiclass":
        raise ValueError(
            f"{gate} is for multiclass tasks; in a {task} task entropy, 1 - largest probability "
            "and margin put the answers in one and the same order, so use entropy"
        )


def _binary_entropy(z: Array) -> Array:
    """By |z|: log(1 + e^−|z|) + |z|·σ(−|z|), equal to the bit for z and −z."""
    size = np.abs(z)
    e = np.exp(-size)
    return np.asarray(np.log1p(e) + np.where(e > 0, size, 0.0) * e / (1 + e))


def _plogp(p: Array) -> Array:
    return np.asarray(-p * np.log(np.where(p > 0, p, 1.0)))


def _entropy_of(p: Array) -> Array:
    return total(_plogp(p))


def _split_vote(members: list[Array], task: str) -> Array:
    if task != "multiclass":
        yes = mean_of([(z > 0).astype(np.float64) for z in members])
        return np.minimum(yes, 1 - yes)
    votes = mean_of([np.eye(z.shape[1])[z.argmax(axis=1)] for z in members])
    return np.asarray(1 - votes.max(axis=1))
