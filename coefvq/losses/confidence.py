"""How far to trust a teacher, sample by sample: the open part of CPFD.

Every function here has one signature, `f(student_logits, teacher_logits, labels, *, task,
label_mask=None)`, and returns (B,) (multilabel: (B, L), one per label) in [0, 1], detached, made
at temperature 1, in float32 (float64 for float64 logits). The definitions are a *reconstruction*:
the readable text of CPFD (arXiv 2410.03038) does not give one.

Those that need a label fall back to `max_probability` where `label_mask` is False or `labels` is
None; the label's value is not read there. All of them refuse regression and what the losses refuse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from coefvq.losses._contract import (
    IMPOSSIBLE,
    check_choice,
    check_labels,
    check_pair,
    check_task,
    check_unit,
    log_classes,
)
from coefvq.losses._hard import hard_elements
from coefvq.losses._numbers import check_not_negative
from coefvq.losses._trust import ConfidenceFunction as ConfidenceFunction
from coefvq.losses._trust import check_trust


def true_probability(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None,
    *,
    task: str,
    label_mask: Tensor | None = None,
) -> Tensor:
    """Probability that the teacher gives to the label: p[y]; binary y·p + (1−y)(1−p).

    Punishes confident mistakes, and trusts wrong labels.

    >>> true_probability(torch.zeros(1), torch.zeros(1), torch.ones(1), task="binary").item()
    0.5
    """
    _, teacher, safe, mask = _checked(student_logits, teacher_logits, labels, task, label_mask)
    if task == "multiclass":
        own = teacher.softmax(-1).gather(-1, safe[:, None])[:, 0]
    else:
        own = torch.lerp(teacher.neg().sigmoid_(), teacher.sigmoid(), safe)  # exact for 0 and 1
    return _or_label_free(own, teacher, task, mask)


def max_probability(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None,
    *,
    task: str,
    label_mask: Tensor | None = None,
) -> Tensor:
    """Largest probability that the teacher gives to any class; binary max(p, 1−p). Label-free.

    >>> max_probability(torch.zeros(1), torch.zeros(1), None, task="binary").item()
    0.5
    """
    _, teacher, _, _ = _checked(student_logits, teacher_logits, None, task, None)
    return _largest(teacher, task)


def normalized_entropy(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None,
    *,
    task: str,
    label_mask: Tensor | None = None,
) -> Tensor:
    """1 − H(p) / log K, K the number of classes that are not masked by −inf. Label-free, smooth.

    >>> normalized_entropy(torch.zeros(1), torch.zeros(1), None, task="binary").item()
    0.0
    """
    _, teacher, _, _ = _checked(student_logits, teacher_logits, None, task, None)
    if task == "multiclass":
        log_p = teacher.log_softmax(-1).clamp_min_(-IMPOSSIBLE)  # 0 · ∞ becomes 0 · 1e30
        entropy = -teacher.softmax(-1).mul_(log_p).sum(-1)
        entropy = entropy / log_classes(teacher).clamp_min(math.log(2))  # one class is certain
    else:
        yes, no = teacher.sigmoid(), (-teacher).sigmoid()
        entropy = -(torch.xlogy(yes, yes) + torch.xlogy(no, no)) / math.log(2)
    return (1 - entropy).clamp(0.0, 1.0)


def margin(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None,
    *,
    task: str,
    label_mask: Tensor | None = None,
) -> Tensor:
    """Largest minus second-largest probability of the teacher; binary |2p − 1|. Label-free.

    >>> margin(torch.zeros(1), torch.zeros(1), None, task="binary").item()
    0.0
    """
    _, teacher, _, _ = _checked(student_logits, teacher_logits, None, task, None)
    if task == "multiclass":
        first, second = teacher.softmax(-1).topk(2, dim=-1).values.unbind(-1)
        return first - second
    return (teacher.sigmoid() - (-teacher).sigmoid()).abs()


def correctness(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None,
    *,
    task: str,
    label_mask: Tensor | None = None,
) -> Tensor:
    """1 where the teacher's decision is the label, else 0: a gate.

    Decisions are argmax, or p > ½; soft binary labels are read as y > ½.

    >>> correctness(torch.zeros(1), torch.ones(1), torch.ones(1), task="binary").item()
    1.0
    """
    _, teacher, safe, mask = _checked(student_logits, teacher_logits, labels, task, label_mask)
    right = teacher.argmax(-1) == safe if task == "multiclass" else (teacher > 0) == (safe > 0.5)
    return _or_label_free(right.to(teacher.dtype), teacher, task, mask)


def relative(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None,
    *,
    task: str,
    label_mask: Tensor | None = None,
) -> Tensor:
    """1 − exp(−CE_student / CE_teacher): high where the teacher beats the student.

    The weight of WSLD (Zhou et al., ICLR 2021), which uses it on every sample. Where both are
    perfect it is 0: there is nothing left to learn.

    >>> round(relative(torch.zeros(1), torch.zeros(1), torch.ones(1), task="binary").item(), 4)
    0.6321
    """
    student, teacher, safe, mask = _checked(
        student_logits, teacher_logits, labels, task, label_mask
    )
    least = torch.finfo(teacher.dtype).eps
    ratio = hard_elements(student, safe, task) / hard_elements(teacher, safe, task).clamp_min(least)
    return _or_label_free(-torch.expm1(-ratio), teacher, task, mask)


def uniform(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None,
    *,
    task: str,
    label_mask: Tensor | None = None,
) -> Tensor:
    """1 for everyone: CPFD becomes PFD, to the bit. The control of an ablation.

    >>> uniform(torch.zeros(1), torch.zeros(1), None, task="binary").item()
    1.0
    """
    _, teacher, _, _ = _checked(student_logits, teacher_logits, None, task, None)
    return torch.ones_like(_largest(teacher, task))


NAMES: Final = (
    "true_probability",
    "max_probability",
    "normalized_entropy",
    "margin",
    "correctness",
    "relative",
    "uniform",
)
"""The functions of this file, which go by their names wherever a confidence is asked for."""


def by_name(confidence: ConfidenceFunction | str) -> ConfidenceFunction:
    """The function of that name; a function is handed through.

    >>> by_name("margin") is margin
    True
    """
    if isinstance(confidence, str):
        check_choice("confidence", confidence, NAMES)
        function: ConfidenceFunction = globals()[confidence]
        return function
    if not callable(confidence):
        raise ValueError(
            f"confidence must be a function or one of {', '.join(NAMES)}, "
            f"got {type(confidence).__name__}"
        )
    return confidence


@dataclass(frozen=True)
class Confidence:
    """A confidence function with options; itself one, so that it goes wherever a function goes.

    c ← max(c^exponent, floor), then c / mean(c) if `normalize`, then 1 + strength · (c − 1).

    Args:
        function: one of this file, or its name, or your own.
        exponent: at least 0; above 1 it separates sure from fairly sure, 0 makes everyone 1.
        floor: in [0, 1]; nobody is trusted less.
        normalize: divide by the mean over the batch (multilabel: over batch and labels), which
            keeps the overall strength of PFD, so that only *which* samples differ. Values may then
            exceed 1, and depend on the batch that the sample is in. All 0 stays 0.
        strength: in [0, 1], from PFD (every c is 1) to c itself. The warm-up, without state: a loop
            passes `dataclasses.replace(confidence, strength=min(1.0, step / warmup_steps))`.

    Raises:
        ValueError: an option out of its range.

    >>> doubt = torch.zeros(2), torch.zeros(2), None
    >>> Confidence(max_probability, exponent=2.0)(*doubt, task="binary").tolist()
    [0.25, 0.25]
    """

    function: ConfidenceFunction | str
    exponent: float = 1.0
    floor: float = 0.0
    normalize: bool = False
    strength: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "function", by_name(self.function))
        check_not_negative("confidence exponent", self.exponent)
        check_unit("confidence floor", self.floor)
        check_unit("confidence strength", self.strength)

    def __call__(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None,
        /,
        *,
        task: str,
        label_mask: Tensor | None = None,
    ) -> Tensor:
        """Return the function's confidence with the options applied."""
        value = by_name(self.function)(
            student_logits, teacher_logits, labels, task=task, label_mask=label_mask
        )
        value = check_trust(value, student_logits, teacher_logits, task)
        value = value.pow(self.exponent).clamp_min(self.floor)
        if self.normalize:
            mean = value.mean()
            value = value / torch.where(mean > 0, mean, 1.0)
        return torch.lerp(torch.ones_like(value), value, self.strength)  # exact at both ends


def _checked(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None,
    task: str,
    label_mask: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    check_task(task)
    student, teacher = check_pair(student_logits.detach(), teacher_logits, task)
    return student, teacher, *check_labels(labels, label_mask, student, task)


def _largest(teacher: Tensor, task: str) -> Tensor:
    return teacher.softmax(-1).amax(-1) if task == "multiclass" else teacher.abs().sigmoid()


def _or_label_free(own: Tensor, teacher: Tensor, task: str, mask: Tensor | None) -> Tensor:
    if mask is None:
        return own
    return torch.where(mask if own.ndim == 1 else mask[:, None], own, _largest(teacher, task))
