"""`python -m coefvq.cache_teacher +recipe=cpfd`: ask a run's teacher about every clip, once.

Takes the words of `coefvq.train`. Killed, it goes on where it was; afterwards `coefvq.train` with
the same words finds the cache, and `teacher=cached teacher.path=…` runs without the teacher.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from coefvq import config, launch


def cache_teacher(cfg: DictConfig, say: Callable[..., None]) -> dict[str, Any] | None:
    """Write the cache of a config's teacher and score the teacher from it.

    Returns:
        `folder`, `rows`, `bytes`, `bytes_per_row`, `calibrated`, and the teacher's metrics under
        `val` and `test`; None in a process that was launched beside the first one.

    Raises:
        ValueError: the config has no teacher with a model of its own, or what `coefvq.train` would
            refuse.
    """
    from coefvq import engine
    from coefvq.evaluation.collect import collect
    from coefvq.evaluation.threshold import choose_threshold
    from coefvq.prepare import prepared_data
    from coefvq.runs import rank
    from coefvq.scoring import metrics_of
    from coefvq.teacher_supply.opening import open_teacher
    from coefvq.teacher_supply.words import check_teacher_words

    engine.quiet()
    config.validate(cfg)
    check_teacher_words(cfg)
    engine.check_launch(cfg)
    if cfg.teacher.model is None or cfg.teacher.get("kind", "model") != "model":
        raise ValueError(
            f"teacher={cfg.teacher.name} has no model to ask; choose a recipe with a teacher, or "
            "teacher=df_xvlm"
        )
    if cfg.teacher.cache == "off":
        raise ValueError("teacher.cache=off keeps nothing; leave it out")
    say(f"data     {config.data_words(cfg)}")
    data = prepared_data(cfg, cfg.teacher.checkpoint)
    teacher = open_teacher(cfg, data, say)
    if rank() > 0:
        return None
    assert teacher is not None and teacher.cache is not None
    size = teacher.cache.stats()
    result: dict[str, Any] = {
        "folder": str(teacher.cache.folder),
        "rows": size.rows,
        "bytes": size.bytes,
        "bytes_per_row": size.bytes_per_row,
        "calibrated": teacher.calibration is not None,
    }
    threshold = None
    for split, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
        found = collect(teacher.ask, loader)
        if threshold is None:
            threshold = choose_threshold(
                found.logits, found.labels, data.task, label_mask=found.label_mask
            )
        result[split] = metrics_of(found, data.task, threshold)
    return result


@hydra.main(version_base="1.3", config_path=str(config.folder("conf")), config_name="train")
def _main(cfg: DictConfig) -> None:
    console = Console(stderr=True, highlight=False)

    def say(*words: Any, **options: Any) -> None:
        from coefvq.runs import rank

        if rank() == 0:
            console.print(*words, **options)

    with launch.one_sentence():
        if HydraConfig.initialized():
            config.check_words_are_read(cfg, HydraConfig.get().overrides.task)
        result = cache_teacher(cfg, say)
        if result is None:
            return
        for split in ("val", "test"):
            numbers = ", ".join(f"{k} {v:.3f}" for k, v in result[split].items())
            print(f"{split:4}  {numbers}")
        folder = Path(os.path.relpath(result["folder"]))
        shown = min(str(folder), result["folder"], key=len)
        words = " teacher.calibration=stored" if result["calibrated"] else ""
        print(f"{result['rows']} rows, {result['bytes'] / 1e6:.1f} MB: teacher.path={shown}{words}")


def main() -> None:
    """Check the recipe's name, compose, write."""
    launch.start(_main, recipes=True)


if __name__ == "__main__":
    main()
