"""One run, start to end: data, teacher, student, test, report, export."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console

from coefvq import config, engine, loggers
from coefvq.clip_features import clip_features, use_clip_features
from coefvq.data.seen_clips import remember_training
from coefvq.distiller import Distiller
from coefvq.evaluation.cascade_page import cascade_table
from coefvq.evaluation.collect import Predictions
from coefvq.evaluation.plots import write_plots
from coefvq.evaluation.remarks import remarks
from coefvq.evaluation.report import terminal_table, write_report
from coefvq.objective import Objective
from coefvq.prepare import prepared_data
from coefvq.runs import RunFolder, forgotten_if_unused, open_run, rank, run_command
from coefvq.schedules import read_schedules
from coefvq.scoring import score, score_alone, undefined_notes_of
from coefvq.serving.fit_folder import SETTINGS, check_labels, fit_and_save, fit_words
from coefvq.student_start import check_student, first_stage, start_student
from coefvq.teacher_supply.memory import estimate_memory
from coefvq.teacher_supply.opening import open_teacher
from coefvq.teacher_supply.outputs import TeacherSupply
from coefvq.teacher_supply.words import check_teacher_words
from coefvq.versions import versions

console = Console(stderr=True, highlight=False)


class Stopwatch:
    """Seconds by phase, for the report."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Time what happens inside and add it to the phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start


def run(cfg: DictConfig, *, show: bool = True) -> dict[str, Any] | None:
    """Do everything that the config says and return the report.

    Args:
        cfg: a composed config of `conf/train.yaml`.
        show: print what is being done, and the table at the end.

    Returns:
        The report's dict as in `report.json`; None in a process that was launched beside the
        first one.

    Raises:
        ValueError: for whatever a user can mend, in one sentence.
    """
    engine.quiet()
    config.validate(cfg)
    check_teacher_words(cfg)
    engine.check_launch(cfg)
    folder = open_run(cfg.run_dir, config.written(cfg), cfg.resume)
    with open_dict(cfg):
        cfg.run_dir = str(folder.path)
    with forgotten_if_unused(folder):
        report = _run(cfg, folder, console.print if show and rank() == 0 else _silent)
    if show and report is not None:
        Console().print(terminal_table(report))
        if "cascade" in report:
            Console().print(cascade_table(report["cascade"]))
    return report


def _run(cfg: DictConfig, folder: RunFolder, say: Callable[..., None]) -> dict[str, Any] | None:
    watch = Stopwatch()
    say(f"run      {os.path.relpath(folder.path)}", soft_wrap=True)
    with watch("data"):
        say(f"data     {config.data_words(cfg)}")
        started = None if cfg.start == "labels" else cfg.start
        data = prepared_data(cfg, started or cfg.teacher.checkpoint)
    # Refused before minutes are spent on a teacher.
    objective = make_objective(cfg)
    if "student" in cfg.phases and cfg.teacher.kind == "model" and cfg.teacher.model is None:
        objective.check_without_teacher()
    if cfg.cascade.gate is not None:
        words = fit_words(OmegaConf.masked_copy(cfg.cascade, SETTINGS), data.task.kind)
        check_labels(words, data.whole_split("val").clips)
    if "student" in cfg.phases:
        check_student(cfg, data, objective)
    with watch("teacher"):
        teacher = open_teacher(cfg, data, say)
    chosen = engine.build(cfg.logger) if cfg.logger is not None else None
    with loggers.opened(chosen, folder.path, folder.checkpoint) as outlets:
        for logger in outlets:
            logger.log_hyperparams(config.plain(cfg))
        student, device, step = None, torch.device("cpu"), 0
        if "student" in cfg.phases:
            with watch("student"):
                student, device, step = train_student(cfg, data, teacher, folder, outlets, say)
        if rank() > 0:
            return None
        with watch("test"):
            report, curves, held = score(cfg, data, teacher, student, device)
            if student is not None and (first := first_stage(cfg, data)) is not None:
                with clip_features(cfg, data, first):
                    report["test"]["first_stage"] = score_alone(data, first.to(device), device)
        if student is not None:
            export_student(student, data, folder, report, started)
        if student is not None and teacher is not None and cfg.cascade.gate is not None:
            with watch("cascade"):
                try:
                    found = add_cascade(cfg, folder, data, teacher, held, curves, device)
                except ValueError as error:  # these clips don't allow it; the models stay
                    report["notes"] = [*report.get("notes", []), f"no cascade was fitted: {error}"]
                    say(f"cascade  none: {error}", soft_wrap=True)
                else:
                    report["cascade"] = found
        with watch("report"):
            pictures = write_plots(
                folder.plots,
                task=data.task,
                predictions=curves,
                metrics_csv=folder.path / "logs" / "metrics.csv",
                thresholds=report["threshold"],
            )
            loggers.log_report(outlets, report, pictures, step)
    report["plots"] = [str(Path(p).relative_to(folder.path)) for p in pictures]
    _finish(cfg, folder, data, teacher, report, curves, watch)
    return report


