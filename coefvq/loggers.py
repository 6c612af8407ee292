"""What a run tells its loggers: settings first, test metrics, a table and pictures in the end.

Metrics during training are Lightning's business. Every run also keeps `logs/metrics.csv`, whatever
logger is chosen: its loss picture is drawn from it.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from coefvq.runs import rank


@contextmanager
def opened(chosen: Logger | None, folder: Path, checkpoint: Path) -> Iterator[list[Logger]]:
    """Give the loggers of a run, and end them with it.

    A W&B run ends here, also when the run fails: the next one of a sweep in the same process
    would otherwise write into it.

    Args:
        chosen: the logger of the config; None: the CSV file alone.
        folder: the run's folder.
        checkpoint: where a run that goes on left its last checkpoint.

    Raises:
        ValueError: W&B has no login here and was not told to stay offline.
    """
    loggers: list[Logger] = [] if chosen is None else [chosen]
    if not isinstance(chosen, CSVLogger):
        loggers.append(CSVLogger(folder, name="logs", version="", flush_logs_every_n_steps=1))
    keep_rows(loggers[-1], checkpoint)
    if isinstance(chosen, WandbLogger) and chosen._wandb_init.get("anonymous") is None:
        chosen._wandb_init.pop("anonymous", None)  # passed on as None, it makes W&B warn
    failed = True
    _log_in(chosen)
    try:
        yield loggers
        failed = False
    finally:
        for logger in loggers:
            # One that was never used is not opened only to be closed.
            if isinstance(logger, WandbLogger) and logger._experiment is not None:
                logger.experiment.finish(exit_code=int(failed))


def _log_in(chosen: Logger | None) -> None:
    """Open W&B now: later, its own error would come with a traceback."""
    if rank() > 0 or not isinstance(chosen, WandbLogger):
        return
    from wandb.errors import UsageError

    try:
        _ = chosen.experiment
    except UsageError as error:
        raise ValueError(
            f"logger=wandb cannot start ({str(error).strip().splitlines()[0].rstrip('.')}); log in "
            "with wandb login, or stay offline with WANDB_MODE=offline or logger.offline=true"
        ) from error


def keep_rows(logger: Logger, checkpoint: Path) -> None:
    """Keep the rows up to the checkpoint: Lightning's CSV logger empties the file it finds."""
    assert isinstance(logger, CSVLogger)
    path = Path(logger.log_dir) / "metrics.csv"
    if rank() > 0 or not path.exists() or not checkpoint.exists():
        return
    state = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    with path.open(newline="", encoding="utf-8") as file:
        lines = [{k: v for k, v in line.items() if v} for line in csv.DictReader(file)]
    writer = logger.experiment  # the file is emptied here
    writer.metrics.extend(line for line in lines if int(line["step"]) < state["global_step"])
    writer.save()


def log_report(
    loggers: Sequence[Logger],
    report: Mapping[str, Any],
    pictures: Sequence[Path],
    step: int,
) -> None:
    """Log the test metrics, `test/<metric>` of the student and `teacher/test/<metric>`.

    And the same of the validation clips, `val/<metric>`: what a sweep may choose by. W&B also gets
    a table of the test metrics and the pictures, TensorBoard the pictures.

    Args:
        loggers: of the run.
        report: its parts `test` and `validation` are read.
        pictures: PNG files.
        step: of the last optimizer step.
    """
    scalars = report_scalars(report["test"]) | pair_scalars(report.get("pairs", {}))
    scalars |= report_scalars(report.get("validation", {}), split="val")
    for logger in loggers:
        logger.log_metrics(scalars, step=step)
        if isinstance(logger, WandbLogger):
            columns, rows = report_table(report["test"])
            logger.log_table("test/metrics", columns=columns, data=rows, step=step)
            for path in pictures:
                logger.log_image(f"plots/{path.stem}", [str(path)], step=step)
        elif isinstance(logger, TensorBoardLogger):
            from matplotlib.image import imread

            for path in pictures:
                logger.experiment.add_image(
                    f"plots/{path.stem}", imread(path)[..., :3], step, dataformats="HWC"
                )
        logger.finalize("success")


def report_scalars(test: Mapping[str, Any], split: str = "test") -> dict[str, float]:
    """Name the numbers of a split that exist the way they are logged.

    >>> report_scalars({"student": {"f1": 0.5}, "teacher": {"f1": 0.75, "ece": float("nan")}})
    {'test/f1': 0.5, 'teacher/test/f1': 0.75}
    """
    prefixes = {name: f"{name}/{split}" for name in ("teacher", "agreement")} | {"student": split}
    return {
        f"{prefixes[model]}/{name}": float(value)
        for model, values in test.items()
        if model in prefixes
        for name, value in values.items()
        if isinstance(value, (int, float)) and math.isfinite(value)
    }


def pair_scalars(pairs: Mapping[str, Any]) -> dict[str, float]:
    """Name what a report says of pairs beyond the metrics of any task.

    >>> kinds = {"flip": {"n": 3, "average_precision": 0.5, "recall_at_precision_80": 0.25}}
    >>> found = {"recall_at_precision": {"90": 0.75}, "by_sub_label": kinds}
    >>> pair_scalars({"student": found})["test/recall_at_precision_90"]
    0.75
    >>> pair_scalars({"teacher": found})["teacher/test/flip/average_precision"]
    0.5
    """
    prefixes = {"student": "test", "teacher": "teacher/test"}
    values = {
        f"{prefixes[model]}/{name}": value
        for model, found in pairs.items()
        for name, value in [
            *((f"recall_at_precision_{p}", v) for p, v in found["recall_at_precision"].items()),
            *((f"{kind}/{k}", v) for kind, own in found["by_sub_label"].items()
              for k, v in own.items() if k not in ("n", "chance")),
        ]
    }  # fmt: skip
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


def report_table(test: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Lay out metrics by model: column names, and one row per metric.

    >>> report_table({"student": {"f1": 0.5}, "teacher": {"f1": 0.75}, "agreement": {"kappa": 0.9}})
    (['metric', 'student', 'teacher'], [['f1', 0.5, 0.75]])
    """
    models = [name for name in ("student", "teacher") if name in test]
    names = dict.fromkeys(name for model in models for name in test[model])
    rows = [[name, *(_number(test[model].get(name)) for model in models)] for name in names]
    return ["metric", *models], rows


def _number(value: Any) -> float | None:
    good = isinstance(value, (int, float)) and math.isfinite(value)
    return float(value) if good else None


__all__ = ["keep_rows", "log_report", "opened", "pair_scalars", "report_scalars", "report_table"]
