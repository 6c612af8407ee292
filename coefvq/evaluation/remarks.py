"""What a reader might overlook in a run's own numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from coefvq.evaluation.markdown import METRIC_LABELS

_RANKING = ("average_precision", "srcc")
"""What models are told apart by, without a threshold: of classes, of scores."""


def remarks(report: Mapping[str, Any]) -> Iterator[str]:
    """Say where a teacher is not above its student, and where it is not dearer.

    Differences are not tested here: one run cannot tell a better model from a luckier one.

    Args:
        report: of a run, with `test` and, where costs were measured, `compute`.

    >>> scores = {"teacher": {"average_precision": 0.7}, "student": {"average_precision": 0.8}}
    >>> print(*remarks({"test": scores}))
    the teacher's average precision on the test split (0.700) is not above the student's (0.800): \
it is no upper bound here; a run without a teacher tells what it was good for
    """
    test = report.get("test") or {}
    teacher = test.get("teacher") or {}
    metric = next((name for name in _RANKING if teacher.get(name) is not None), None)
    if metric is not None:
        name, top = METRIC_LABELS[metric], teacher[metric]
        first = (test.get("first_stage") or {}).get(metric)
        student = (test.get("student") or {}).get(metric)
        below = None
        if first is not None and top <= first:
            below = f"what the student had before it was taught ({first:.3f})"
        elif student is not None and top <= student:
            below = f"the student's ({student:.3f})"
        if below:
            yield (
                f"the teacher's {name} on the test split ({top:.3f}) is not above {below}: it is "
                "no upper bound here; a run without a teacher tells what it was good for"
            )
    costs = report.get("compute") or {}
    # A privileged teacher is cheap: dear is what it reads.
    if (
        {"teacher", "student"} <= set(costs)
        and not costs["teacher"].get("privileged")
        and (costs["teacher"]["gflop"] <= costs["student"]["gflop"])
    ):
        yield (
            f"at these sizes the teacher costs {costs['teacher']['gflop']:.3f} GFLOP an answer, "
            f"the student {costs['student']['gflop']:.3f}: nothing is saved here; tiny models show "
            "that a recipe works, not what it saves (see the published sizes in README.md)"
        )


__all__ = ["remarks"]
