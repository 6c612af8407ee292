"""Score the models of a run with the same metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from coefvq.costs import costs
from coefvq.data.reading_remarks import reading_notes
from coefvq.evaluation.agreement import compute_agreement
from coefvq.evaluation.collect import Predictions, collect
from coefvq.evaluation.metrics import compute_metrics, fit_notes, undefined_notes
from coefvq.evaluation.operating_point import choose_operating_point
from coefvq.evaluation.pairs import pair_metrics
from coefvq.evaluation.quality_splits import LEAST, Spread, metrics_by_group, metrics_over_subsets
from coefvq.evaluation.score_calibration import calibrate_scores
from coefvq.evaluation.scores import Threshold, checked
from coefvq.evaluation.threshold import choose_threshold
from coefvq.teacher_supply.outputs import TeacherSupply
from coefvq.types import TaskSpec


def score(
    cfg: DictConfig,
    data: Any,
    teacher: TeacherSupply | None,
    student: nn.Module | None,
    device: torch.device,
) -> tuple[dict[str, Any], dict[str, Predictions], dict[str, Predictions]]:
    """Test teacher and student with the same metrics, thresholds chosen on validation clips.

    Returns:
        The report's `test`, `validation`, `threshold` and `compute` parts, for pairs also `pairs`,
        for a stated precision `operating_point`, for scores with a range `score_calibration` and
        `calibrated_scores`; and by name the predictions of the test and of the validation clips.
    """
    models: dict[str, Any] = {}
    if teacher is not None:
        models["teacher"] = teacher.ask
    if student is not None:
        models["student"] = lambda batch: student(batch.public())
    report: dict[str, Any] = {"test": {}, "validation": {}, "threshold": {}}
    curves: dict[str, Predictions] = {}
    held: dict[str, Predictions] = {}
    for name, model in models.items():
        val, test, threshold = _tested(model, data, device)
        report["threshold"][name] = threshold
        report["test"][name] = metrics_of(test, data.task, threshold)
        report["validation"][name] = metrics_of(val, data.task, threshold)
        curves[name], held[name] = test, val
        if name == "student" and cfg.at_precision is not None:
            report |= _operating_point(val, test, cfg.at_precision)
        if name == "student" and data.task.kind == "regression":
            found = _score_calibration(val, test, data)
            if "notes" in found:
                found["notes"] = [*report.get("notes", []), *found["notes"]]
            report |= found
    if hasattr(data, "sub_labels"):
        report["pairs"] = {
            name: metrics_of_pairs(found, data, "test") for name, found in curves.items()
        }
    report["compute"] = costs(cfg, data, teacher, student, device)
    if len(curves) == 2:
        report["test"]["agreement"] = compute_agreement(
            curves["student"].logits,
            curves["teacher"].logits,
            data.task,
            student_threshold=report["threshold"]["student"],
            teacher_threshold=report["threshold"]["teacher"],
        )
    if data.task.kind == "regression" and (source := getattr(data, "source", None)) is not None:
        paths = [clip.path for clips in data.splits.values() for clip in clips]
        alike = getattr(source, "files_are_alike", False)
        notes = reading_notes(paths, data.inputs, alike=alike)
        report["notes"] = [*report.get("notes", []), *notes]
    return report, curves, held


def score_alone(data: Any, model: nn.Module, device: torch.device) -> dict[str, float]:
    """The test metrics of one more model of public batches, at its own validation threshold."""
    model.eval()
    _, test, threshold = _tested(lambda batch: model(batch.public()), data, device)
    return metrics_of(test, data.task, threshold)


def _tested(
    model: Callable[[Any], Any], data: Any, device: torch.device
) -> tuple[Predictions, Predictions, Threshold]:
    """What a model says of validation and test clips, and the threshold that the first choose."""
    val = collect(model, data.val_dataloader(), device=device)
    test = collect(model, data.test_dataloader(), device=device)
    threshold = choose_threshold(val.logits, val.labels, data.task, label_mask=val.label_mask)
    return val, test, threshold


def _operating_point(val: Predictions, test: Predictions, precision: float) -> dict[str, Any]:
    """The calibrated score and its threshold; or a note that says why there is none."""
    try:
        point = choose_operating_point(val.logits, val.labels, precision, label_mask=val.label_mask)
    except ValueError as error:
        return {"notes": [f"no threshold is kept for at_precision={precision}: {error}"]}
    if point.threshold <= 1:
        point = point.tested(test.logits, test.labels, test.label_mask)
        notes = {} if point.doubt is None else {"notes": [point.doubt]}
        return {"operating_point": point.to_dict(), **notes}
    note = (
        f"no threshold of the student had a precision of {precision:.0%} on the {point.n} labelled "
        "validation examples, so predict will call nothing a 1; lower at_precision or train longer"
    )
    return {"operating_point": point.to_dict(), "notes": [note]}


def _score_calibration(val: Predictions, test: Predictions, data: Any) -> dict[str, Any]:
    """How scores are shown, and how that fits test clips; or a note why they get no unit."""
    task: TaskSpec = data.task
    if task.label_range is None:
        note = (
            "the student's scores get no unit, interval or word, because the data state no range "
            "of scores; give the lowest and the highest possible one, for instance "
            "data.label_range=[0,100]"
        )
        return {"notes": [note]}
    logits, labels = checked(val.logits, val.labels, task, val.label_mask)
    try:
        made = calibrate_scores(logits.numpy(), labels.numpy(), task.label_range)
    except ValueError as error:
        return {"notes": [f"the student's scores get no unit: {error}"]}
    found: dict[str, Any] = {"score_calibration": made.to_dict()}
    logits, labels = checked(test.logits, test.labels, task, test.label_mask)
    if len(labels):
        found["calibrated_scores"] = made.on(logits.numpy(), labels.numpy())
    if note := getattr(getattr(data, "source", None), "labels_note", None):
        found["notes"] = [note]
    return found


def metrics_of(predictions: Predictions, task: TaskSpec, threshold: Any) -> dict[str, float]:
    """The task's metrics of some predictions."""
    return compute_metrics(
        predictions.logits,
        predictions.labels,
        task,
        label_mask=predictions.label_mask,
        threshold=threshold,
    )


