"""Pictures of a run, as PNG: losses, precision–recall, reliability, confidence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_average_precision,
    binary_precision_recall_curve,
)

from coefvq.evaluation.calibration import confidence_and_outcome, reliability_bins
from coefvq.evaluation.collect import Predictions
from coefvq.evaluation.figures import (
    COLOURS,
    GREY,
    RIGHT,
    WRONG,
    dress,
    empty_figure,
    legend,
    one_axes,
)
from coefvq.evaluation.loss_curves import loss_figure, read_history
from coefvq.evaluation.scores import checked, decisions, one_against_rest, probabilities
from coefvq.types import TaskSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_plots(
    folder: str | Path,
    *,
    task: TaskSpec,
    predictions: Mapping[str, Predictions],
    metrics_csv: str | Path | None = None,
    thresholds: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Draw what there is to draw, as PNG.

    Args:
        folder: where to; made if missing.
        task: what the logits mean.
        predictions: of the test split by model: `"teacher"`, `"student"`, or one of them.
        metrics_csv: what Lightning's CSV logger wrote; None or a missing file: no loss picture.
        thresholds: the threshold of each model, marked on a binary precision–recall curve.

    Returns:
        The files: `losses.png`; `precision_recall.png`, `reliability.png` and `confidence.png`, or
        `scores.png` for a regression. A picture without labelled clips is left out.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Figure] = {}
    rows = read_history(metrics_csv) if metrics_csv is not None else []
    if any(row["name"].startswith("train/loss") for row in rows):
        figures["losses"] = loss_figure(rows)
    models = {
        name: checked(p.logits, p.labels, task, p.label_mask)
        for name, p in predictions.items()
        if p.labels is not None
    }
    models = {name: pair for name, pair in models.items() if len(pair[1])}
    if models and task.kind == "regression":
        figures["scores"] = score_figure(models, task)
    elif models:
        figures["precision_recall"] = precision_recall_figure(models, task, thresholds or {})
        figures["reliability"] = reliability_figure(models, task)
        name = "teacher" if "teacher" in models else next(iter(models))
        figures["confidence"] = confidence_figure(name, *models[name], task)
    written = []
    for name, figure in figures.items():
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=130, facecolor="white")
        written.append(path)
    return written


def precision_recall_figure(
    models: Mapping[str, tuple[Tensor, Tensor]], task: TaskSpec, thresholds: Mapping[str, Any]
) -> Figure:
    """Draw one curve per model; several classes or labels are pooled (micro-average).

    Args:
        models: checked logits and labels by name.
        task: what they mean.
        thresholds: marked with a dot on a binary curve.
    """
    pooled = "" if task.kind == "binary" else f", micro-average of {task.num_outputs} classes"
    question = f": {task.classes[1]!r}" if task.kind == "binary" else ""
    figure, axes = one_axes(
        f"Precision and recall on {task.name}{question}{pooled}", "recall", "precision"
    )
    for name, (logits, labels) in models.items():
        columns = one_against_rest(probabilities(logits, task), labels, task)
        probability = torch.cat([p for _, p, _ in columns])
        truth = torch.cat([t for _, _, t in columns])
        if not truth.any():
            continue
        precision, recall, _ = binary_precision_recall_curve(probability, truth.long())
        area = float(binary_average_precision(probability, truth.long()))
        colour = COLOURS.get(name, GREY)
        axes.step(recall, precision, where="post", color=colour, linewidth=1.8)
        axes.plot(
            [], [], color=colour, linewidth=1.8, label=f"{name}, average precision {area:.3f}"
        )
        if task.kind == "binary" and thresholds.get(name) is not None:
            decided = decisions(probability, task, thresholds[name]).bool()
            hits = (decided & truth).sum().item()
            if hits:
                at = (hits / truth.sum().item(), hits / decided.sum().item())
                axes.plot(*at, "o", color=colour, markersize=8, markeredgecolor="white")
                label = f"{name} at its threshold {float(thresholds[name]):.2f}"
                axes.plot([], [], "o", color=colour, markersize=7, label=label)
        share = truth.double().mean().item()
    if axes.lines:
        axes.axhline(share, color=GREY, linestyle=":", linewidth=1.2, label=f"chance, {share:.3f}")
        axes.axhline(0.8, color=GREY, linestyle="--", linewidth=0.8, label="80 % precision")
    axes.set(xlim=(0, 1), ylim=(0, 1.03))
    legend(axes)
    return figure


def reliability_figure(models: Mapping[str, tuple[Tensor, Tensor]], task: TaskSpec) -> Figure:
    """Draw what came against what was promised, and below how often it was promised.

    Args:
        models: checked logits and labels by name.
        task: what they mean.
    """
    promise, came = {
        "binary": (f"predicted probability of {task.classes[1]!r}", "share that is positive"),
        "multiclass": ("probability of the chosen class", "share that is right"),
        "multilabel": ("predicted probability, all labels pooled", "share that is positive"),
    }[task.kind]
    figure = empty_figure(height=5.6)
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    dress(axes, f"Reliability on {task.name}", "", came)
    dress(counts, "", promise, "clips" if task.kind != "multilabel" else "clips × labels")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1.2, label="perfect")
    for k, (name, (logits, labels)) in enumerate(models.items()):
        bins = reliability_bins(*confidence_and_outcome(logits, labels, task))
        full = [i for i, count in enumerate(bins.counts) if count]
        error = "ECE" if task.kind != "multilabel" else "pooled ECE"
        colour = COLOURS.get(name, GREY)
        x, y = [bins.confidence[i] for i in full], [bins.accuracy[i] for i in full]
        size = [12 + 110 * bins.counts[i] / max(bins.counts) for i in full]
        axes.plot(x, y, color=colour, linewidth=1.4, label=f"{name}, {error} {bins.ece:.3f}")
        axes.scatter(x, y, s=size, color=colour, edgecolor="white", linewidth=0.8, zorder=3)
        width = (bins.edges[1] - bins.edges[0]) * 0.9 / len(models)
        left = [edge + (k + 0.06) * width for edge in bins.edges[:-1]]
        counts.bar(left, bins.counts, width=width, align="edge", color=colour, alpha=0.85)
    axes.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    legend(axes)
    return figure


def confidence_figure(name: str, logits: Tensor, labels: Tensor, task: TaskSpec) -> Figure:
    """Draw how sure a model is where it is right and where it is wrong.

    Args:
        name: the model.
        logits: checked.
        labels: checked.
        task: what they mean.
    """
    probability = probabilities(logits, task)
    right = (decisions(probability, task) == labels).flatten()
    if task.kind == "multiclass":
        confidence, lowest = probability.amax(dim=-1), 1 / task.num_outputs
    else:
        confidence, lowest = torch.maximum(probability, 1 - probability).flatten(), 0.5
    unit = "clips" if task.kind != "multilabel" else "clips × labels"
    figure, axes = one_axes(
        f"Confidence of the {name} on {task.name}",
        "probability of the answer it prefers",
        unit,
    )
    groups = [confidence[right].numpy(), confidence[~right].numpy()]
    accuracy = right.double().mean().item()
    # Not at the threshold of the table: a preferred answer is one of more than a half.
    cut = "" if task.kind == "multiclass" else " at 0.5"
    labels_shown = [f"right{cut} ({accuracy:.1%})", f"wrong{cut} ({1 - accuracy:.1%})"]
    axes.hist(
        groups,
        bins=torch.linspace(lowest, 1, 21).tolist(),
        stacked=True,
        color=[RIGHT, WRONG],
        label=labels_shown,
        edgecolor="white",
        linewidth=0.5,
    )
    axes.set_xlim(lowest, 1)
    legend(axes)
    return figure


def score_figure(models: Mapping[str, tuple[Tensor, Tensor]], task: TaskSpec) -> Figure:
    """Draw predicted scores against labels, in the unit of the label (regression).

    Args:
        models: checked scores and labels by name.
        task: what they mean.
    """
    figure, axes = one_axes(
        f"Scores on {task.name}", "label", "predicted score (unit of the label)"
    )
    for name, (scores, labels) in models.items():
        colour = COLOURS.get(name, GREY)
        axes.scatter(labels, scores, s=14, alpha=0.5, color=colour, linewidth=0, label=name)
    every = torch.cat([labels for _, labels in models.values()])
    ends = [every.min().item(), every.max().item()]
    axes.plot(ends, ends, color=GREY, linestyle=":", linewidth=1.2, label="perfect")
    legend(axes)
    return figure
