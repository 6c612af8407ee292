"""How far the student says what its teacher says, whether or not either is right."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchmetrics.functional.regression import pearson_corrcoef

from coefvq.evaluation.scores import Threshold, checked_logits, decisions, probabilities
from coefvq.types import TaskSpec


def compute_agreement(
    student_logits: Tensor,
    teacher_logits: Tensor,
    task: TaskSpec,
    *,
    student_threshold: Threshold = None,
    teacher_threshold: Threshold = None,
) -> dict[str, float]:
    """Compare two models clip by clip; no label is needed.

    Args:
        student_logits: (N,), (N, C) or (N, L).
        teacher_logits: the same shape.
        task: what both mean.
        student_threshold: the student's own threshold on the probability; None: 0.5.
        teacher_threshold: the teacher's.

    Returns:
        - `equal_decisions`: share of clips, in [0, 1], that both decide alike (multilabel: share
          of label decisions). Not for regression.
        - `kl`: mean of KL(teacher ‖ student) at temperature 1, in nats, 0 for equal outputs
          (multilabel: mean over clips and labels). Not for regression.
        - `score_correlation`: Pearson's correlation over clips, in [-1, 1], of the probability of
          each class, averaged over the classes where both vary; regression: of the scores.

        NaN where undefined: no clips, or a model that gives every clip one score.

    Raises:
        ValueError: logits that do not fit the task, or of different shapes.

    >>> task = TaskSpec("degraded", "binary", ("clean", "degraded"))
    >>> compute_agreement(torch.tensor([1.0, -1.0]), torch.tensor([1.0, 1.0]), task)[
    ...     "equal_decisions"
    ... ]
    0.5
    """
    student = checked_logits(student_logits, task, whose="student_logits")
    teacher = checked_logits(teacher_logits, task, whose="teacher_logits")
    if student.shape != teacher.shape:
        raise ValueError(
            f"student_logits of shape {tuple(student.shape)} and teacher_logits of shape "
            f"{tuple(teacher.shape)} differ; compare the same clips in the same order"
        )
    if task.kind == "regression":
        return {"score_correlation": _correlation(student, teacher)}
    student_p, teacher_p = probabilities(student, task), probabilities(teacher, task)
    equal = decisions(student_p, task, student_threshold) == decisions(
        teacher_p, task, teacher_threshold
    )
    return {
        "equal_decisions": equal.double().mean().item(),
        "kl": _kl(student, teacher, task).mean().item(),
        "score_correlation": _correlation(student_p, teacher_p),
    }


def _kl(student: Tensor, teacher: Tensor, task: TaskSpec) -> Tensor:
    """KL(teacher ‖ student) in nats, (N,) or (N, L), from log-probabilities only."""
    if task.kind == "multiclass":
        log_s, log_t = student.log_softmax(dim=-1), teacher.log_softmax(dim=-1)
        return (log_t.exp() * (log_t - log_s)).sum(dim=-1).clamp_min(0)
    logsigmoid = torch.nn.functional.logsigmoid
    yes = teacher.sigmoid() * (logsigmoid(teacher) - logsigmoid(student))
    no = (-teacher).sigmoid() * (logsigmoid(-teacher) - logsigmoid(-student))
    return (yes + no).clamp_min(0)


def _correlation(a: Tensor, b: Tensor) -> float:
    a, b = (x[:, None] if x.ndim == 1 else x for x in (a, b))
    values = [
        float(pearson_corrcoef(x, y))
        for x, y in zip(a.T, b.T, strict=True)
        if len(x) > 1 and x.std() > 1e-9 and y.std() > 1e-9
    ]
    return sum(values) / len(values) if values else math.nan
