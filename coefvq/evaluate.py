"""`python -m coefvq.evaluate run=runs/…`: score a finished run's student and teacher again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hydra
import torch
from omegaconf import DictConfig, OmegaConf

from coefvq import config


def evaluate(
    run: str | Path, *, split: str = "test", overrides: list[str] | None = None
) -> dict[str, Any]:
    """Score a run's exported student, and its teacher, on one split of its data or of others.

    The threshold is the one the run chose on its validation clips, never chosen again.

    Args:
        run: a finished run's folder.
        split: `"test"` or `"val"`.
        overrides: config overrides such as `data.seed=7`, to score on other data.

    Returns:
        The report's form: `{split: {student: {...}, teacher: {...}, agreement: {...}}, …}`.

    Raises:
        ValueError: if the folder holds no finished run or the split is unknown.
    """
    import json

    from coefvq import engine, pipeline
    from coefvq.evaluation.agreement import compute_agreement
    from coefvq.evaluation.collect import collect
    from coefvq.runs import RunFolder
    from coefvq.students.load import load_student
    from coefvq.teacher_training import get_teacher
    from coefvq.teachers.frozen import FrozenTeacher

    folder = RunFolder(Path(run).absolute())
    if not folder.report.exists():
        raise ValueError(f"run={run} has no report.json, so it is not a finished run; give one")
    if split not in ("test", "val"):
        raise ValueError(f"split is test or val, got {split!r}")
    engine.quiet()
    report = json.loads(folder.report.read_text(encoding="utf-8"))
    cfg = OmegaConf.load(folder.config)
    assert isinstance(cfg, DictConfig)
    cfg.merge_with_dotlist(overrides or [])
    data = engine.build(cfg.data)
    data.prepare()
    pipeline.fill_runtime(cfg, data)
    models: dict[str, Any] = {}
    if folder.student.exists():
        student = load_student(folder.student).eval()
        models["student"] = lambda batch: student(batch.public())
    if overrides:
        # Other data would mean another teacher; the run's own is what is asked about.
        cfg.teacher.checkpoint = report["paths"]["teacher"]
    teacher = get_teacher(cfg, data)
    if teacher is not None:
        models["teacher"] = FrozenTeacher(teacher.module)
    loader = data.test_dataloader if split == "test" else data.val_dataloader
    result: dict[str, Any] = {"run": str(folder.path), "task": data.task.name, split: {}}
    logits: dict[str, torch.Tensor] = {}
    for name, model in models.items():
        found = collect(model, loader())
        logits[name] = found.logits
        result[split][name] = pipeline.metrics_of(found, data.task, report["threshold"][name])
    if len(logits) == 2:
        result[split]["agreement"] = compute_agreement(
            logits["student"],
            logits["teacher"],
            data.task,
            student_threshold=report["threshold"]["student"],
            teacher_threshold=report["threshold"]["teacher"],
        )
    result["data_fingerprint"] = data.fingerprint
    return result


@hydra.main(version_base="1.3", config_path=str(config.folder("conf")), config_name="evaluate")
def _main(cfg: DictConfig) -> None:
    with config.one_sentence():
        from rich.console import Console

        from coefvq.evaluation.report import terminal_table
        from coefvq.runs import write_json

        overrides = [str(word) for word in cfg.overrides]
        result = evaluate(cfg.run, split=cfg.split, overrides=overrides)
        out = Path(cfg.out or Path(cfg.run) / f"evaluation-{cfg.split}.json")
        if cfg.out and out.exists():
            raise ValueError(f"out={out} exists; give another name")
        write_json(out, result)
        Console().print(
            terminal_table(result | {"test": result[cfg.split], "paths": {"json": out}})
        )


if __name__ == "__main__":
    _main()
