"""A cascade's figures in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coefvq.evaluation.markdown import METRIC_LABELS, shown, table

FIRST = ("recall_at_precision_80", "f1", "average_precision", "accuracy")
"""Metrics of the curve, the first that a task has goes into the picture."""


def cascade_lines(figures: Mapping[str, Any]) -> list[str]:
    """Paragraphs and tables of Markdown, from plain figures."""
    fitted = figures["policy"]
    rule = fitted["rule"] + (f" {fitted['level']:g}" if fitted.get("level") is not None else "")
    promise = f" with confidence {fitted['confidence']:g}" if "confidence" in fitted else ""
    lines = [
        f"Gate {figures['gate']['name']}, fitted by {rule}{promise} on {fitted['labelled']} "
        f"labelled validation clips; it defers {figures['deferred']:.1%} of {judged_on(figures)}.",
        *(f"Note: {note}." for note in figures.get("notes") or ()),
        table(("test metric", *_models(figures)), _metrics(figures)),
        "Every budget of this gate. Each is met on the test clips themselves, as a quantile of "
        "their uncertainty that reads no label; the policy's own threshold comes from validation "
        "clips, and so do all decision thresholds.",
        table(curve_header(figures), curve_rows(figures)),
    ]
    areas = (f"{METRIC_LABELS.get(k, k)} {shown(v)}" for k, v in figures["area"].items())
    if order := ", ".join(areas):
        lines.append(f"Order of deferral between random (0) and an oracle (1): {order}.")
    words = [
        f"Area under risk and coverage {shown(figures['aurc'])} (lower is better). Calibration "
        f"error of the light model {shown(figures['calibration']['everywhere'])}, inside what is "
        f"deferred {shown(figures['calibration']['inside'])}.",
    ]
    if figures.get("latency"):
        words += [
            f"Latency of one clip, p50 / p99 in milliseconds: kept {_ms(figures, 'kept')}, "
            f"deferred {_ms(figures, 'deferred')}{_timed(figures)}."
        ]
    return [*lines, *words]


def judged_on(figures: Mapping[str, Any]) -> str:
    """What shares and metrics are of, in words."""
    weighted = (figures.get("prevalence") or {}).get("weighted_to")
    if weighted is None:
        return "the test clips"
    shares = ", ".join(f"{share:.1%}" for share in weighted)
    return f"the test clips, weighted to a serving prevalence of {shares}"


def _models(figures: Mapping[str, Any]) -> list[str]:
    return [name for name in ("light", "cascade", "heavy") if name in figures["test"]]


def _metrics(figures: Mapping[str, Any]) -> list[list[str]]:
    models = _models(figures)
    names = [n for n in METRIC_LABELS if n in figures["test"][models[0]]]
    rows = [
        [METRIC_LABELS[n], *(shown(figures["test"][model].get(n)) for model in models)]
        for n in names
    ]
    price = figures.get("seconds_per_1000")
    if price:
        unit = figures["cost"]["unit"]
        rows.append([f"{unit} per 1 000 clips", *(f"{price[model]:.1f}" for model in models)])
    return rows


def curve_header(figures: Mapping[str, Any]) -> list[str]:
    """The columns of the table of budgets."""
    names = [METRIC_LABELS.get(n, n) for n in FIRST if n in figures["curve"][0]["metrics"]]
    priced = figures["curve"][0]["seconds_per_1000"] is not None
    return ["budget", "deferred", *names] + (
        [f"{figures['cost']['unit']} / 1 000"] if priced else []
    )


def curve_rows(figures: Mapping[str, Any]) -> list[list[str]]:
    """Its rows."""
    rows = []
    for point in figures["curve"]:
        metrics = [shown(point["metrics"][n]) for n in FIRST if n in point["metrics"]]
        price = point["seconds_per_1000"]
        rows.append(
            [f"{point['budget']:.1%}", f"{point['deferred']:.1%}", *metrics]
            + ([] if price is None else [f"{price:.1f}"])
        )
    return rows


def _timed(figures: Mapping[str, Any]) -> str:
    clips = figures["latency"]["kept"].get("clips")
    if clips is None:
        return ""
    few = "; of fewer than 100, p99 is about the slowest" if clips < 100 else ""
    return f", of {clips:.0f} test clips one at a time{few}"


def _ms(figures: Mapping[str, Any], path: str) -> str:
    found = figures["latency"][path]
    return f"{1000 * found['p50']:.1f} / {1000 * found['p99']:.1f}"


__all__ = ["FIRST", "cascade_lines", "curve_header", "curve_rows", "judged_on"]
