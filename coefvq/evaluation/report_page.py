"""The report as a page of Markdown for people."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coefvq.evaluation.cascade_lines import cascade_lines
from coefvq.evaluation.compute_page import compute_lines
from coefvq.evaluation.markdown import METRIC_LABELS, shown, table
from coefvq.evaluation.score_page import score_lines

AGREEMENT_LABELS = {
    "equal_decisions": "equal decisions (share)",
    "kl": "KL(teacher ‖ student) in nats",
    "score_correlation": "correlation of scores",
}
MAX_SKIPPED = 50


def page(report: Mapping[str, Any]) -> str:
    """Write the whole page from a plain report (see `coefvq.evaluation.report`).

    Args:
        report: already free of NaN, tensors and paths.
    """
    test = report.get("test") or {}
    name = report.get("label") or report.get("recipe") or "Run"
    title = f"# {name}"
    if report.get("task"):
        title += f" on {report['task']}"
    if report.get("seed") is not None:
        title += f", seed {report['seed']}"
    parts = [title]
    if report.get("command"):
        parts.append(f"```\n{report['command']}\n```")
    parts += _test(test, report)
    parts += _pairs(report)
    parts += compute_lines(report)
    if report.get("cascade"):
        parts += ["## Cascade", *cascade_lines(report["cascade"]), *_about_cascade(report)]
    if report.get("notes"):
        parts += ["## Notes", "\n".join(f"- {note}" for note in report["notes"])]
    drawn = [f"{folder}/deferral.png"] if (folder := _cascade_folder(report)) else []
    parts += _pictures([*(report.get("plots") or []), *drawn])
    data = _data(report)
    skipped = report.get("skipped_clips") or data.pop("skipped_clips", None) or []
    if data:
        parts += ["## Data", *_tree(data)]
    if report.get("skipped_clips") is not None or skipped:
        parts += ["## Skipped clips", *_skipped(skipped)]
    parts += _cost(report)
    identity = [
        (key.replace("_", " "), f"`{report[key]}`")
        for key in ("data_fingerprint", "teacher_name", "teacher_fingerprint")
        if report.get(key)
    ]
    if identity:
        parts += ["## Fingerprints", table(("what", "value"), identity)]
    if report.get("paths"):
        files = [(k, f"`{v}`") for k, v in report["paths"].items() if v]
        parts += ["## Files", table(("what", "where"), files)]
    if report.get("versions"):
        parts += ["## Versions", table(("package", "version"), report["versions"].items())]
    return "\n\n".join(parts) + "\n"


def _about_cascade(report: Mapping[str, Any]) -> list[str]:
    """Which threshold stands behind which table, and where the cascade's own pages are."""
    parts = []
    if report.get("task_kind", "binary") == "binary":
        parts.append(
            "One model has several F1 and accuracies here, as each table cuts elsewhere, always "
            "where validation clips say: under Test every model at its own best F1, in the "
            "cascade's first table all three at the policy's decision threshold, in the second "
            "each row at a threshold for that budget (the last two aim at `cascade.precision` "
            "where it is given)."
        )
    if folder := _cascade_folder(report):
        parts.append(
            f"This part by itself: [cascade.md]({folder}/cascade.md); calibrators compared: "
            f"[calibrators.md]({folder}/calibrators.md)."
        )
    return parts


def _cascade_folder(report: Mapping[str, Any]) -> str | None:
    """Where the cascade lies, seen from the page."""
    paths = report.get("paths") or {}
    if not report.get("cascade") or not paths.get("cascade") or not paths.get("report"):
        return None
    return Path(os.path.relpath(paths["cascade"], Path(paths["report"]).parent)).as_posix()


_HEADS = {"first_stage": "student, first stage"}
_BY_KIND = {"average_precision": "AP", "recall_at_precision_80": "R@P80"}