def make_objective(cfg: DictConfig) -> Objective:
    """The terms, weights and schedules of `cfg.objective`.

    Raises:
        ValueError: if a loss refuses its arguments, or the objective a schedule.
    """
    terms = engine.build(cfg.objective.terms)
    words = config.plain(cfg.objective)
    return Objective(terms, words["weights"], read_schedules(words.get("schedules") or {}))


def train_student(
    cfg: DictConfig,
    data: Any,
    teacher: TeacherSupply | None,
    folder: RunFolder,
    outlets: list[Logger],
    say: Callable[..., None],
) -> tuple[torch.nn.Module, torch.device, int]:
    """Train the student and return it with the device that it is on and the steps it took."""
    student = start_student(cfg, data, say)
    use_clip_features(cfg, data, student, say)
    fill_widths(cfg, data, student, teacher)
    distiller = Distiller(
        student,
        make_objective(cfg),
        None if teacher is None else teacher.ask,
        task=data.task,
        optimizer=engine.build(cfg.optimizer),
        scheduler=engine.build(cfg.scheduler),
    )
    trainer = engine.make_trainer(cfg, folder.path, logger=outlets, label=f"student {cfg.name}")
    if teacher is not None and teacher.live:
        estimate = estimate_memory(
            student,
            teacher.live,
            next(iter(data.train_dataloader())),
            device=engine.device_of(trainer),
            precision=str(trainer.precision),
        )
        say(f"memory   {estimate.sentence()}", soft_wrap=True)
        estimate.check_fits()
    engine.fit(
        trainer, distiller, data.train_dataloader(), data.val_dataloader(), folder.checkpoint
    )
    device = engine.device_of(trainer)
    return student.to(device).eval(), device, trainer.global_step


def fill_widths(cfg: DictConfig, data: Any, student: Any, teacher: TeacherSupply | None) -> None:
    """Write the widths of both sides' features into `cfg.runtime`, for losses that project."""
    cfg.runtime.student_width = getattr(student, "features_width", None)
    if teacher is not None:
        features = teacher.ask(next(iter(data.val_dataloader()))).features
        cfg.runtime.teacher_width = None if features is None else features.shape[-1]


def export_student(
    student: torch.nn.Module,
    data: Any,
    folder: RunFolder,
    report: dict[str, Any],
    started: str | None = None,
) -> None:
    """Write all that serving needs: weights, config, tokenizer, reading, task, threshold.

    And which clips it was trained on, those of the folder that it may have started from included.
    """
    student.cpu().save_pretrained(
        folder.student,
        tokenizer=data.tokenizer,
        metadata={
            "task": data.task.to_dict(),
            "inputs": data.inputs.to_dict(),
            "threshold": report["threshold"]["student"],
            "operating_point": report.get("operating_point"),
            "score_calibration": report.get("score_calibration"),
        },
        overwrite=True,
    )
    only = data.train_on == "labelled"
    remember_training(folder.student, data, labelled=only, started_from=started)


def add_cascade(
    cfg: DictConfig,
    folder: RunFolder,
    data: Any,
    teacher: TeacherSupply,
    val: dict[str, Predictions],
    test: dict[str, Predictions],
    device: torch.device,
) -> dict[str, Any]:
    """Fit the cascade of the run's student and teacher, and measure it."""
    assert teacher.folder is not None
    pairs = ((found["student"], found["teacher"]) for found in (val, test))
    return fit_and_save(
        folder.cascade, cfg.cascade, (folder.student, teacher.folder), *pairs, data,
        overwrite=True, device=device,
    )  # fmt: skip


def _finish(
    cfg: DictConfig,
    folder: RunFolder,
    data: Any,
    teacher: TeacherSupply | None,
    report: dict[str, Any],
    curves: dict[str, Predictions],
    watch: Stopwatch,
) -> None:
    description = data.describe()
    report |= {
        "recipe": cfg.name,
        "task": data.task.name,
        "task_kind": data.task.kind,
        "seed": cfg.seed,
        "notes": [
            *report.get("notes", []),
            *undefined_notes_of(curves, data.task),
            *remarks(report),
        ],
        "data": description,
        "reads_privileged": cfg.teacher.get("inputs") != "public",
        "skipped_clips": description.pop("skipped"),
        "data_fingerprint": data.fingerprint,
        "test_fingerprint": next((c.clips_fingerprint for c in curves.values()), None),
        "teacher_name": None if teacher is None else teacher.name,
        "teacher_fingerprint": None if teacher is None else teacher.fingerprint,
        "teacher_calibration": None
        if teacher is None or teacher.calibration is None
        else teacher.calibration.to_dict(),
        "versions": versions(),
        "command": run_command(),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "paths": {
            "report": str(folder.path / "report.md"),
            "checkpoint": str(folder.checkpoint) if folder.checkpoint.exists() else None,
            "student": str(folder.student) if folder.student.exists() else None,
            "cascade": str(folder.cascade) if "cascade" in report else None,
            "teacher": None if teacher is None or teacher.folder is None else str(teacher.folder),
            "cache": None
            if teacher is None or teacher.cache is None
            else str(teacher.cache.folder),
        },
    }
    report["seconds"] = {k: round(v, 2) for k, v in watch.seconds.items()}
    write_report(folder.path, report)


def _silent(*words: Any, **options: Any) -> None:
    """Print nothing: a run among others in a comparison, or a process beside the first."""
