"""What a run's teacher says, wherever it comes from: a live model, a cache, a table, several."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from coefvq.clip_features import clip_features
from coefvq.data.folds import fold_of, folds_fingerprint
from coefvq.data.splits import SPLITS
from coefvq.distiller import Teacher
from coefvq.evaluation.collect import collect
from coefvq.runs import rank
from coefvq.teacher_supply.answers import check_answers
from coefvq.teacher_supply.calibration import fit_calibration, store_calibration
from coefvq.teacher_supply.members import member_config, member_words, weighting_word
from coefvq.teacher_supply.memory_ahead import estimate_ahead
from coefvq.teacher_supply.outputs import Say, TeacherSupply, keep_answers
from coefvq.teacher_supply.preflight import Preflight, preflight
from coefvq.teacher_supply.reading import from_cache
from coefvq.teacher_supply.table import open_table
from coefvq.teacher_supply.training import get_teacher
from coefvq.teacher_supply.words import check_teacher_task, check_teacher_words
from coefvq.teachers.calibrated import CalibratedTeacher
from coefvq.teachers.ensemble import EnsembleTeacher
from coefvq.teachers.frozen import FrozenTeacher
from coefvq.teachers.out_of_fold import OutOfFoldTeacher


def open_teacher(cfg: DictConfig, data: Any, say: Say) -> TeacherSupply | None:
    """Find, train or read the teacher of a config, and keep what it says where that is asked for.

    Returns:
        None for `teacher=none`.

    Raises:
        ValueError: the teacher, its cache or its table does not fit the run, or it knows no more
            than chance.
    """
    check_teacher_words(cfg)
    check_teacher_task(cfg, data.task)
    check_answers(cfg, data.task)
    if estimate := estimate_ahead(cfg, data):
        estimate.check_fits()
    supply = _open(cfg, data, say)
    if supply is None or rank() > 0:
        return supply if supply is None else _calibrated(cfg, data, supply, _quietly)
    supply = _calibrated(cfg, data, supply, say)
    if checked := _scored(cfg, data, supply.ask):
        say(checked.line(), soft_wrap=True)
        if cfg.teacher.preflight:
            checked.check()
    return supply


def _scored(cfg: DictConfig, data: Any, ask: Teacher) -> Preflight | None:
    """How good a teacher is on validation clips; None if none of them has a label."""
    found = collect(ask, data.val_dataloader())
    if found.labels is None:
        return None
    return preflight(
        found.logits,
        found.labels,
        data.task,
        label_mask=found.label_mask,
        baseline=cfg.teacher.baseline,
    )


def _checked_early(cfg: DictConfig, data: Any, say: Say) -> Callable[[Teacher], None] | None:
    """The same on the first rows that are written, before a useless teacher is asked the rest."""
    if not cfg.teacher.preflight:
        return None

    def check(ask: Teacher) -> None:
        if checked := _scored(cfg, data, ask):
            try:
                checked.check()
            except ValueError:
                say(checked.line(), soft_wrap=True)
                raise

    return check


def _open(cfg: DictConfig, data: Any, say: Say) -> TeacherSupply | None:
    kinds = {"cached": from_cache, "table": _from_table, "ensemble": _from_several}
    if cfg.teacher.kind in kinds:
        return kinds[cfg.teacher.kind](cfg, data, say)
    if cfg.teacher.folds is not None and cfg.teacher.model is not None:
        return _from_folds(cfg, data, say)
    trained = get_teacher(cfg, data)
    if trained is None:
        return None
    say(f"teacher  {trained.name}, {'reused' if trained.reused else 'trained'}")
    about = (trained.name, trained.fingerprint, trained.folder, trained.reused)
    live = FrozenTeacher(trained.module)
    check = _checked_early(cfg, data, say)
    with clip_features(cfg, data, trained.module):
        return keep_answers(cfg, data, live, [trained.module], about, say, check=check)


def _from_folds(cfg: DictConfig, data: Any, say: Say) -> TeacherSupply:
    folds = fold_of(data.splits["train"], cfg.teacher.folds, cfg.seed)
    trained = []
    for fold in range(cfg.teacher.folds):
        one = get_teacher(cfg, data, exclude=[name for name, k in folds.items() if k == fold])
        assert one is not None
        say(f"teacher  {one.name}, fold {fold + 1} of {cfg.teacher.folds}, "
            f"{'reused' if one.reused else 'trained'}")  # fmt: skip
        trained.append(one)
    members = [FrozenTeacher(one.module) for one in trained]
    digest = folds_fingerprint(folds)
    fingerprint = hashlib.sha256("".join(one.fingerprint for one in trained).encode()).hexdigest()
    about = (cfg.teacher.name, fingerprint, trained[0].folder, all(one.reused for one in trained))
    live = OutOfFoldTeacher(members, folds, data.task.kind)
    modules = [one.module for one in trained]
    check = _checked_early(cfg, data, say)
    return keep_answers(cfg, data, live, modules, about, say, digest, check=check)


def _from_table(cfg: DictConfig, data: Any, say: Say) -> TeacherSupply:
    wanted = [name for split in SPLITS for name in data.whole_split(split).ids]
    table = open_table(
        cfg.teacher.path,
        data.task,
        wanted,
        kind=cfg.teacher.numbers,
        id_column=cfg.teacher.id_column,
        cache_dir=cfg.cache_dir,
    )
    path = Path(cfg.teacher.path).absolute()
    say(f"teacher  {len(wanted)} clips of {path}", soft_wrap=True)
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(file.read_bytes())
    return TeacherSupply(table, cfg.teacher.name, digest.hexdigest(), path, True)


def _from_several(cfg: DictConfig, data: Any, say: Say) -> TeacherSupply:
    members: list[TeacherSupply] = []
    for word in member_words(cfg.teacher):
        alone = member_config(cfg, word)
        member = _open(alone, data, say)
        assert member is not None, "checked before"
        members.append(_calibrated(alone, data, member, say))
    labelled = [clip.id for clip in data.splits["train"] if clip.label is not None]
    weights = cfg.teacher.weights
    ask = EnsembleTeacher(
        [member.ask for member in members],
        data.task.kind,
        weighting=weighting_word(cfg.teacher),  # type: ignore[arg-type]
        weights=None if weights is None else [float(w) for w in weights],
        labels_of=labelled,
    )
    words = [m.fingerprint for m in members] + [weighting_word(cfg.teacher), str(weights)]
    fingerprint = hashlib.sha256("\0".join(words).encode()).hexdigest()
    live = tuple(module for member in members for module in member.live)
    reused = all(member.reused for member in members)
    return TeacherSupply(ask, cfg.teacher.name, fingerprint, None, reused, live=live)


def _calibrated(cfg: DictConfig, data: Any, supply: TeacherSupply, say: Say) -> TeacherSupply:
    if cfg.teacher.calibration != "temperature":
        return supply  # none, or applied where the cache was read
    found = collect(supply.ask, data.val_dataloader())
    if found.labels is None:
        raise ValueError("teacher.calibration needs labelled validation clips, and there are none")
    fitted = fit_calibration(found.logits, found.labels, data.task, label_mask=found.label_mask)
    say(fitted.line(), soft_wrap=True)
    if supply.cache is not None and cfg.teacher.kind == "model" and rank() == 0:
        store_calibration(supply.cache, fitted, data.fingerprint)
    return replace(supply, ask=CalibratedTeacher(supply.ask, fitted), calibration=fitted)


def _quietly(*words: Any, **options: Any) -> None:
    """Print nothing: a process beside the first."""


__all__ = ["open_teacher"]
