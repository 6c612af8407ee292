"""What a report says of scores and of the unit that they are shown in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coefvq.evaluation.markdown import table

PROTOCOL = (
    "SRCC and KRCC are of raw scores. PLCC and RMSE are after a logistic that was fitted on these "
    "very test clips, as is the custom of the field; RMSE is in the unit of the labels."
)


def score_lines(report: Mapping[str, Any]) -> list[str]:
    """Paragraphs on the metrics of scores, and on the calibration that `predict` shows.

    Args:
        report: of a run; empty for all but a regression.
    """
    test = report.get("test") or {}
    if not any("srcc" in (test.get(model) or {}) for model in ("teacher", "student")):
        return []
    made, found = report.get("score_calibration"), report.get("calibrated_scores")
    if not made or not found:
        return [PROTOCOL]
    low, high = made["label_range"]
    points = 100 / (high - low)
    percent = (low, high) == (0, 100)  # labels that have the unit already
    width, coverage = made["half_width"], made["coverage"]

    def both(value: float, sign: str = "") -> str:
        if percent:
            return f"{value:{sign}.4g}"
        return f"{value:{sign}.4g} ({points * value:{sign}.3g} of 100)"

    rows = [
        (f"half of the {coverage:.0%} interval", both(width)),
        ("test labels inside the interval", f"{found['coverage']:.1%}"),
        ("RMSE of calibrated scores, test clips", both(found["rmse"])),
        ("RMSE of calibrated scores, validation clips not fitted to", both(made["rmse"])),
        ("calibrated score − label, mean over test clips", both(found["mean_difference"], "+")),
        ("words as `predict` prints them: share in the label's fifth", f"{found['words']:.4f}"),
    ]
    what = (
        f"`predict` maps the student's scores to labels from {low:g} to {high:g}"
        f"{'' if percent else ', and these to 0 to 100'}, by a curve that was fitted on "
        f"{made['clips']} validation clips."
    )
    return [PROTOCOL, "### Scores with a unit", what, table(("measure", "student"), rows)]


def score_line(report: Mapping[str, Any]) -> str:
    """The same in a line for the last screen; empty where scores have no unit."""
    made, found = report.get("score_calibration"), report.get("calibrated_scores")
    if not made or not found:
        return ""
    low, high = made["label_range"]
    width = 100 * made["half_width"] / (high - low)
    return (
        f"scores from 0 to 100, ± {width:.0f} in {made['coverage']:.0%} of cases: so for "
        f"{found['coverage']:.1%} of test clips; the word is right for {found['words']:.1%}"
    )


__all__ = ["PROTOCOL", "score_line", "score_lines"]
