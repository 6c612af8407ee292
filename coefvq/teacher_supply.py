"""What a run's teacher says, wherever it comes from: a live model, a cache, a table, several."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from omegaconf import DictConfig
from torch import nn

from coefvq import engine
from coefvq.caching import CachingProgress, fixed_view, write_outputs
from coefvq.data.home import cache_home
from coefvq.data.loading import ClipDataset
from coefvq.data.sampling import EVAL_POLICIES, view_name
from coefvq.data.splits import SPLITS
from coefvq.distiller import Teacher
from coefvq.teacher_cache import CacheIdentity, TeacherCache
from coefvq.teacher_training import TrainedTeacher, get_teacher
from coefvq.teachers.cached import CachedTeacher
from coefvq.teachers.frozen import FrozenTeacher

Say = Callable[..., None]

_SAME_DATA = ("data", "inputs", "classes", "task")
"""Parts of an identity that a reader of somebody's cache can check without the teacher."""


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
    """

    ask: Teacher
    name: str
    fingerprint: str
    folder: Path | None
    reused: bool
    cache: TeacherCache | None = None


def open_teacher(cfg: DictConfig, data: Any, say: Say) -> TeacherSupply | None:
    """Find, train or read the teacher of a config, and keep what it says where that is asked for.

    Returns:
        None for `teacher=none`.

    Raises:
        ValueError: the teacher, its cache or its table does not fit the run.
    """
    kind = cfg.teacher.get("kind", "model")
    if kind == "cached":
        return _from_cache(cfg, data, say)
    trained = get_teacher(cfg, data)
    if trained is None:
        return None
    say(f"teacher  {trained.name}, {'reused' if trained.reused else 'trained'}")
    return _from_model(cfg, data, trained, say)


def cache_folder(cfg: DictConfig, identity: CacheIdentity) -> Path:
    """Where the outputs of a teacher are kept."""
    name = f"{cfg.teacher.name}-{identity.fingerprint[:16]}"
    return cache_home(cfg.cache_dir) / "teacher_outputs" / name


def identity_of(cfg: DictConfig, data: Any, module: nn.Module) -> CacheIdentity:
    """Everything that decides what a live teacher says of the clips of a run."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return CacheIdentity(
        {
            "teacher": {
                "name": cfg.teacher.name,
                "class": type(module).__name__,
                "config": dict(module.config),
            },
            "weights": digest.hexdigest(),
            **_data_parts(data),
            "temperature": 1.0,
            "precision": str(cfg.trainer.get("precision", "32-true")),
            "dtype": cfg.teacher.cache_dtype,
            "versions": {name: version(name) for name in ("coefvq", "torch", "transformers")},
        }
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
        raise ValueError(
            f"data.train_sampling={policy} shows other frames of a clip each epoch, so that a "
            "teacher's answer cannot be kept; set teacher.views=8 to keep and draw from so many "
            "fixed views, teacher.view_invariant=true if the answer holds for any frames, or "
            "teacher.cache=off to ask the teacher live at each step"
        )
    if not isinstance(views, int) or views < 1:
        raise ValueError(f"teacher.views is a number of views from 1, got {views!r}")
    data.train_views = views
    return [*(data.whole_split("train", view=k) for k in range(views)), *held_out], None


def write_cache(
    cfg: DictConfig, data: Any, trained: TrainedTeacher, say: Say, folder: Path | None = None
) -> tuple[TeacherCache, str | None]:
    """Bring a teacher's cache up to date; say what was found and what was added.

    Returns:
        The cache, and the view to read it with (see `CachedTeacher`).
    """
    datasets, view = views_to_cache(cfg, data)
    identity = identity_of(cfg, data, trained.module)
    cache = TeacherCache(folder or cache_folder(cfg, identity), identity)
    trainer = _trainer(cfg, f"asking {trained.name}")
    result = write_outputs(
        FrozenTeacher(trained.module),
        datasets,
        cache,
        trainer,
        batch_size=data.batch_size,
        num_workers=data.num_workers,
        wait=lambda: say("cache    another run is writing it; waiting"),
    )
    size = cache.stats()
    done = f"{result.written} rows added" if result.written else "reused"
    error = f", float16 error up to {result.max_error:.1e}" if result.max_error > 0 else ""
    say(
        f"cache    {len(cache)} rows of {size.bytes_per_row:.0f} bytes, {done}{error}: "
        f"{cache.folder}",
        soft_wrap=True,
    )
    return cache, view


def _from_model(cfg: DictConfig, data: Any, trained: TrainedTeacher, say: Say) -> TeacherSupply:
    about = (trained.name, trained.fingerprint, trained.folder, trained.reused)
    if cfg.teacher.cache not in ("auto", "off"):
        raise ValueError(f"teacher.cache is auto or off, got {cfg.teacher.cache!r}")
    if cfg.teacher.cache_dtype not in ("float32", "float16"):
        raise ValueError(
            f"teacher.cache_dtype is float32 or float16, got {cfg.teacher.cache_dtype!r}"
        )
    if cfg.teacher.cache == "off" or "student" not in cfg.phases:
        return TeacherSupply(FrozenTeacher(trained.module), *about)
    cache, view = write_cache(cfg, data, trained, say)
    return TeacherSupply(CachedTeacher(cache, view), *about, cache)


def _from_cache(cfg: DictConfig, data: Any, say: Say) -> TeacherSupply:
    if cfg.teacher.path is None:
        raise ValueError(
            "teacher=cached needs teacher.path, the folder that python -m coefvq.cache_teacher "
            "wrote and named"
        )
    cache = TeacherCache(cfg.teacher.path)
    ours = CacheIdentity(_data_parts(data))
    its = CacheIdentity({key: cache.identity.parts.get(key) for key in _SAME_DATA})
    if differing := ours.differences(its):
        raise ValueError(
            f"teacher.path={cfg.teacher.path} was made for other data "
            f"({'; '.join(differing[:4])}: ours -> its); give the data that it was made with, or "
            "write a cache for these"
        )
    datasets, view = views_to_cache(cfg, data)
    lost = [
        name
        for dataset in datasets
        for name in cache.missing(dataset.ids, view or fixed_view(dataset))
    ]
    if lost:
        raise ValueError(
            f"teacher.path={cfg.teacher.path} has no row for {len(lost)} of the run's clips, "
            f"first {lost[0]!r}; go on with the python -m coefvq.cache_teacher that wrote it"
        )
    say(f"teacher  {len(cache)} rows of {cache.folder}", soft_wrap=True)
    teacher = CachedTeacher(cache, view)
    name = cache.identity.parts["teacher"]["name"]
    return TeacherSupply(teacher, name, cache.identity.fingerprint, cache.folder, True, cache)


def _data_parts(data: Any) -> dict[str, Any]:
    return {
        "data": data.fingerprint,
        "inputs": asdict(data.inputs),
        "classes": list(data.task.classes),
        "task": data.task.kind,
    }


def _trainer(cfg: DictConfig, label: str) -> Trainer:
    """The run's own engine, without what is for training."""
    shown = cfg.trainer.get("enable_progress_bar", True)
    callbacks = [CachingProgress(label)] if shown else []
    plain = {"logger": False, "enable_checkpointing": False, "callbacks": callbacks}
    plain["use_distributed_sampler"] = False  # the batches are shared out already
    trainer: Trainer = engine.build(cfg.trainer, **plain)
    return trainer


__all__ = ["TeacherSupply", "cache_folder", "identity_of", "open_teacher", "write_cache"]
