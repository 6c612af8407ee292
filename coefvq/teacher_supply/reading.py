"""`teacher=cached teacher.path=…`: a cache that another run wrote, as the teacher of this one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig

from coefvq.teacher_cache import CacheIdentity, TeacherCache
from coefvq.teacher_supply.caching import fixed_view
from coefvq.teacher_supply.calibration import stored_calibration
from coefvq.teacher_supply.clips import about_data, contents_of, data_read
from coefvq.teacher_supply.outputs import Say, TeacherSupply, data_parts, views_to_cache
from coefvq.teacher_supply.words import term_of_features
from coefvq.teachers.cached import CachedTeacher
from coefvq.teachers.calibrated import CalibratedTeacher
from coefvq.versions import version_of

_SAME = ("inputs", "classes", "task", "label_range", "sub_labels", "reading")
"""Parts of an identity that every reader of somebody's cache must share."""


def from_cache(cfg: DictConfig, data: Any, say: Say) -> TeacherSupply:
    """Read the cache of `teacher.path`.

    Raises:
        ValueError: it is no cache, was made for other data of which these are no part, was read in
            another way or computed with other versions, or lacks rows, features or the calibration
            that is asked for.
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
    _check_versions(cfg, cache)
    _check_columns(cfg, cache)
    datasets, view = views_to_cache(cfg, data)
    _check_clips(cfg, data, cache, [(each, view or fixed_view(each)) for each in datasets])
    say(f"teacher  {len(cache)} rows of {cache.folder}", soft_wrap=True)
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
    same = cache.identity.parts.get("data") in {data_read(data, k) for k in ("whole", "public")}
    if not lost and not same:
        content = contents_of(data, [dataset for dataset, _ in asked])
        changed = [
            name
            for dataset, view in asked
            for name in dataset.ids
            if cache.content(name, view) != content(name)
        ]
    if not lost and not changed:
        return
    whole = len({name for dataset, _ in asked for name in dataset.ids})
    if lost:
        problem = f"has no row for {len(set(lost))} of the run's {whole} clips, first {lost[0]!r}"
        if others := cache.views_of(lost[0]):
            wanted = next(v for d, v in asked if lost[0] in cache.missing(d.ids, v))
            raise ValueError(
                f"teacher.path={cfg.teacher.path} {problem} in the view {wanted!r}, which the run "
                f"shows; it knows that clip in {len(others)} other views, such as {others[0]!r}: "
                "give data.train_sampling, teacher.views and teacher.view_invariant as they were "
                "when it was written"
            )
    else:
        problem = (
            f"knows {len(changed)} of the run's {whole} clips, first {changed[0]!r}, with other "
            "content or in another split"
        )
    if same:
        raise ValueError(
            f"teacher.path={cfg.teacher.path} {problem}; go on with the python -m "
            "coefvq.cache_teacher that wrote it"
        )
    differing = CacheIdentity(about_data(cfg, data)).differences(
        CacheIdentity(cache.identity.about)
    )
    # Counts of the splits follow from the words, where a word differs.
    words = [text for text in differing if text.startswith("data.")] or differing
    shown = f"{'; '.join(words[:4])}: ours -> its" if words else "the files or texts have changed"
    raise ValueError(
        f"teacher.path={cfg.teacher.path} {problem}; it was made for other data ({shown}): give "
        "those, a part of them, or write a cache for these"
    )


def _check_versions(cfg: DictConfig, cache: TeacherCache) -> None:
    """Another version is mostly the same teacher, but nobody else can know that."""
    differing = [
        f"{name} {its} (here {version_of(name)})"
        for name, its in cache.identity.parts.get("versions", {}).items()
        if its.partition("+")[0] != (version_of(name) or "").partition("+")[0]  # +cpu: one release
    ]
    if differing and not cfg.teacher.other_versions:
        raise ValueError(
            f"teacher.path={cfg.teacher.path} was computed with {' and '.join(differing)}; install "
            "these, or say teacher.other_versions=true if the difference does not matter"
        )


def _check_columns(cfg: DictConfig, cache: TeacherCache) -> None:
    term = term_of_features(cfg)
    if term is not None and "features" not in cache.columns:
        raise ValueError(
            f"{term}, but the rows of teacher.path={cfg.teacher.path} have none (it holds "
            f"{', '.join(sorted(cache.columns))}); choose an objective of logits, such as "
            "objective=logit_kd, or the cache of a single model"
        )


def _with_its_calibration(cfg: DictConfig, supply: TeacherSupply, say: Say) -> TeacherSupply:
    """Apply what lies beside the rows where that is asked for."""
    assert supply.cache is not None
    if cfg.teacher.calibration == "temperature":
        return supply  # fitted by the run itself
    fitted = stored_calibration(supply.cache)
    wanted = cfg.teacher.calibration == "stored"
    if fitted is None and wanted:
        raise ValueError(
            f"teacher.path={cfg.teacher.path} has no calibration beside its rows; fit one with "
            "teacher.calibration=temperature"
        )
    if fitted is None:
        return supply
    shown = ", ".join(f"{t:.2f}" for t in fitted.temperatures)
    if not wanted:
        say(
            f"teacher  its logits are read as they are; teacher.calibration=stored divides them by "
            f"the temperature {shown} that lies beside them",
            soft_wrap=True,
        )
        return supply
    say(f"teacher  its logits are divided by the stored temperature {shown}", soft_wrap=True)
    return replace(supply, ask=CalibratedTeacher(supply.ask, fitted), calibration=fitted)


__all__ = ["from_cache"]
