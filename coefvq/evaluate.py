"""`python -m coefvq.evaluate run=runs/…`: score a finished run's student and teacher again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hydra
import torch
from omegaconf import DictConfig, OmegaConf

from coefvq import config, launch


def evaluate(
    run: str | Path,
    *,
    split: str = "test",
    overrides: list[str] | None = None,
    protocol: str = "report",
    splits: int = 10,
) -> dict[str, Any]:
    """Score a run's exported student, and its teacher, on one split of its data or of others.

    The threshold is the one the run chose on its validation clips, never chosen again.

    Args:
        run: a finished run's folder.
        split: `"test"` or `"val"`.
        overrides: config overrides such as `data.seed=7`, to score on other data.
        protocol: `"report"`, or `"vqa"` for quality scores: adds `vqa`, medians and 95 % ranges of
            SRCC, PLCC, KRCC and RMSE over resampled subsets of the clips, whole contents each, and
            the same within contents (`coefvq.evaluation.quality_splits`). One model is tested
            again and again. The field trains anew on each of ten content-disjoint splits: that is
            `python -m coefvq.compare recipes=[blind_quality] seeds=10 metric=srcc`, whose seeds
            also split the clips (`data.split_seed`; of a manifest without a column of splits, the
            groups); for a manifest add `-- data=manifest data.train=… data.task=regression`.
        splits: subsets of `protocol="vqa"`, from 1 to 10 000.

    Returns:
        The report's form: `{split: {student: {...}, teacher: {...}, agreement: {...}}, …}`, with
        `notes` where a metric has no value or is of raw scores, a sentence each.

    Texts are read with the student's own tokenizer, and privileged features are brought to the
    scale that the teacher was trained on, whatever data they come from.

    Raises:
        ValueError: if the folder holds no finished run, the split is unknown, `splits` is no number
            of subsets, or the overrides make another task or touch more than the data.
    """
    from coefvq import engine
    from coefvq.evaluation.agreement import compute_agreement
    from coefvq.evaluation.collect import Predictions, collect
    from coefvq.evaluation.quality_splits import check_count
    from coefvq.prepare import prepared_data
    from coefvq.runs import RunFolder
    from coefvq.scoring import metrics_of, metrics_of_pairs, undefined_notes_of, vqa_protocol
    from coefvq.students.load import load_student
    from coefvq.teacher_supply.training import get_teacher
    from coefvq.teachers.calibrated import CalibratedTeacher, Calibration
    from coefvq.teachers.frozen import FrozenTeacher

    folder = RunFolder(Path(run).absolute())
    if not folder.report.exists():
        raise ValueError(f"run={run} has no report.json, so it is not a finished run; give one")
    if split not in ("test", "val"):
        raise ValueError(f"split is test or val, got {split!r}")
    if protocol not in ("report", "vqa"):
        raise ValueError(f"protocol is report or vqa, got {protocol!r}")
    check_count(splits)
    engine.quiet()
    report = json.loads(folder.report.read_text(encoding="utf-8"))
    cfg = OmegaConf.load(folder.config)
    assert isinstance(cfg, DictConfig)
    _apply(cfg, overrides or [])
    # Never a teacher found or trained for these data: the run's own is what is asked about. What
    # was read (a cache, a table), mixed or trained in folds has no model that could answer here.
    asked = _has_a_model(cfg.teacher) and not _gone(report["paths"]["teacher"])
    cfg.teacher.checkpoint = report["paths"]["teacher"] if asked else None
    has_student = folder.student.exists()
    if not has_student and not asked:
        raise ValueError(
            f"run={run} trained {report['teacher_name']} alone, and its folder "
            f"{report['paths']['teacher']} is gone; train it again with another run_dir"
        )
    data = prepared_data(cfg, folder.student if has_student else cfg.teacher.checkpoint)
    stored = report["data"]
    if [stored["kind"], stored["classes"]] != [data.task.kind, list(data.task.classes)]:
        raise ValueError(
            f"run={run} answers task {report['task']!r} ({stored['kind']}, {stored['classes']}), "
            f"but the overrides give {data.task.name!r} ({data.task.kind}, "
            f"{list(data.task.classes)}); give data with the run's own classes"
        )
    if protocol == "vqa" and data.task.kind != "regression":
        raise ValueError(
            f"protocol=vqa is for quality scores, but run={run} answers a {data.task.kind} task; "
            "leave protocol out"
        )
    gpu = cfg.trainer.accelerator not in ("cpu", "mps") and torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    models: dict[str, Any] = {}
    if has_student:
        student = load_student(folder.student).eval().to(device)
        models["student"] = lambda batch: student(batch.public())
    teacher = get_teacher(cfg, data) if asked else None
    if teacher is not None:
        models["teacher"] = FrozenTeacher(teacher.module)
        if fitted := report["teacher_calibration"]:
            models["teacher"] = CalibratedTeacher(models["teacher"], Calibration.from_dict(fitted))
    loader = data.test_dataloader if split == "test" else data.val_dataloader
    result: dict[str, Any] = {"run": str(folder.path), "task": data.task.name, split: {}}
    result["task_kind"] = data.task.kind
    answers: dict[str, Predictions] = {}
    for name, model in models.items():
        found = answers[name] = collect(model, loader(), device=device)
        result[split][name] = metrics_of(found, data.task, report["threshold"][name])
        if hasattr(data, "sub_labels"):
            result.setdefault("pairs", {})[name] = metrics_of_pairs(found, data, split)
        if protocol == "vqa":
            result.setdefault("vqa", {})[name] = vqa_protocol(found, data, split, splits)
    if len(answers) == 2:
        result[split]["agreement"] = compute_agreement(
            answers["student"].logits,
            answers["teacher"].logits,
            data.task,
            student_threshold=report["threshold"]["student"],
            teacher_threshold=report["threshold"]["teacher"],
        )
    if notes := undefined_notes_of(answers, data.task):
        result["notes"] = notes
    result["data_fingerprint"] = data.fingerprint
    return result


def why_no_teacher(run: str | Path) -> str | None:
    """Say why only the student of a run is scored; None where it had no teacher, or it is scored.

    Args:
        run: a finished run's folder.
    """
    from coefvq.runs import RunFolder

    folder = RunFolder(Path(run).absolute())
    teacher = OmegaConf.load(folder.config).teacher
    report = json.loads(folder.report.read_text(encoding="utf-8"))
    if report["teacher_name"] is None:
        return None
    if _has_a_model(teacher):
        path = report["paths"]["teacher"]
        if not _gone(path):
            return None
        return f"only the student is scored: the teacher's folder {path} is gone"
    what = "out-of-fold teachers" if teacher.kind == "model" else f"teacher={teacher.name}"
    return (
        f"only the student is scored: the run learned from {what}, which left no single model that "
        "could answer here; its numbers on the run's own clips are in report.json"
    )


def refuse_other_words(out: Path, asked: dict[str, Any]) -> None:
    """Refuse to write over an evaluation of other words, before anything is computed.

    Args:
        out: the file; one that does not exist, or that does not say its words, passes.
        asked: this evaluation's words.

    Raises:
        ValueError: naming a word that differs.
    """
    stored = _read(out).get("asked") if out.exists() else None
    for name in {} if stored is None else {**stored, **asked}:
        if stored.get(name) != asked.get(name):
            raise ValueError(
                f"{out} exists and holds {name}={stored.get(name)}, and {name}={asked.get(name)} "
                "is asked for; give another name with out="
            )


def _read(out: Path) -> dict[str, Any]:
    try:
        found = json.loads(out.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"out={out} exists and is no evaluation; give another name with out=")
    return found


def _has_a_model(teacher: DictConfig) -> bool:
    return teacher.kind == "model" and teacher.folds is None


def _gone(path: str | None) -> bool:
    return path is not None and not Path(path).exists()


def _apply(cfg: DictConfig, overrides: list[str]) -> None:
    """Change values of the data, and of nothing else."""
    for word in overrides:
        key, equals, _ = word.partition("=")
        known = key == "cache_dir" or (key.startswith("data.") and OmegaConf.is_config(cfg.data))
        if not equals or not known or key.removeprefix("data.") not in {*cfg.data, "cache_dir"}:
            raise ValueError(
                f"overrides change the data of a run, for instance data.seed=7; {word!r} is none "
                f"of data.{', data.'.join(str(k) for k in cfg.data if k != '_target_')}"
            )
    cfg.merge_with_dotlist(overrides)


@hydra.main(version_base="1.3", config_path=str(config.folder("conf")), config_name="evaluate")
def _main(cfg: DictConfig) -> None:
    with launch.one_sentence():
        from rich.console import Console

        from coefvq.evaluation.quality_splits import check_count
        from coefvq.evaluation.report import plain, terminal_table
        from coefvq.files import write_json
        from coefvq.scoring import vqa_lines

        overrides = [str(word) for word in cfg.overrides]
        words = {"split": cfg.split, "protocol": cfg.protocol, "splits": cfg.splits}
        name = f"evaluation-{cfg.split}" + ("" if cfg.protocol == "report" else f"-{cfg.protocol}")
        out = Path(cfg.out or Path(cfg.run) / f"{name}.json")
        asked = {**words, "overrides": overrides}
        if cfg.protocol != "vqa":
            del asked["splits"]
        else:
            check_count(cfg.splits)
        refuse_other_words(out, asked)
        result = evaluate(cfg.run, overrides=overrides, **words) | {"asked": asked}
        stored = _read(out) | {"asked": plain(asked)} if out.exists() else {}
        # An older version's may have fewer parts.
        if stored != {name: part for name, part in plain(result).items() if name in stored}:
            raise ValueError(f"{out} exists and holds other numbers; give another name with out=")
        write_json(out, plain(result))
        Console().print(
            terminal_table(
                result | {"test": result[cfg.split], "split": cfg.split, "paths": {"json": out}}
            )
        )
        for line in [*vqa_lines(result), *result.get("notes", [])]:
            print(line)
        if note := why_no_teacher(cfg.run):
            print(note)


if __name__ == "__main__":
    launch.start(_main)
