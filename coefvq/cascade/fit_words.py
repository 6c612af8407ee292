"""What can be refused of a fit's words before any clip is scored."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, get_args

from coefvq.cascade.arrays import check_share, check_task
from coefvq.cascade.calibrate import Kind, check_kind
from coefvq.cascade.calibrators import log_prior, shift_of_prior
from coefvq.cascade.decision_cut import DecisionThreshold
from coefvq.cascade.recall import RecallOf, positives_for_mean, positives_needed
from coefvq.cascade.routing import Gate

RULES = ("budget", "recall", "expected_recall", "cost", "threshold")
"""Of these exactly one chooses the threshold of the gate."""


def check_rule(
    task: str,
    rules: Mapping[str, Any],
    *,
    confidence: float = 0.95,
    recall_of: str = "system",
    false_alarms: float | None = None,
    precision: float | None = None,
    decision_threshold: DecisionThreshold = None,
) -> str:
    """Return the one rule that is given, after a look at it and at what goes with it.

    Args:
        task: what the logits mean.
        rules: values of `RULES` by name; None: not given.
        confidence: of a recall.
        recall_of: see `coefvq.cascade.recall`.
        false_alarms: a second promise beside a recall.
        precision: that the decision threshold aims at.
        decision_threshold: given.

    Raises:
        ValueError: none or several rules, a share that is none, or words that exclude each other.
    """
    given = [name for name in RULES if rules.get(name) is not None]
    if len(given) != 1:
        raise ValueError(
            f"give exactly one of {', '.join(RULES)}, got {' and '.join(given) or 'none'}"
        )
    (rule,), value = given, rules[given[0]]
    check_task(task)
    if task != "binary" and (rule in ("recall", "expected_recall") or precision is not None):
        raise ValueError(
            f"recall and precision need one question with a yes, got a {task} task; use budget or "
            "cost, or fit one policy per label"
        )
    if rule in ("budget", "recall", "expected_recall"):
        check_share(rule, value, ends=rule == "budget")
    if rule == "threshold" and (not isinstance(value, int | float) or math.isnan(value)):
        raise ValueError(f"threshold must be a number, inf or -inf, got {value!r}")
    check_share("confidence", confidence, ends=False)
    if recall_of not in get_args(RecallOf):
        raise ValueError(f"recall is of {', '.join(get_args(RecallOf))}, got {recall_of!r}")
    if precision is not None:
        check_share("precision", precision, ends=False)
        if decision_threshold is not None:
            raise ValueError("give precision or decision_threshold, not both: each sets the other")
    if false_alarms is not None:
        check_share("false_alarms", false_alarms, ends=False)
        if rule != "recall" or recall_of != "system":
            raise ValueError(
                "false_alarms is a second promise beside recall=, of the whole system; give it "
                "with recall and without another recall_of"
            )
        if precision is not None or decision_threshold is not None:
            raise ValueError(
                "false_alarms chooses the decision threshold itself; leave precision and "
                "decision_threshold out"
            )
    return rule


def check_positives(
    labelled: int,
    rule: str,
    level: float,
    *,
    confidence: float = 0.95,
    heavy_found: tuple[int, int] | None = None,
) -> None:
    """Refuse a recall that this many labelled positives cannot show.

    Half of them fit the calibrators and the decision threshold, the other half (the larger one)
    is counted, so that 2·n − 1 labelled ones are needed where a rule needs n. Of `"heavy"` only
    those count that the heavy model finds; until it has been asked, this is the least.

    Args:
        labelled: positives that the fit is given.
        rule: `"recall"` or `"expected_recall"`.
        level: of it, in (0, 1).
        confidence: of a recall.
        heavy_found: how many the heavy model found of how many it was asked, in the counted half.

    Raises:
        ValueError: too few; with the number to bring, which is an estimate after `heavy_found`.
    """
    promise = rule == "recall"
    least = positives_needed(level, confidence) if promise else positives_for_mean(level)
    counted, words = labelled - labelled // 2, f"at least {max(2 * least - 1, 1)}"
    why = f"one half of them, at least {least}, is counted and the other fits calibrators"
    if heavy_found is not None:
        counted, asked = heavy_found
        guess = math.ceil((2 * least - 1) * asked / counted) if counted else None
        words = "more" if guess is None else f"about {guess} (an estimate)"
        why = (
            f"of the counted half the heavy model finds {counted} of {asked}, and {least} must be "
            "found"
        )
    if counted >= least:
        return
    asked_for = f"recall {level:g} with confidence {confidence:g}" if promise else ""
    raise ValueError(
        f"{asked_for or f'an expected recall of {level:g}'} needs {words} labelled positives "
        f"({why}), got {labelled}; label more or ask for less"
        + (", or use expected_recall" if promise else "")
    )


def check_prices(**prices: float) -> None:
    """Refuse what is no price.

    Raises:
        ValueError: negative, not finite, or no number.
    """
    for name, price in prices.items():
        if not (isinstance(price, int | float) and 0 <= price < math.inf):
            raise ValueError(f"{name} must be a finite number of at least 0, got {price!r}")


def check_words(words: Mapping[str, Any], *, task: str, light_models: int = 1) -> None:
    """Refuse words of `coefvq.cascade.fitting.fit_policy` that no clips could make right.

    Scoring clips with a heavy model takes long; a share of 1.5 or a gate of another task should
    not wait for it. What depends on the clips (too few positives) is for the fit.

    Args:
        words: those of `fit_policy` that are given; a missing one has its default.
        task: what the models' logits mean.
        light_models: how many light models there are.

    Raises:
        ValueError: see above.
    """
    names = ("confidence", "recall_of", "false_alarms", "precision", "decision_threshold")
    extra = {name: words[name] for name in names if name in words}
    check_rule(task, {name: words.get(name) for name in RULES}, **extra)
    prices = {name: words.get(name, 0.0) for name in ("miss_price", "false_alarm_price")}
    check_prices(**prices)
    gate = words.get("gate", "entropy")
    check_gate(gate, task, words.get("gate_options") or {})
    if (gate == "disagreement") != (light_models > 1):
        raise ValueError(
            f"the gate {gate} reads {'several light models' if light_models == 1 else 'one'}, got "
            f"{light_models}; "
            + (
                "give light=[one,other]"
                if light_models == 1
                else "use gate=disagreement, or give one light model"
            )
        )
    for name in ("calibrator", "heavy_calibrator"):
        kind: Kind = words.get(name, "affine")
        if name in words or name == "calibrator":
            check_kind(kind, task)
        if kind == "prior_shift":
            check_prior_shift(task, words.get("train_prevalence"), words.get("serving_prevalence"))
    if words.get("serving_prevalence") is not None:
        log_prior(task, words["serving_prevalence"], "serving_prevalence")
    if words.get("deferred", "replace") not in ("replace", "stack"):
        raise ValueError(f"deferred must be replace or stack, got {words['deferred']!r}")


def check_gate(name: Any, task: str, options: Mapping[str, Any]) -> None:
    """Refuse an unknown gate, one of another task, and options that it doesn't have.

    Raises:
        ValueError: see above.
    """
    if not isinstance(options, Mapping):
        raise ValueError(
            f"gate_options are names and values, for instance {{low: 0.2, high: 0.8}}, got "
            f"{options!r}"
        )
    if name != "learned":
        gate = Gate(name, task, options)  # type: ignore[arg-type]
        if name not in ("top_p_risk",):  # how many classes there are is not known here
            width = {"binary": [1.0], "multiclass": [[1.0, 0.0, 0.5]], "multilabel": [[1.0, 0.0]]}
            gate([width[task]] * 2 if gate.several_models else width[task])
        return
    if set(options) - {"ridge"}:
        raise ValueError(f"gate 'learned' has one option, ridge; got {sorted(options)}")
    ridge = options.get("ridge", 1.0)
    if not (isinstance(ridge, int | float) and ridge > 0):
        raise ValueError(f"ridge must be above 0, got {ridge!r}")


def check_prior_shift(task: str, train_prevalence: Any, serving_prevalence: Any) -> None:
    """Refuse a prior shift that lacks one of its ends.

    Raises:
        ValueError: one is missing, or is no share.
    """
    if train_prevalence is None or serving_prevalence is None:
        raise ValueError(
            "prior_shift needs train_prevalence and serving_prevalence: the share of positives "
            "that the model was trained with and the one it will meet"
        )
    shift_of_prior(task, train_prevalence, serving_prevalence)
