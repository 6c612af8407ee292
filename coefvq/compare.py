"""`python -m coefvq.compare`: run or reuse recipe × task × seed, and write one table."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from coefvq import config, launch
from coefvq.data.processes import start_worker
from coefvq.runs import RunFolder, differing_keys, made_by
from coefvq.teacher_supply.words import check_teacher_words


@dataclass(frozen=True)
class Job:
    """One run of the comparison.

    Args:
        label: what its row is called: the recipe with its own overrides.
        task: a `data.task` word, or None for the data's own.
        seed: the run's seed.
        overrides: everything that follows `python -m coefvq.train`.
        folder: its run folder.
    """

    label: str
    task: str | None
    seed: int
    overrides: tuple[str, ...]
    folder: Path


def plan(cfg: DictConfig) -> list[Job]:
    """All runs, ordered so that runs which share data and teacher follow each other.

    Raises:
        ValueError: for an unknown recipe, no seed, or a recipe named twice.
    """
    recipes, tasks, seeds = list(cfg.recipes), list(cfg.tasks or [None]), cfg.seeds
    seeds = list(seeds) if isinstance(seeds, (list, ListConfig)) else list(range(1, seeds + 1))
    if not seeds or not recipes:
        raise ValueError("a comparison needs at least one recipe and one seed")
    if len(set(recipes)) < len(recipes):
        raise ValueError(f"recipes names one twice: {recipes}")
    common = [str(word) for word in cfg.overrides]
    jobs = []
    for task in tasks:
        for seed in seeds:
            for label in recipes:
                recipe, *own = str(label).split()
                config.check_command_line([f"+recipe={recipe}"])
                place = f"{task or 'seed'}-{seed}"
                folder = Path(cfg.out).absolute() / "runs" / _slug(label) / place
                words = [f"+recipe={recipe}", *common, *own, f"seed={seed}"]
                words += [f"data.task={task}"] if task else []
                jobs.append(Job(str(label), task, seed, tuple(words), folder))
    return jobs


def _slug(label: str) -> str:
    """A folder name: the words themselves, and a hash where they had to be cut."""
    name = "".join(c if c.isalnum() or c in "._=-" else "_" for c in label)
    if len(name) <= 80:
        return name
    return name[:60] + "-" + hashlib.sha256(label.encode()).hexdigest()[:8]


def compose(job: Job) -> DictConfig:
    """The run's config, as `coefvq.train` would compose it."""
    config.register_recipes()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(config.folder("conf")), version_base="1.3"):
        # Many runs at a time: their bars would only overwrite each other.
        words = [*job.overrides, "resume=true", "~callbacks.progress"]
        cfg = hydra.compose("train", overrides=[*words, "+trainer.enable_progress_bar=false"])
    cfg.run_dir = str(job.folder)  # not an override: a folder's name may hold an equals sign
    return cfg


def refuse_other_settings(job: Job, cfg: DictConfig) -> None:
    """Check that a finished run is the one that is asked for.

    Raises:
        ValueError: naming what differs.
    """
    stored = yaml.safe_load(RunFolder(job.folder).config.read_text(encoding="utf-8"))
    changed = differing_keys(stored, config.written(cfg))
    if changed:
        raise ValueError(
            f"{job.folder} was run with other settings ({'; '.join(changed[:4])}); choose "
            "another out="
        )


def run_job(job: Job) -> dict[str, Any]:
    """Run one job, or read its report if it has been run with these very settings.

    Raises:
        ValueError: if the folder holds a run with other settings.
    """
    cfg, folder = compose(job), RunFolder(job.folder)
    if cfg.trainer.get("devices", 1) not in (1, "1"):
        raise ValueError(
            f"compare gives each run one process, but trainer.devices={cfg.trainer.devices}; "
            "set trainer.devices=1, and jobs= for runs at a time"
        )
    if folder.report.exists():
        refuse_other_settings(job, cfg)
        report: dict[str, Any] = json.loads(folder.report.read_text(encoding="utf-8"))
    else:
        from coefvq import pipeline

        with made_by(job.overrides):
            report = pipeline.run(cfg, show=False) or {}
    return report | {"label": job.label}