def rows_of(test: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Return the columns and rows of the small table: models across, metrics down.

    With both models there is a last column, student − teacher.
    """
    models = [name for name in ("teacher", "first_stage", "student") if test.get(name)]
    both = {"teacher", "student"} <= set(models)
    names = [key for key in METRIC_LABELS if any(key in test[model] for model in models)]
    rows = []
    for key in names:
        values = {model: test[model].get(key) for model in models}
        cells = [shown(value) for value in values.values()]
        if both:
            pair = values["student"], values["teacher"]
            cells.append(f"{pair[0] - pair[1]:+.4f}" if None not in pair else "")
        rows.append((METRIC_LABELS[key], cells))
    heads = [_HEADS.get(model, model) for model in models]
    return heads + (["student − teacher"] if both else []), rows


def unit_of(report: Mapping[str, Any]) -> str:
    """What a report counts: clips, or pairs of them."""
    return "pairs" if report.get("pairs") else "clips"


def by_chance(report: Mapping[str, Any]) -> str:
    """What a yes-or-no task gives to whoever has not looked; empty for other tasks.

    Scores in random order have an average precision of the prevalence p; always yes has an F1 of
    2p / (1 + p); always the commoner answer has an accuracy of max(p, 1 − p).
    """
    test = report.get("test") or {}
    p = (test.get("student") or test.get("teacher") or {}).get("prevalence")
    if p is None or report.get("task_kind") != "binary":
        return ""
    return (
        f"without looking: average precision {p:.4f}, F1 {2 * p / (1 + p):.4f} (always yes), "
        f"accuracy {max(p, 1 - p):.4f} (always the commoner answer)"
    )


def _test(test: Mapping[str, Any], report: Mapping[str, Any]) -> list[str]:
    names, rows = rows_of(test)
    if not names:
        return []
    parts = [
        "## Test",
        table(("metric", *names), [(label, *cells) for label, cells in rows]),
    ]
    facts, unit = [], unit_of(report)
    first = test.get("student") or test.get("teacher") or {}
    if first.get("n") is not None:
        facts.append(f"{first['n']:.0f} labelled test {unit}")
    if first.get("prevalence") is not None:
        facts.append(f"{first['prevalence']:.1%} positive")
    threshold, known = report.get("threshold"), len(facts)
    if isinstance(threshold, Mapping):
        given = {k: v for k, v in threshold.items() if v is not None}
        facts += [f"threshold of the {k}: {_threshold(v)}" for k, v in given.items()]
    elif threshold is not None:
        facts.append(f"threshold: {_threshold(threshold)}")
    chosen = len(facts) > known
    if facts:
        why = f" (thresholds are chosen on validation {unit})" if chosen else ""
        parts.append("; ".join(facts) + f"{why}.")
    if chance := by_chance(report):
        parts.append(f"{chance[0].upper()}{chance[1:]}.")
    parts += score_lines(report)
    agreement = test.get("agreement") or {}
    if agreement:
        lines = [
            (label, shown(agreement[key]))
            for key, label in AGREEMENT_LABELS.items()
            if key in agreement
        ]
        parts += ["### Agreement of student and teacher", table(("measure", "value"), lines)]
    if test.get("gap_closed") is not None:
        parts.append(f"Share of the teacher–student gap closed: {shown(test['gap_closed'])}")
    return parts


def _data(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the data are, without what they have not and what nobody reads of them."""
    data = dict(report.get("data") or {})
    unread = ["privileged"] if report.get("reads_privileged") is False else []
    for key in ("classes", "vocab_size", "privileged"):
        if key in unread or not data.get(key, True):
            data.pop(key, None)
    return data


def _pairs(report: Mapping[str, Any]) -> list[str]:
    """Recall at precisions and kinds of change, of pairs; the operating point."""
    parts: list[str] = []
    models = report.get("pairs") or {}
    if models:
        precisions = list(next(iter(models.values()))["recall_at_precision"])
        recalls = [
            (f"{p} %", *(shown(m["recall_at_precision"][p]) for m in models.values()))
            for p in precisions
        ]
        parts += ["### Recall at a precision", table(("precision", *models), recalls)]
    if any(m["by_sub_label"] for m in models.values()):
        kinds = {k: v["n"] for m in models.values() for k, v in m["by_sub_label"].items()}
        chance = {k: v.get("chance") for m in models.values() for k, v in m["by_sub_label"].items()}
        lines = [
            (
                k,
                n,
                "" if chance[k] is None else shown(chance[k]),
                *(shown(m["by_sub_label"][k][x]) for m in models.values() for x in _BY_KIND),
            )
            for k, n in kinds.items()
        ]
        heads = [f"{name}, {word}" for name in models for word in _BY_KIND.values()]
        parts += [
            "### By kind of change",
            "Each kind's copies stand against all negatives, so that its average precision (AP) "
            "is to be read beside that of chance, not beside the one above. R@P80 is the share "
            "of them that is found by the one threshold for 80 % precision over all pairs.",
            table(("kind", "copies", "AP of chance", *heads), lines),
        ]
    point = report.get("operating_point")
    if point:
        parts.append(
            f"Operating point: for a precision of {point['precision']:.0%} the calibrated score is "
            f"cut at {point['threshold']:.4f}, which had precision {point['val_precision']:.4f} "
            f"and recall {point['val_recall']:.4f} on {point['n']} validation examples"
            + (f", {point['taken']} of which it calls positive." if "taken" in point else ".")
        )
        if point.get("test_taken"):
            parts[-1] += (
                f" On test examples, which did not choose it: precision "
                f"{point['test_precision']:.4f} of {point['test_taken']}."
            )
    return parts


def _threshold(value: Any) -> str:
    return ", ".join(f"{item:.3f}" for item in (value if isinstance(value, list) else [value]))


def _pictures(plots: list[str]) -> list[str]:
    if not plots:
        return []
    return ["## Pictures", *(f"![{name.rsplit('/', 1)[-1]}]({name})" for name in plots)]


def _tree(tree: Mapping[str, Any]) -> list[str]:
    """Show nested facts: a mapping of mappings as a table, the rest as a list."""
    simple = [f"- {k}: {_value(v)}" for k, v in tree.items() if not _is_grid(v)]
    parts = ["\n".join(simple)] if simple else []
    for key, grid in tree.items():
        if not _is_grid(grid):
            continue
        columns = list(dict.fromkeys(name for row in grid.values() for name in row))
        rows = [(name, *(_value(row.get(c, "")) for c in columns)) for name, row in grid.items()]
        parts.append(table((key, *columns), rows))
    return parts


def _is_grid(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(row, Mapping) for row in value.values())
    )


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_value(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(_value(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _skipped(skipped: list[Any]) -> list[str]:
    if not skipped:
        return ["None."]
    columns = ("id", "path", "reason")
    rows = [
        tuple(clip.get(c, "") for c in columns) if isinstance(clip, Mapping) else (clip, "", "")
        for clip in skipped[:MAX_SKIPPED]
    ]
    rest = len(skipped) - len(rows)
    more = [f"… and {rest} more in report.json."] if rest else []
    return [f"{len(skipped)} could not be read:", table(columns, rows), *more]


def _cost(report: Mapping[str, Any]) -> list[str]:
    seconds = report.get("seconds") or {}
    if not seconds and report.get("peak_memory_mb") is None:
        return []
    rows = [(phase, f"{value:.1f} s") for phase, value in seconds.items()]
    if seconds:
        rows.append(("all", f"{sum(seconds.values()):.1f} s"))
    if report.get("peak_memory_mb") is not None:
        rows.append(("peak memory", f"{report['peak_memory_mb']:.0f} MB"))
    return ["## Cost", table(("phase", "amount"), rows)]
