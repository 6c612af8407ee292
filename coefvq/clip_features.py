"""Frozen encoders read each clip once: what they know of it is kept on disk for all runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig
from torch import nn

from coefvq.data.home import cache_home


def use_clip_features(
    cfg: DictConfig, data: Any, student: nn.Module, say: Callable[..., None]
) -> None:
    """Give a student with frozen encoders a store of its clips' features, filled.

    Nothing happens to students without such encoders. Features lie under `clip_features` in the
    cache folder, by a fingerprint of the encoders' weights and of how the data are read.
    """
    encoder = getattr(student, "encoder", None)
    if not hasattr(student, "use_store") or encoder is None or not encoder.config.frozen:
        return
    from coefvq.students.feature_store import FeatureStore

    store = FeatureStore(
        cache_home(cfg.cache_dir) / "clip_features", encoder, data.public_fingerprint
    )
    added = store.fill(encoder, data.clip_dataloader())
    store.flush()
    say(f"clips    features of {len(store)} clips, {f'{added} added' if added else 'reused'}")
    student.use_store(store)


@contextmanager
def clip_features(cfg: DictConfig, data: Any, teacher: nn.Module) -> Iterator[None]:
    """Give a teacher with frozen encoders a store of its clips' features while this lasts.

    Each clip is encoded when it is met first, in this run or an earlier one. Nothing happens to
    other teachers, nor where clips show other frames each time: a store knows one view of a clip.
    """
    encoder = getattr(teacher, "encoder", None)
    if not hasattr(teacher, "use_store") or encoder is None or not encoder.config.frozen:
        yield
        return
    if data.inputs.train_sampling != data.inputs.sampling:
        yield
        return
    from coefvq.students.feature_store import FeatureStore

    store = FeatureStore(
        cache_home(cfg.cache_dir) / "clip_features", encoder, data.public_fingerprint
    )
    teacher.use_store(store)  # type: ignore[operator]
    try:
        yield
    finally:
        teacher.use_store(None)  # type: ignore[operator]
        store.flush()


__all__ = ["clip_features", "use_clip_features"]
