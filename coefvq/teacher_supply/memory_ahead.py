"""A look at the memory of a run whose teacher is asked live, before the teacher is trained."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from omegaconf import DictConfig

from coefvq import engine
from coefvq.teacher_supply.memory import MemoryEstimate, estimate_memory


def estimate_ahead(cfg: DictConfig, data: Any) -> MemoryEstimate | None:
    """Estimate the student's steps from models that have shapes and no weights.

    Args:
        cfg: the whole config, `runtime` filled in.
        data: prepared.

    Returns:
        None where no new teacher will be asked live, or a model cannot be made without weights.
        The same is estimated again once both models are there.
    """
    teacher = cfg.teacher
    live = teacher.kind == "model" and teacher.model is not None and teacher.cache == "off"
    if not live or teacher.checkpoint is not None or "student" not in cfg.phases:
        return None
    try:
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")  # of weights that are loaded into nothing
            student = engine.build(cfg.student)
            one = engine.build(teacher.model)
    except Exception:  # each model in its own way
        return None
    accelerator = str(cfg.trainer.get("accelerator", "auto"))
    gpu = accelerator not in ("cpu", "mps") and torch.cuda.is_available()
    return estimate_memory(
        student,
        [one] * (teacher.folds or 1),
        next(iter(data.train_dataloader())),
        device="cuda" if gpu else "cpu",
        precision=str(cfg.trainer.get("precision", "32-true")),
    )


__all__ = ["estimate_ahead"]
