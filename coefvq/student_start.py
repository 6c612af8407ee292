"""Where a student's weights start: at random, at its own first stage, or in a folder."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import nn

from coefvq import engine
from coefvq.data.labels import hide_labels
from coefvq.objective import Objective
from coefvq.teacher_supply.training import get_teacher

_log = logging.getLogger(__name__)

ENCODERS = {"V": "vision", "T": "text", "A": "audio"}
"""What `student.pretrained` calls the encoders of the modalities."""


def check_student(cfg: DictConfig, data: Any, objective: Objective) -> None:
    """Refuse words that a student does not know, and a start that is none, before a teacher trains.

    The student is made once and let go. Warned about are frozen encoders that no weights are named
    for, and examples without a label that no term of the objective learns from.

    Raises:
        ValueError: with one sentence: `check_start`'s, or the student's own.
    """
    check_start(cfg, data)
    engine.build(cfg.student)
    _warn_of_idle_examples(data, objective)
    frozen = OmegaConf.select(cfg, "student.config.encoders.frozen")
    if not frozen or cfg.start not in (None, "labels"):
        return
    for letter in cfg.student.config.modalities.split("+"):
        word = f"student.pretrained.{ENCODERS[letter]}"
        if OmegaConf.select(cfg, word) is None:
            known = OmegaConf.select(cfg, "student.pretrained") is not None
            _log.warning(
                "%s is null, so that this encoder is frozen with random weights and tells little; "
                "%s, or set student.config.encoders.frozen=false",
                word,
                "name a folder or a Hugging Face name"
                if known
                else "choose student=matchlite_base",
            )


def _warn_of_idle_examples(data: Any, objective: Objective) -> None:
    # A weight that is 0 at first may follow a schedule.
    teaching = [
        name
        for name in objective.learning_from_teacher()
        if objective.weights[name] > 0 or objective.schedules
    ]
    clips = data.splits["train"]
    if (share := getattr(data, "student_labels", 1.0)) < 1:
        clips = hide_labels(clips, share, drop=False)
    idle = sum(clip.label is None for clip in clips)
    if data.train_on == "all" and idle and not teaching:
        _log.warning(
            "%d of %d training examples have no label, and no term of the objective learns from a "
            "teacher: they teach nothing, and take places in batches; add train_on=labelled",
            idle,
            len(clips),
        )


def check_start(cfg: DictConfig, data: Any) -> None:
    """Refuse what the student cannot start from.

    Raises:
        ValueError: `start` is neither null nor labels nor a folder, or is labels where the student
            is not told all of them.
    """
    if cfg.start == "labels" and getattr(data, "student_labels", 1.0) < 1:
        raise ValueError(
            f"start=labels trains on every label, but data.student_labels="
            f"{data.student_labels} keeps some from the student; leave out one"
        )
    if cfg.start not in (None, "labels") and not Path(cfg.start).is_dir():
        raise ValueError(
            f"start={cfg.start} is no folder; give one of a saved student, or labels to train the "
            "student on hard labels first, or null for random weights"
        )


def start_student(cfg: DictConfig, data: Any, say: Callable[..., None]) -> nn.Module:
    """Make the student of a config, with the weights that `start` asks for.

    `start=labels` is the first of MatchLM2Lite's two stages (arXiv 2606.14786): the student learns
    from labelled examples alone, with the run's own optimizer and number of steps. The result is
    kept under its fingerprint like a teacher, so that a sweep pays for it once.

    Raises:
        ValueError: as `check_start`, or the folder holds another student.
    """
    check_start(cfg, data)
    engine.seed_everything(cfg.seed)
    if cfg.start is None:
        return engine.build(cfg.student)
    if cfg.start == "labels":
        first = get_teacher(_first_stage(cfg), data)
        assert first is not None
        say(f"start    {first.name}, {'reused' if first.reused else 'trained'} on hard labels")
        engine.seed_everything(cfg.seed)
        return first.module.requires_grad_(True)
    student = _saved(cfg)
    say(f"start    {Path(cfg.start)}", soft_wrap=True)
    return student


def first_stage(cfg: DictConfig, data: Any) -> nn.Module | None:
    """The student as `start_student` found it, once more; None where it started at random."""
    if cfg.start is None:
        return None
    if cfg.start == "labels":
        first = get_teacher(_first_stage(cfg), data)
        return None if first is None else first.module
    return _saved(cfg)


def _saved(cfg: DictConfig) -> nn.Module:
    student: nn.Module = engine.build(cfg.student)
    student.load_pretrained(Path(cfg.start))  # type: ignore[operator]
    return student


def _first_stage(cfg: DictConfig) -> DictConfig:
    """The student's own first training, in the words that a teacher's training is said in."""
    name = get_class(cfg.student["_target_"]).__name__.lower()
    alone = cfg.copy()
    with open_dict(alone):
        alone.teacher = {
            "name": name,
            "label": f"student {name}, first stage",
            "learning_rate": "optimizer.lr",
            "model": cfg.student,
            "checkpoint": None,
            "inputs": "public",
            "training": {
                "max_steps": cfg.trainer.max_steps,
                "lr": cfg.optimizer.lr,
                "weight_decay": cfg.optimizer.weight_decay,
                "label_smoothing": 0.0,
            },
        }
    return alone


__all__ = ["check_start", "check_student", "first_stage", "start_student"]
