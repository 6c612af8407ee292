"""How far to trust a teacher of scores, clip by clip: CPFD's weight where there are no classes.

Every function here has one signature, `f(teacher_scores, labels, *, level_logits=None,
score_std=None, label_mask=None)`, and returns (B,) in [0, 1], detached, in float32 (float64 for
float64 scores). All of it is a *reconstruction*: CPFD (arXiv 2410.03038) is on classes, where a
teacher's own probabilities say how sure it is. A score says nothing of the kind, so something else
must: the teacher's distribution over levels, how far its answers to several prompts (or several
teachers) lie apart, or the label.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

from coefvq.losses._contract import check_choice, check_labels, readable
from coefvq.losses._scores import check_above_zero, check_scores


class ScoreConfidence(Protocol):
    """What `score_cpfd_loss` takes as `confidence`."""

    def __call__(
        self,
        teacher_scores: Tensor,
        labels: Tensor | None,
        /,
        *,
        level_logits: Tensor | None = None,
        score_std: Tensor | None = None,
        label_mask: Tensor | None = None,
    ) -> Tensor:
        """Return (B,), the confidence of each sample."""
        ...


def level_spread(
    teacher_scores: Tensor,
    labels: Tensor | None,
    *,
    level_logits: Tensor | None = None,
    score_std: Tensor | None = None,
    label_mask: Tensor | None = None,
) -> Tensor:
    """1 − 2σ, σ the standard deviation of the levels' worth, evenly from 1 to 0. Label-free.

    1 for a teacher that is sure of one level, 0 for one that wavers between the best and the worst
    alone. Knows that levels are ordered: doubt between neighbours is a small doubt.

    >>> best_or_worst = torch.tensor([[0.0, -torch.inf, 0.0]])
    >>> level_spread(torch.zeros(1), None, level_logits=best_or_worst).item()
    0.0
    """
    p, worth = _levels(teacher_scores, level_logits)
    mean = p @ worth
    variance = (p * (worth - mean[:, None]).square()).sum(-1)
    return (1 - 2 * variance.sqrt()).clamp(0.0, 1.0)


def level_entropy(
    teacher_scores: Tensor,
    labels: Tensor | None,
    *,
    level_logits: Tensor | None = None,
    score_std: Tensor | None = None,
    label_mask: Tensor | None = None,
) -> Tensor:
    """1 − H(p) / log K over the K levels. Label-free; does not know that levels are ordered.

    >>> level_entropy(torch.zeros(1), None, level_logits=torch.zeros(1, 5)).item()
    0.0
    """
    p, _ = _levels(teacher_scores, level_logits)
    entropy = -torch.xlogy(p, p).sum(-1)
    return (1 - entropy / math.log(p.shape[-1])).clamp(0.0, 1.0)


def uniform(
    teacher_scores: Tensor,
    labels: Tensor | None,
    *,
    level_logits: Tensor | None = None,
    score_std: Tensor | None = None,
    label_mask: Tensor | None = None,
) -> Tensor:
    """1 for everyone: CPFD becomes PFD, to the bit. The control of an ablation.

    >>> uniform(torch.zeros(2), None).tolist()
    [1.0, 1.0]
    """
    teacher, _ = check_scores(teacher_scores.detach(), teacher_scores)
    return torch.ones_like(teacher)


@dataclass(frozen=True)
class StdConfidence:
    """1 / (1 + (σ/scale)²), σ what the teacher holds its score to be off. Label-free.

    σ is `TeacherOutput.score_std`: of the distribution over answers, of the answers to several
    prompts, or of several teachers.

    Args:
        scale: the σ at which half of the trust is left, in the unit of the scores.

    >>> StdConfidence(10.0)(torch.zeros(2), None, score_std=torch.tensor([0.0, 10.0])).tolist()
    [1.0, 0.5]
    """

    scale: float

    def __post_init__(self) -> None:
        check_above_zero("scale", self.scale)

    def __call__(
        self,
        teacher_scores: Tensor,
        labels: Tensor | None,
        /,
        *,
        level_logits: Tensor | None = None,
        score_std: Tensor | None = None,
        label_mask: Tensor | None = None,
    ) -> Tensor:
        """Return (B,)."""
        if score_std is None:
            raise ValueError(
                "this confidence is made from the teacher's score_std, which it does not give; "
                "choose a teacher that does, or another confidence"
            )
        names = ("teacher_scores", "score_std")
        std = check_scores(teacher_scores.detach(), score_std, names=names)[1]
        if readable(std) and bool((std < 0).any()):
            row = int((std < 0).nonzero()[0])
            raise ValueError(
                f"score_std must be 0 or more, got {std[row].item()} in row {row}; give standard "
                "deviations, for instance of agreement_std"
            )
        return 1 / (1 + (std / self.scale).square())


@dataclass(frozen=True)
class LabelCloseness:
    """1 / (1 + (d/scale)²), d the distance of the teacher's score from the label.

    The twin of `true_probability`: punishes confident mistakes and trusts wrong labels.

    Args:
        scale: the distance at which half of the trust is left, in the unit of the scores.
        otherwise: what says the confidence of clips without a label.

    >>> LabelCloseness(5.0)(torch.tensor([40.0, 7.0]), torch.tensor([50.0, 7.0])).tolist()
    [0.20000000298023224, 1.0]
    """

    scale: float
    otherwise: ScoreConfidence = uniform

    def __post_init__(self) -> None:
        check_above_zero("scale", self.scale)

    def __call__(
        self,
        teacher_scores: Tensor,
        labels: Tensor | None,
        /,
        *,
        level_logits: Tensor | None = None,
        score_std: Tensor | None = None,
        label_mask: Tensor | None = None,
    ) -> Tensor:
        """Return (B,)."""
        teacher, _ = check_scores(teacher_scores.detach(), teacher_scores)
        safe, mask = check_labels(labels, label_mask, teacher, "regression")
        own = 1 / (1 + ((teacher - safe) / self.scale).square())
        if mask is None:
            return own
        rest = self.otherwise(
            teacher_scores,
            labels,
            level_logits=level_logits,
            score_std=score_std,
            label_mask=label_mask,
        )
        return torch.where(mask, own, rest.to(own.dtype))


NAMES: Final = ("std", "level_spread", "level_entropy", "closeness", "uniform")


def score_confidence(name: str, scale: float = 10.0) -> ScoreConfidence:
    """A confidence by its name, as a config words it.

    Args:
        name: `"std"` (`StdConfidence`), `"closeness"` (`LabelCloseness`), `"level_spread"`,
            `"level_entropy"` or `"uniform"`.
        scale: of the first two, in the unit of the scores.

    >>> score_confidence("std", scale=5.0)
    StdConfidence(scale=5.0)
    """
    check_choice("confidence", name, NAMES)
    functions = {"level_spread": level_spread, "level_entropy": level_entropy, "uniform": uniform}
    if name in functions:
        return functions[name]
    return StdConfidence(scale) if name == "std" else LabelCloseness(scale)


def agreement_std(scores: Tensor) -> Tensor:
    """How far several answers lie apart: a `score_std` from several prompts or teachers.

    Args:
        scores: (K, B), the scores of K prompts or teachers, K at least 2.

    Returns:
        (B,) standard deviation over the K, detached; float32, or float64 for float64 scores.

    >>> agreement_std(torch.tensor([[40.0, 7.0], [50.0, 7.0]])).tolist()
    [5.0, 0.0]
    """
    if scores.ndim != 2 or scores.shape[0] < 2:
        raise ValueError(
            f"scores have shape {tuple(scores.shape)}; (K, B) with K of 2 or more is expected: one "
            "teacher, asked once, cannot disagree with itself"
        )
    values = scores.detach()
    values = values if values.dtype == torch.float64 else values.float()
    return values.std(0, correction=0)


def _levels(teacher_scores: Tensor, level_logits: Tensor | None) -> tuple[Tensor, Tensor]:
    if level_logits is None:
        raise ValueError(
            "this confidence is made from the teacher's level_logits, which it does not give; "
            "choose a teacher that does, or another confidence"
        )
    if level_logits.ndim != 2 or len(level_logits) != len(teacher_scores):
        raise ValueError(
            f"level_logits have shape {tuple(level_logits.shape)} for "
            f"{len(teacher_scores)} scores; (B, levels) is expected"
        )
    logits = level_logits.detach()
    logits = logits if logits.dtype == torch.float64 else logits.float()
    worth = torch.linspace(1.0, 0.0, logits.shape[-1], dtype=logits.dtype, device=logits.device)
    return logits.softmax(-1), worth
