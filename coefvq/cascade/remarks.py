"""What a reader of a cascade's figures must know, a sentence each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from coefvq.cascade.policy import Policy
from coefvq.evaluation.markdown import METRIC_LABELS

FEW = 30
"""Clips of a class below which what was fitted on them is a matter of chance."""


def remarks(policy: Policy, figures: Mapping[str, Any]) -> list[str]:
    """Say which prevalence the figures have, and what of the cascade is not worth having.

    Args:
        policy: that was measured.
        figures: of `coefvq.cascade.report.cascade_figures`.
    """
    found = [*_prevalence(policy, figures), *_few(policy, figures)]
    for name, value in figures["area"].items():
        if not math.isnan(value) and value <= 0:
            found.append(
                f"the gate's order of deferral is no better than a random one: its area for "
                f"{METRIC_LABELS.get(name, name)} is {value:.2f}, where random is 0"
            )
    price = figures["seconds_per_1000"]
    if price is not None and price["cascade"] >= price["heavy"]:
        found.append(
            f"the cascade saves nothing: {price['cascade']:.1f} {figures['cost']['unit']} per "
            f"1 000 clips, {price['heavy']:.1f} of the heavy model alone"
        )
    error = figures["calibration"]
    if error["everywhere"] > error["uncalibrated"] + 1e-9:
        shares = figures["prevalence"]
        found.append(
            f"calibrating made the light model's calibration error larger, "
            f"{error['uncalibrated']:.3f} before and {error['everywhere']:.3f} after it: "
            f"{_percent(shares['val'])} of the validation clips are {_what(policy)}, "
            f"{_percent(shares['test'])} of the test clips"
            + (", weighted to another share here" if shares["weighted_to"] is not None else "")
        )
    return found


def _prevalence(policy: Policy, figures: Mapping[str, Any]) -> list[str]:
    wanted = policy.fitted.get("serving_prevalence")
    if wanted is None:
        return []
    shares, found = figures["prevalence"], []
    own = f"{_percent(shares['test'])} of the test clips are {_what(policy)}"
    if shares["weighted_to"] is not None:
        found.append(
            f"{own}, the policy serves {_percent(wanted)}: all figures are weighted to that, but "
            "for the order of deferral and the area under risk and coverage"
        )
    else:
        found.append(
            f"{own}, the policy serves {_percent(wanted)}: all figures are of the test clips as "
            "they are"
            + ("" if policy.task == "multilabel" else ", of which one class has none to weigh")
        )
    kinds = {
        who: calibrator.to_dict()["kind"]
        for who, calibrator in (
            ("light", policy.light_calibrator),
            ("heavy", policy.heavy_calibrator),
        )
    }
    still = [who for who, kind in kinds.items() if kind in ("none", "temperature")]
    if still:
        words = " and ".join(dict.fromkeys(kinds[who] for who in still))
        found.append(
            "serving_prevalence weighs clips here, but does not move the probabilities of the "
            f"{' and the '.join(still)} model: calibrator {words} has no bias to move"
        )
    return found


def _few(policy: Policy, figures: Mapping[str, Any]) -> list[str]:
    counts: Sequence[int] = figures["labelled"]
    if not counts or min(counts) >= FEW:
        return []
    which = counts.index(min(counts))
    name = ("negative", "positive")[which] if policy.task == "binary" else f"of class {which}"
    if policy.task == "multilabel":
        name = f"with label {which}"
    return [
        f"only {min(counts)} validation clips are {name}: what is fitted on fewer than {FEW} of a "
        "kind may be chance"
    ]


def _percent(shares: Sequence[float]) -> str:
    return ", ".join(f"{share:.1%}" for share in shares)


def _what(policy: Policy) -> str:
    words = {"binary": "positive", "multiclass": "of each class", "multilabel": "with each label"}
    return words[policy.task]
