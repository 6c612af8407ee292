"""What `teacher.…` may say: refused before a clip is read or a teacher is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from omegaconf import DictConfig, OmegaConf, open_dict

from coefvq.teacher_supply.members import member_config, member_words, weighting_word
from coefvq.teacher_supply.numbers import is_number
from coefvq.teacher_supply.pair_words import check_frames, check_pretraining

_FEATURE_LOSSES = {
    "AttentionTransferLoss",
    "CKALoss",
    "ContrastiveKDLoss",
    "FeatureKDLoss",
    "RKDLoss",
    "SimilarityPreservingLoss",
}
"""Losses that read a teacher's features whatever their arguments are."""

_UNREAD: dict[str, dict[str, Any]] = {
    "cached": {"checkpoint": None, "cache": "auto", "cache_dtype": "float32"},
    "table": {"checkpoint": None, "cache": "auto", "cache_dtype": "float32", "views": None,
              "view_invariant": False},
    "ensemble": {"checkpoint": None},
}  # fmt: skip
"""Words that a kind of teacher has no use for, with the value that says nothing."""

_CHOICES = {
    "cache": ("auto", "off"),
    "cache_dtype": ("float32", "float16"),
    "calibration": (None, "stored", "temperature"),
    "other_versions": (True, False),
    "preflight": (True, False),
    "view_invariant": (True, False),
}


def check_teacher_words(cfg: DictConfig) -> None:
    """Refuse what no teacher could do, and words that would be ignored.

    Args:
        cfg: a config of `conf/train.yaml`.

    Raises:
        ValueError: with one sentence.
    """
    teacher = cfg.teacher
    for key, allowed in _CHOICES.items():
        value = teacher.get(key, allowed[0])
        if not any(value is choice or (value == choice and choice) for choice in allowed):
            words = ", ".join("null" if word is None else str(word) for word in allowed[:-1])
            last = str(allowed[-1])
            if isinstance(allowed[-1], bool):
                words, last = "true", "false"
            raise ValueError(f"teacher.{key} is {words} or {last}, got {value!r}")
    baseline = teacher.get("baseline")
    if baseline is not None and not is_number(baseline, -1.0, 1.0):
        raise ValueError(
            f"teacher.baseline={baseline} is no value of the metric that the teacher is scored by; "
            "give a number up to 1, such as the f1 (regression: srcc) of a run without a teacher"
        )
    for key, silent in _UNREAD.get(teacher.kind, {}).items():
        if teacher.get(key, silent) != silent:
            raise ValueError(
                f"teacher.{key}={teacher[key]} is for a teacher that is asked here, and "
                f"teacher={teacher.name} is not; leave it out"
            )
    if teacher.get("calibration") == "stored" and teacher.kind != "cached":
        raise ValueError(
            "teacher.calibration=stored applies what lies beside a cache, and "
            f"teacher={teacher.name} reads none; choose temperature"
        )
    check_pretraining(teacher.get("pretraining"))
    check_frames(cfg)
    _check_views(cfg)
    _check_folds(teacher)
    _check_features(cfg)
    if teacher.kind == "table":
        _check_table(teacher)
    if teacher.kind == "cached":
        _check_path(teacher, "the folder that python -m coefvq.cache_teacher wrote and named")
    if teacher.kind == "ensemble":
        _check_ensemble(cfg)


def check_teacher_task(cfg: DictConfig, task: Any) -> None:
    """Refuse what does not go with the task, which only the data know.

    Raises:
        ValueError: a calibration or a weighting of probabilities for a regression, or a baseline
            that the task's metric cannot have.
    """
    teacher = cfg.teacher
    if task.kind != "regression":
        if teacher.get("baseline") is not None and teacher.baseline < 0:
            raise ValueError(
                f"teacher.baseline={teacher.baseline} is no f1, which is from 0 to 1; give that of "
                "a run without a teacher"
            )
        return
    if teacher.get("calibration") == "temperature":
        raise ValueError(
            f"teacher.calibration needs probabilities, but {task.name!r} is a regression; set "
            "teacher.calibration=null"
        )
    if teacher.kind == "ensemble" and weighting_word(teacher) not in ("uniform", "fixed"):
        raise ValueError(
            f"teacher.weighting={teacher.weighting} needs probabilities, which a regression has "
            "not; choose uniform or fixed"
        )


def views_needed(policy: str, kind: str) -> str:
    """What to say where frames are drawn anew and nothing says what a kept answer is worth."""
    live = ", or teacher.cache=off to ask the teacher live at each step" if kind == "model" else ""
    return (
        f"data.train_sampling={policy} shows other frames of a clip each epoch, so that a "
        "teacher's answer cannot be kept; set teacher.views=8 to keep and draw from so many "
        "fixed views, teacher.view_invariant=true if the answer holds for any frames"
        f"{live}"
    )


