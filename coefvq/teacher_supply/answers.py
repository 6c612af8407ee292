"""Does the objective read what student and teacher answer: refused before a teacher is trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from coefvq.teacher_supply.members import member_words
from coefvq.types import TaskSpec

_CONFIDENCES = {"std": "score_std", "level_spread": "level_logits", "level_entropy": "level_logits"}
"""What confidences in scores are made from; the others need no more than the score."""


def check_answers(cfg: DictConfig, task: TaskSpec) -> None:
    """Refuse terms of scores that student or teacher have no answer for.

    Of models from elsewhere, caches and tables nothing is known here: they are asked, and the loss
    refuses what they leave out.

    Args:
        cfg: a config of `conf/train.yaml`.
        task: of the data; all but a regression pass.

    Raises:
        ValueError: naming the term, what it reads, and who does not give it.
    """
    if task.kind != "regression" or "student" not in cfg.phases:
        return
    student, teacher = _of_student(cfg.student), _of_teacher(cfg.teacher)
    for name, loss, ours, theirs in _read(cfg):
        what = f"objective.terms.{name} is a {loss}"
        if ours and student is not None and ours not in student:
            raise ValueError(
                f"{what}, which reads the student's distribution over levels, and this student "
                "says the score alone; set student.levels=5 with a blind student, or choose an "
                "objective of scores, such as objective=score_kd"
            )
        if not theirs or teacher is None or theirs in teacher:
            continue
        if theirs == "score_std":
            raise ValueError(
                f"{what} with objective.confidence=std, which reads how far the teacher holds its "
                f"score to be off, and teacher={cfg.teacher.name} does not say it; set "
                "teacher.folds=5, choose teacher=lmm_vqa, or set objective.confidence=uniform"
            )
        raise ValueError(
            f"{what}, which reads the teacher's distribution over levels, and teacher="
            f"{cfg.teacher.name} has none (nor have several teachers together); choose "
            "teacher=lmm_vqa with the question level, or what reads scores alone, such as "
            "objective=score_kd or objective.confidence=uniform"
        )


def _read(cfg: DictConfig) -> Iterator[tuple[str, str, str, str]]:
    """Each term's name and loss, and which answers it reads of the student and of the teacher."""
    terms: Any = OmegaConf.to_container(OmegaConf.masked_copy(cfg, ["objective"]), resolve=False)
    for name, term in terms["objective"]["terms"].items():
        if "loss" in term:  # scores in points
            term = term["loss"]
        loss = str(term.get("_target_", "")).rpartition(".")[2]
        if loss == "LevelKDLoss":
            yield name, loss, "level_logits", "level_logits"
        elif loss == "LevelAnswerLoss":
            yield name, loss, "level_logits", ""
        elif loss == "ScoreCPFDLoss":
            confidence = OmegaConf.select(cfg, "objective.confidence")
            yield name, loss, "", _CONFIDENCES.get(str(confidence), "")


def _of_student(student: DictConfig) -> set[str] | None:
    if not str(student.get("_target_", "")).startswith("coefvq."):
        return None
    return {"level_logits"} if student.get("levels") else set()


def _of_teacher(teacher: DictConfig) -> set[str] | None:
    """What a teacher that is trained here will answer beside its score; None: not known."""
    if teacher.kind == "ensemble":
        return {"score_std"} if len(member_words(teacher)) > 1 else None
    if teacher.get("folds") is not None:
        return {"score_std"}
    target = str(OmegaConf.select(teacher, "model._target_") or "")
    if teacher.kind != "model" or not target.startswith("coefvq."):
        return None
    if not target.endswith(".LMMVQA"):
        return set()
    return {"score_std"} | (
        {"level_logits"} if "level" in teacher.model.config.questions else set()
    )


__all__ = ["check_answers"]
