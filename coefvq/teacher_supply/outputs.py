"""A live teacher's answers, kept on disk under what they depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from omegaconf import DictConfig
from torch import nn

from coefvq import engine
from coefvq.data.home import cache_home
from coefvq.data.loading import ClipDataset
from coefvq.data.sampling import EVAL_POLICIES, view_name
from coefvq.data.splits import SPLITS
from coefvq.distiller import Teacher
from coefvq.teacher_cache import CacheIdentity, TeacherCache
from coefvq.teacher_cache.identity import READING_VERSION
from coefvq.teacher_supply.caching import (
    CachingProgress,
    CachingResult,
    fixed_view,
    write_outputs,
)
from coefvq.teacher_supply.clips import about_data, contents_of, data_read
from coefvq.teacher_supply.words import views_needed
from coefvq.teachers.cached import CachedTeacher
from coefvq.teachers.calibrated import Calibration
from coefvq.versions import version_of

Say = Callable[..., None]


@dataclass(frozen=True)
class TeacherSupply:
    """A teacher that is ready to be asked about every clip of a run.

    Args:
        ask: `ask(batch) -> TeacherOutput`, for training, validation and test alike.
        name: what reports call it.
        fingerprint: of its weights, or of what it was read from.
        folder: where the model, the cache or the table is.
        reused: whether it was found rather than trained.
        cache: its outputs on disk; None where it is asked live, or read from a table.
        calibration: what its logits are divided by; None: nothing.
        live: the networks that are asked at each step; none where answers are read.
    """

    ask: Teacher
    name: str
    fingerprint: str
    folder: Path | None
    reused: bool
    cache: TeacherCache | None = None
    calibration: Calibration | None = None
    live: tuple[nn.Module, ...] = ()


def cache_folder(cfg: DictConfig, identity: CacheIdentity) -> Path:
    """Where the outputs of a teacher are kept."""
    name = f"{cfg.teacher.name}-{identity.fingerprint[:16]}"
    return cache_home(cfg.cache_dir) / "teacher_outputs" / name


def identity_of(
    cfg: DictConfig, data: Any, modules: Sequence[nn.Module], folds: str | None = None
) -> CacheIdentity:
    """Everything that decides what a live teacher says of the clips of a run.

    Args:
        cfg: the whole config.
        data: prepared.
        modules: the networks, more than one for out-of-fold teachers.
        folds: fingerprint of who is in which fold.
    """
    digest = hashlib.sha256()
    for module in modules:
        for name, value in sorted(module.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return CacheIdentity(
        {
            "teacher": {
                "name": cfg.teacher.name,
                "class": type(modules[0]).__name__,
                "config": dict(modules[0].config),
                "folds": folds,
            },
            "weights": digest.hexdigest(),
            **data_parts(data, cfg.teacher.inputs),
            "temperature": 1.0,
            "precision": str(cfg.trainer.get("precision", "32-true")),
            "dtype": cfg.teacher.cache_dtype,
            "versions": {name: version_of(name) for name in ("coefvq", "torch", "transformers")},
        },
        about_data(cfg, data),
    )


def views_to_cache(cfg: DictConfig, data: Any) -> tuple[list[ClipDataset], str | None]:
    """The clips to ask about, each in a fixed view, and the view that stands for all others.

    Raises:
        ValueError: training frames are drawn anew each epoch, and nothing says what a cached
            answer would then be worth.
    """
    held_out = [data.whole_split(split) for split in SPLITS[1:]]
    policy = data.inputs.train_sampling
    if policy in EVAL_POLICIES:
        return [data.whole_split("train"), *held_out], None
    if cfg.teacher.view_invariant:
        seen = data.whole_split("train", sampling=data.inputs.sampling)
        return [seen, *held_out], view_name(data.inputs, data.inputs.sampling)
    views = cfg.teacher.views
    if views is None:
        raise ValueError(views_needed(policy, cfg.teacher.kind))
    data.train_views = views
    return [*(data.whole_split("train", view=k) for k in range(views)), *held_out], None


def keep_answers(
    cfg: DictConfig,
    data: Any,
    live: Teacher,
    modules: Sequence[nn.Module],
    about: tuple[str, str, Path, bool],
    say: Say,
    folds: str | None = None,
    *,
    check: Callable[[Teacher], None] | None = None,
) -> TeacherSupply:
    """A live teacher as it is, or its cache brought up to date; says what was found and added.

    Where rows are missing, validation clips come first and `check` sees them: it raises where the
    others are not worth the time.
    """
    if cfg.teacher.cache == "off" or "student" not in cfg.phases:
        return TeacherSupply(live, *about, live=tuple(modules))
    datasets, view = views_to_cache(cfg, data)
    identity = identity_of(cfg, data, modules, folds)
    cache = TeacherCache(cache_folder(cfg, identity), identity)

    def write(some: Sequence[ClipDataset], label: str) -> CachingResult:
        return write_outputs(
            live,
            some,
            cache,
            _trainer(cfg, label),
            batch_size=data.batch_size,
            num_workers=data.num_workers,
            wait=lambda: say("cache    another run is writing it; waiting"),
            contents=contents_of(data, some),
        )

    first = 0
    val = datasets[-2]
    if check is not None and cache.missing(val.ids, fixed_view(val)):
        first = write([val], f"asking {cfg.teacher.name} about validation clips").written
        check(CachedTeacher(cache, view))
    result = write(datasets, f"asking {cfg.teacher.name}")
    written = first + result.written
    size = cache.stats()
    done = f"{written} rows added" if written else "reused"
    lost = [f"{name} by up to {e:.1e}" for name, e in result.max_errors.items() if e > 0]
    error = f", {cfg.teacher.cache_dtype} moves {' and '.join(lost)}" if lost else ""
    say(
        f"cache    {len(cache)} rows of {size.bytes_per_row:.0f} bytes, {done}{error}: "
        f"{cache.folder}",
        soft_wrap=True,
    )
    return TeacherSupply(CachedTeacher(cache, view), *about, cache)


def data_parts(data: Any, inputs: str = "whole") -> dict[str, Any]:
    """The parts of an identity that are known without the teacher, or with what it reads."""
    return {
        "data": data_read(data, inputs),
        "inputs": data.inputs.to_dict(),
        "classes": list(data.task.classes),
        "task": data.task.kind,
        "label_range": None if data.task.label_range is None else list(data.task.label_range),
        "sub_labels": list(getattr(data, "sub_labels", ())),
        "reading": READING_VERSION,
    }


def _trainer(cfg: DictConfig, label: str) -> Trainer:
    """The run's own engine, without what is for training."""
    shown = cfg.trainer.get("enable_progress_bar", True)
    callbacks = [CachingProgress(label)] if shown else []
    plain = {"logger": False, "enable_checkpointing": False, "callbacks": callbacks}
    plain["use_distributed_sampler"] = False  # the batches are shared out already
    trainer: Trainer = engine.build(cfg.trainer, **plain)
    return trainer


__all__ = [
    "Say",
    "TeacherSupply",
    "cache_folder",
    "data_parts",
    "identity_of",
    "keep_answers",
    "views_to_cache",
]
