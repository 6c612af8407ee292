"""`teacher=cached teacher.path=…`: a cache that another run wrote, as the teacher of this one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from omegaconf import DictConfig

from coefvq.caching import fixed_view
from coefvq.teacher_cache import CacheIdentity, TeacherCache
from coefvq.teacher_calibration import stored_calibration
from coefvq.teacher_outputs import Say, TeacherSupply, data_parts, views_to_cache
from coefvq.teachers.cached import CachedTeacher
from coefvq.teachers.calibrated import CalibratedTeacher

_SAME_DATA = ("data", "inputs", "classes", "task", "reading")
"""Parts of an identity that a reader of somebody's cache can check without the teacher."""


def from_cache(cfg: DictConfig, data: Any, say: Say) -> TeacherSupply:
    """Read the cache of `teacher.path`, with the calibration that lies in it.

    Raises:
        ValueError: it is no cache, was made for other data, or lacks rows.
    """
    cache = TeacherCache(cfg.teacher.path)
    _check_data(cfg, data, cache)
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
    supply = TeacherSupply(teacher, name, cache.identity.fingerprint, cache.folder, True, cache)
    return _with_its_calibration(cfg, supply, say)


def _check_data(cfg: DictConfig, data: Any, cache: TeacherCache) -> None:
    ours = CacheIdentity(data_parts(data))
    its = CacheIdentity({key: cache.identity.parts.get(key) for key in _SAME_DATA})
    if differing := ours.differences(its):
        raise ValueError(
            f"teacher.path={cfg.teacher.path} was made for other data "
            f"({'; '.join(differing[:4])}: ours -> its); give the data that it was made with, or "
            "write a cache for these"
        )


def _with_its_calibration(cfg: DictConfig, supply: TeacherSupply, say: Say) -> TeacherSupply:
    """As it was calibrated when it was written, unless the run says otherwise."""
    assert supply.cache is not None
    fitted = None if cfg.teacher.calibration else stored_calibration(supply.cache)
    if fitted is None:
        return supply
    shown = ", ".join(f"{t:.2f}" for t in fitted.temperatures)
    say(
        f"teacher  its logits are divided by the temperature {shown} that is stored beside them; "
        "teacher.calibration=none reads them raw",
        soft_wrap=True,
    )
    return replace(supply, ask=CalibratedTeacher(supply.ask, fitted), calibration=fitted)


__all__ = ["from_cache"]
