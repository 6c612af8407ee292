"""`teacher=cached teacher.path=…`: a cache that another run wrote, as the teacher of this one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from omegaconf import DictConfig

from coefvq.teacher_cache import CacheIdentity, TeacherCache
from coefvq.teacher_supply.caching import fixed_view
from coefvq.teacher_supply.calibration import stored_calibration
from coefvq.teacher_supply.clips import about_data, contents_of
from coefvq.teacher_supply.outputs import Say, TeacherSupply, data_parts, views_to_cache
from coefvq.teachers.cached import CachedTeacher
from coefvq.teachers.calibrated import CalibratedTeacher

_SAME = ("inputs", "classes", "task", "label_range", "sub_labels", "reading")
"""Parts of an identity that every reader of somebody's cache must share."""

_NOTED = ("torch", "transformers")
"""Packages of which another minor version may change a last digit."""


def from_cache(cfg: DictConfig, data: Any, say: Say) -> TeacherSupply:
    """Read the cache of `teacher.path`, with the calibration that lies in it.

    Raises:
        ValueError: it is no cache, was made for other data of which these are no part, was read in
            another way, or lacks rows.
    """
    cache = TeacherCache(cfg.teacher.path)
    parts = cache.identity.parts
    ours = CacheIdentity({key: value for key, value in data_parts(data).items() if key in _SAME})
    if differing := ours.differences(CacheIdentity({key: parts.get(key) for key in _SAME})):
        raise ValueError(
            f"teacher.path={cfg.teacher.path} was made for other data or another reading "
            f"({'; '.join(differing[:4])}: ours -> its); give the data that it was made with, or "
            "write a cache for these"
        )
    datasets, view = views_to_cache(cfg, data)
    _check_clips(cfg, data, cache, [(each, view or fixed_view(each)) for each in datasets])
    say(f"teacher  {len(cache)} rows of {cache.folder}", soft_wrap=True)
    _note_versions(cache, say)
    teacher = CachedTeacher(cache, view)
    name = cache.identity.parts["teacher"]["name"]
    supply = TeacherSupply(teacher, name, cache.identity.fingerprint, cache.folder, True, cache)
    return _with_its_calibration(cfg, supply, say)


def _check_clips(
    cfg: DictConfig, data: Any, cache: TeacherCache, asked: Sequence[tuple[Any, str]]
) -> None:
    """Every clip has its row; among other data than the cache was made for, it is the same clip."""
    lost = [name for dataset, view in asked for name in cache.missing(dataset.ids, view)]
    changed = []
    if not lost and data.fingerprint != cache.identity.parts.get("data"):
        content = contents_of(data, [dataset for dataset, _ in asked])
        changed = [
            name
            for dataset, view in asked
            for name in dataset.ids
            if cache.content(name, view) != content(name)
        ]
    if not lost and not changed:
        return
    whole = sum(len(dataset.ids) for dataset, _ in asked)
    if lost:
        problem = f"has no row for {len(lost)} of the run's {whole} clips, first {lost[0]!r}"
    else:
        problem = (
            f"knows {len(changed)} of the run's {whole} clips, first {changed[0]!r}, with other "
            "content or in another split"
        )
    if data.fingerprint == cache.identity.parts.get("data"):
        raise ValueError(
            f"teacher.path={cfg.teacher.path} {problem}; go on with the python -m "
            "coefvq.cache_teacher that wrote it"
        )
    differing = CacheIdentity(about_data(cfg, data)).differences(
        CacheIdentity(cache.identity.about)
    )
    shown = "; ".join(differing[:4]) or "only the files or texts"
    raise ValueError(
        f"teacher.path={cfg.teacher.path} {problem}; it was made for other data ({shown}: ours -> "
        "its): give those, a part of them, or write a cache for these"
    )


def _note_versions(cache: TeacherCache, say: Say) -> None:
    """Another version is no other teacher, but may be another last digit."""
    its = cache.identity.parts.get("versions", {})
    notes = [
        f"{name} {its[name]} (here {version(name)})"
        for name in _NOTED
        if name in its and its[name].split(".")[:2] != version(name).split(".")[:2]
    ]
    if notes:
        say(f"teacher  its answers were computed with {' and '.join(notes)}", soft_wrap=True)


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