def _check_views(cfg: DictConfig) -> None:
    teacher = cfg.teacher
    views, invariant = teacher.get("views"), teacher.get("view_invariant")
    if views is not None and not (_is_whole(views) and views >= 1):
        raise ValueError(f"teacher.views is a number of views from 1, got {views!r}")
    if views is not None and invariant:
        raise ValueError(
            f"teacher.views={views} keeps several views because each has its own answer, and "
            "teacher.view_invariant=true says that one answer holds for all; leave out one"
        )
    kept = teacher.kind == "cached" or (
        teacher.kind == "model"
        and teacher.get("model") is not None
        and teacher.get("cache") == "auto"
    )
    policy = cfg.get("data", {}).get("train_sampling")
    if views is not None and "train_sampling" in cfg.data and policy != "random_segments":
        raise ValueError(
            f"teacher.views={views} is for frames that are drawn anew "
            "(data.train_sampling=random_segments), and this run shows the same ones each epoch; "
            "leave it out"
        )
    drawn = kept and "student" in cfg.phases and policy == "random_segments"
    if drawn and views is None and not invariant:
        raise ValueError(views_needed(policy, teacher.kind))


def _check_folds(teacher: DictConfig) -> None:
    folds = teacher.get("folds")
    if folds is None:
        return
    if not (_is_whole(folds) and folds >= 2):
        raise ValueError(f"teacher.folds is a number of folds from 2, got {folds!r}")
    if teacher.kind != "model":
        why = {
            "cached": "a cache answers as it was written (with teacher.folds there, where that is "
            "wanted)",
            "table": "a table trains none",
            "ensemble": "the members of an ensemble are trained on all labelled clips",
        }[teacher.kind]
        raise ValueError(
            f"teacher.folds={folds} trains teachers of its own, but teacher={teacher.name} is no "
            f"single model: {why}; leave teacher.folds out"
        )
    if teacher.get("checkpoint") is not None:
        raise ValueError(
            "teacher.folds trains teachers of its own, but teacher.checkpoint is set; leave out one"
        )


def _check_features(cfg: DictConfig) -> None:
    teacher = cfg.teacher
    several = teacher.kind == "ensemble" and len(member_words(teacher)) > 1
    if teacher.kind != "table" and not several and teacher.get("folds") is None:
        return
    who = "an out-of-fold teacher" if teacher.kind == "model" else f"teacher={teacher.name}"
    if term := term_of_features(cfg):
        raise ValueError(
            f"{term}, but {who} answers with logits alone and has no features; choose an objective "
            "of logits, such as objective=logit_kd, or a single model"
        )


def term_of_features(cfg: DictConfig) -> str | None:
    """Name the first term of the objective that reads a teacher's features; None if none does."""
    terms = OmegaConf.to_container(cfg.objective.terms, resolve=False)
    assert isinstance(terms, dict)
    for name, term in terms.items():
        loss = str(term.get("_target_", "")).rpartition(".")[2]
        if loss in _FEATURE_LOSSES or term.get("teacher_width") is not None:
            return f"objective.terms.{name} is a {loss}, which reads the teacher's features"
    return None


def _check_table(teacher: DictConfig) -> None:
    from coefvq.teachers.table import TableKind

    if teacher.numbers not in get_args(TableKind):
        known = " or ".join(get_args(TableKind))
        raise ValueError(f"teacher.numbers is {known}, got {teacher.numbers!r}")
    _check_path(
        teacher,
        "a CSV, JSON Lines or Parquet file with an id and the scores of each clip",
    )


def _check_path(teacher: DictConfig, what: str) -> None:
    if teacher.path is None:
        raise ValueError(f"teacher={teacher.name} needs teacher.path, {what}")
    if not Path(teacher.path).expanduser().exists():
        raise ValueError(f"teacher.path={teacher.path} does not exist; give {what}")


def _check_ensemble(cfg: DictConfig) -> None:
    from coefvq.teachers.ensemble import EnsembleTeacher

    teacher = cfg.teacher
    words = member_words(teacher)
    if not words:
        raise ValueError("teacher.members is empty; name at least one teacher")
    weights = teacher.weights
    if weights is None and weighting_word(teacher) == "fixed":
        raise ValueError(
            f"teacher.weighting=fixed needs teacher.weights, one number for each of the "
            f"{len(words)} members, such as [{', '.join(['1'] * len(words))}]"
        )
    if weights is not None:
        listed = OmegaConf.is_list(weights)
        if not listed or not all(is_number(w, 0.0, float("inf")) for w in weights):
            raise ValueError(
                f"teacher.weights is a list of numbers from 0, one for each member, got {weights}"
            )
        if len(weights) != len(words):
            raise ValueError(
                f"teacher.weights has {len(weights)} numbers for {len(words)} members; give one "
                "for each"
            )
        weights = [float(weight) for weight in weights]
    try:
        EnsembleTeacher(
            [_nobody] * len(words),
            "binary",
            weighting=weighting_word(teacher),  # type: ignore[arg-type]
            weights=weights,
            labels_of=(),
        )
    except ValueError as error:
        raise ValueError(
            f"teacher.weighting={teacher.weighting}, teacher.weights={teacher.weights}: {error}"
        ) from None
    for word in words:
        member = member_config(cfg, word)
        if member.teacher.kind == "model" and member.teacher.model is None:
            raise ValueError(f"teacher.members names {word!r}, which is no teacher; leave it out")
        with open_dict(member):  # what it reads of a teacher was checked for the ensemble
            member.objective = {"terms": {}}
        try:
            check_teacher_words(member)
        except ValueError as error:
            raise ValueError(f"teacher.members, {word!r}: {error}") from None


def _nobody(batch: Any) -> Any:
    raise AssertionError("a stand-in is never asked")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


__all__ = ["check_teacher_task", "check_teacher_words", "term_of_features", "views_needed"]