def vqa_protocol(found: Predictions, data: Any, split: str, count: int) -> dict[str, Any]:
    """A fixed model's scores over subsets of a split's contents, and within each content.

    Clips without a group are contents of their own. The two parts are `subsets`, each metric's
    median and 95 % range, and `contents`, metrics of contents of at least three clips; where there
    are none, `contents_note` says so.
    """
    groups = {clip.id: clip.group or f"clip {clip.id}" for clip in data.splits[split]}
    scores, labels = checked(found.logits, found.labels, data.task, found.label_mask)
    mask = [True] * len(found.ids) if found.label_mask is None else found.label_mask.tolist()
    named = [groups[name] for name, counts in zip(found.ids, mask, strict=True) if counts]
    columns = scores.numpy(), labels.numpy()
    spread = metrics_over_subsets(*columns, named, count, label_range=data.task.label_range)
    result: dict[str, Any] = {
        "subsets": {name: dataclasses.asdict(value) for name, value in spread.items()},
        "contents": metrics_by_group(*columns, named),
    }
    if not result["contents"]:
        result["contents_note"] = (
            f"no content has numbers of its own: of {len(set(named))} contents none has {LEAST} "
            "labelled clips or more in this split"
        )
    return result


def vqa_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """What to print of `protocol=vqa`."""
    for name, found in result.get("vqa", {}).items():
        yield f"{name}: median [95 % range] over resampled subsets of whole contents, model fixed"
        for key in ("srcc", "plcc", "krcc", "rmse"):
            spread = Spread(**found["subsets"][key])
            yield f"  {key.upper():<5} {spread.line()}  ({spread.n} subsets)"
        fit = Spread(**found["subsets"]["logistic_fit"])
        if failed := round((1 - fit.mean) * fit.n):
            yield (
                f"  PLCC and RMSE leave out {failed} of {fit.n} subsets, in which the logistic was "
                "not fitted"
            )
        if note := found.get("contents_note"):
            yield f"  {note}"
    if result.get("vqa"):
        yield (
            "for splits that are also trained on anew, as the field reports them, run "
            "`python -m coefvq.compare` with recipes=[…] seeds=10 metric=srcc"
        )


def undefined_notes_of(curves: dict[str, Predictions], task: TaskSpec) -> list[str]:
    """Why a metric of the test split may have no value."""
    first = next(iter(curves.values()))
    notes = undefined_notes(first.labels, task, label_mask=first.label_mask)
    for name, found in curves.items():
        said = fit_notes(found.logits, found.labels, task, label_mask=found.label_mask)
        notes += [f"{name}: {note}" for note in said]
    return notes


def metrics_of_pairs(found: Predictions, data: Any, split: str) -> dict[str, Any]:
    """Recall at precisions and by kind of change, of a split's predictions."""
    dataset = data.whole_split(split)
    return pair_metrics(
        found.logits,
        found.labels,
        dataset.sub_labels,
        data.sub_labels,
        label_mask=found.label_mask,
        sub_label_mask=dataset.sub_label_mask,
    )


__all__ = [
    "metrics_of",
    "metrics_of_pairs",
    "score",
    "undefined_notes_of",
    "vqa_lines",
    "vqa_protocol",
]
