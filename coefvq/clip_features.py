"""Frozen encoders read each clip once: what they know of it is kept on disk for all runs."""

from __future__ import annotations

from collections.abc import Callable
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

    store = FeatureStore(cache_home(cfg.cache_dir) / "clip_features", encoder, data.fingerprint)
    added = store.fill(encoder, data.clip_dataloader())
    store.flush()
    say(f"clips    features of {len(store)} clips, {f'{added} added' if added else 'reused'}")
    student.use_store(store)


__all__ = ["use_clip_features"]
