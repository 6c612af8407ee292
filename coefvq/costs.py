"""What the models of a run cost: parameters, operations and time of a clip or of a pair."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_class
from omegaconf import DictConfig
from torch import nn

from coefvq.evaluation.compute import measure_compute
from coefvq.teacher_supply.outputs import TeacherSupply

CLIPS = 8
"""Clips are timed that many at a time, so that this takes a moment; pairs as they are batched."""

LIGHT = 2e9
"""Bytes of weights up to which a teacher is opened again to be measured."""


def costs(
    cfg: DictConfig,
    data: Any,
    teacher: TeacherSupply | None,
    student: nn.Module | None,
    device: torch.device,
) -> dict[str, dict[str, Any]]:
    """Measure teacher and student on the first test batch, decoding left out.

    A teacher that is at hand is measured as it is. One whose answers were kept is opened from its
    folder, if its weights are below `LIGHT`; others, tables and several teachers are left out.

    Args:
        cfg: the run's.
        data: prepared, of clips or of pairs.
        teacher: None: none.
        student: in eval mode; None: none. It loses its store of features, which would answer for
            its encoders.
        device: where to measure.

    Returns:
        By `teacher`, `student` and, for pairs, `student_known_clips` (of clips that are encoded
        already): `gflop`, `ms` and `batch` as in `Compute`, `parameters` (a count) and `frames`
        (per clip); of a teacher also `privileged`, whether what it reads has a price of its own,
        which is not in these numbers. Empty where there is no model.
    """
    found: dict[str, dict[str, Any]] = {}
    module = None if teacher is None else _module(cfg, teacher)
    if module is None and student is None:
        return found
    batch = next(iter(data.test_dataloader())).to(device)
    pairs = hasattr(data, "sub_labels")
    if not pairs:
        batch = batch.rows(range(min(CLIPS, len(batch))))
    public = batch.public()
    frames = (public.query if pairs else public).frame_mask.shape[1]

    def measured(call: Callable[[], Any], model: nn.Module) -> dict[str, Any]:
        cost = measure_compute(call, len(batch), repeats=5 if pairs else 3).to_dict()
        count = sum(p.numel() for p in model.parameters())
        return {**cost, "parameters": count, "frames": frames}

    if module is not None:
        _forget(module.to(device).eval())
        privileged = cfg.teacher.get("inputs") == "whole"
        read = batch if privileged else public
        found["teacher"] = {**measured(lambda: module(read), module), "privileged": privileged}
    if student is not None:
        _forget(student)
        found["student"] = measured(lambda: student(public), student)
    if student is not None and pairs:
        with torch.no_grad():
            query, candidate = student.encode(public.query), student.encode(public.candidate)
        found["student_known_clips"] = measured(lambda: student.score(query, candidate), student)
    return found


def _module(cfg: DictConfig, teacher: TeacherSupply) -> nn.Module | None:
    """The teacher's network, where it is at hand or quickly opened."""
    if cfg.teacher.get("model") is None:
        return None
    if len(teacher.live) == 1:
        return teacher.live[0]
    folder = teacher.folder
    if folder is None or _weights(folder) > LIGHT:
        return None
    opened: nn.Module = get_class(cfg.teacher.model["_target_"]).from_pretrained(folder)
    return opened


def _weights(folder: Path) -> int:
    return sum(file.stat().st_size for file in Path(folder).rglob("*.safetensors"))


def _forget(model: nn.Module) -> None:
    if hasattr(model, "use_store"):
        model.use_store(None)  # type: ignore[operator]


__all__ = ["CLIPS", "LIGHT", "costs"]