def _run_group(jobs: Sequence[Job], threads: int | None) -> list[tuple[Job, dict | None, str]]:
    """Run jobs one after the other; a job that fails is named, and the others go on."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    done: list[tuple[Job, dict | None, str]] = []
    for job in jobs:
        try:
            done.append((job, run_job(job), ""))
        except ValueError as error:
            done.append((job, None, str(error)))
        except Exception as error:
            done.append((job, None, f"{type(error).__name__}: {error}"))
    return done


def compare(cfg: DictConfig) -> tuple[list[dict[str, Any]], list[tuple[Job, str]]]:
    """Run everything, write `table.md`, `table.csv` and `table.json` into `cfg.out`.

    Runs that fitted a cascade also give `cascades.md` and `cascades.csv`: every budget over seeds,
    and `calibrators.md` and `calibrators.csv`: every calibrator at the cascade's budget.

    Returns:
        The reports, each with its `label`, and the runs that failed with the reason.

    Raises:
        ValueError: if a row makes no config, or no run succeeded.
    """
    from coefvq.cascade.ablation_table import ablation_table
    from coefvq.evaluation.budget_table import budget_table
    from coefvq.evaluation.earlier_table import set_aside
    from coefvq.evaluation.metrics import OF_CLASSES
    from coefvq.evaluation.quality import OF_SCORES
    from coefvq.evaluation.table import comparison_table

    if not isinstance(cfg.jobs, int) or cfg.jobs < 1:
        raise ValueError(f"jobs is a number of runs at a time, at least 1, got {cfg.jobs!r}")
    if cfg.get("metric") not in (None, *OF_CLASSES, *OF_SCORES):
        known = ", ".join((*OF_CLASSES, *OF_SCORES))
        raise ValueError(f"metric={cfg.metric} is unknown; choose one of {known}")
    jobs = plan(cfg)
    for job in {job.label: job for job in reversed(jobs)}.values():
        _check(job)
    for job in jobs:
        if RunFolder(job.folder).report.exists():
            refuse_other_settings(job, compose(job))
    reports, failures = _run_all(jobs, cfg.jobs)
    if not reports:
        raise ValueError("none of the runs succeeded; the reasons stand above")
    metric = cfg.get("metric")
    known = sorted({name for report in reports for name in report["test"].get("student", {})})
    if metric is not None and metric not in known:
        raise ValueError(f"metric={metric} is not in the reports; choose one of {', '.join(known)}")
    table = comparison_table(
        reports,
        baseline=cfg.baseline,
        teacher=cfg.teacher,
        metric=metric,
        labels=list(dict.fromkeys(job.label for job in jobs)),
        seeds=list(dict.fromkeys(job.seed for job in jobs)),
        tasks=list(cfg.tasks) if cfg.tasks else None,
    )
    if kept := set_aside(Path(cfg.out), table):
        print(f"{kept} holds the table of another comparison that was here")
    table.write(Path(cfg.out))
    Console().print(table.to_markdown(), markup=False)
    written = [Path(cfg.out) / "table.md", "table.csv", "table.json"]
    if cascades := budget_table(reports):
        written += [path.name for path in cascades.write(cfg.out)]
        Console().print(cascades.to_markdown(), markup=False)
    if calibrators := ablation_table(reports):
        written += [path.name for path in calibrators.write(cfg.out)]
        Console().print(calibrators.to_markdown(), markup=False)
    print(f"written: {', '.join(map(str, written))}")
    return reports, failures


def _check(job: Job) -> None:
    """Compose a row once before hours are spent on the others."""
    try:
        cfg = compose(job)
        config.validate(cfg)
        config.check_words_are_read(cfg, job.overrides)
        check_teacher_words(cfg)
    except HydraException as error:
        raise ValueError(f"row {job.label!r}: {launch.sentence_of(error)}") from None


def _run_all(jobs: list[Job], workers: int) -> tuple[list[dict], list[tuple[Job, str]]]:
    groups: dict[tuple[str | None, int], list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.task, job.seed), []).append(job)
    reports: dict[Job, dict] = {}
    failures: list[tuple[Job, str]] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
        bar = progress.add_task("runs", total=len(jobs))

        def take(results: list[tuple[Job, dict | None, str]]) -> None:
            for job, report, reason in results:
                progress.advance(bar)
                if report is not None:
                    reports[job] = report
                    continue
                failures.append((job, reason))
                where = f"{job.label}, {job.task or 'its task'}, seed {job.seed}"
                progress.console.print(f"failed: {where}: {reason}", markup=False, soft_wrap=True)

        if workers == 1:
            for job in jobs:
                progress.update(bar, description=f"{job.label} {job.task or ''} seed {job.seed}")
                take(_run_group([job], None))
        else:
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(workers, mp_context=context, initializer=start_worker) as pool:
                futures = {pool.submit(_run_group, g, 1): g for g in groups.values()}
                try:
                    for future in as_completed(futures):
                        take(_result(future, futures[future]))
                except KeyboardInterrupt:
                    pool.shutdown(wait=False, cancel_futures=True)
                    for worker in multiprocessing.active_children():
                        worker.kill()  # whatever it was at goes on from its last epoch next time
                    raise
    # In the order of the plan, so that the table does not depend on who was first.
    return [reports[job] for job in jobs if job in reports], failures


def _result(future: Future, group: Sequence[Job]) -> list[tuple[Job, dict | None, str]]:
    try:
        return future.result()
    except BrokenProcessPool:
        return [(job, None, "its process was killed; start again to go on") for job in group]


@hydra.main(version_base="1.3", config_path=str(config.folder("conf")), config_name="compare")
def _main(cfg: DictConfig) -> None:
    cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    with launch.one_sentence():
        try:
            _, failures = compare(cfg)
        except KeyboardInterrupt:
            print("\ncoefvq: stopped; the same command goes on where it was", file=sys.stderr)
            raise SystemExit(130) from None
    if failures:
        print(f"{len(failures)} runs failed; the reasons stand above", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    launch.start(_main)
