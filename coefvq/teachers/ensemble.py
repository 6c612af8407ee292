"""Several teachers as one: their probabilities are mixed, clip by clip."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from coefvq.losses.multi_teacher import TeacherWeighting, multi_teacher_weights
from coefvq.types import Batch, TaskKind, TeacherOutput

Teacher = Callable[[Batch], TeacherOutput]


def mix_logits(logits: Tensor, weights: Tensor, task: TaskKind) -> Tensor:
    r"""Logits of mixed probabilities: p = Σ_k w_k p_k, at T = 1.

    binary, multilabel   log p - log(1 - p), each label on its own
    multiclass           log p, (B, C)
    regression           Σ_k w_k s_k, the mixed scores

    All in logarithms: logits of ±1e4 stay finite.

    Args:
        logits: (K, B), (K, B, C) or (K, B, L) of K teachers; -inf masks a class.
        weights: (K, B), summing to 1 over the teachers.
        task: what the logits mean.

    Returns:
        (B,), (B, C) or (B, L), float32 (float64 for float64 logits).

    >>> teachers = torch.tensor([[4.0], [0.25]]).log()  # 0.8 and 0.2
    >>> round(mix_logits(teachers, torch.full((2, 1), 0.5), "binary").sigmoid().item(), 4)
    0.5
    """
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    weights = weights.to(logits).reshape(*weights.shape, *[1] * (logits.ndim - 2))
    if task == "regression":
        return (weights * logits).sum(0)
    share = weights.log()
    if task == "multiclass":
        return (share + logits.log_softmax(-1)).logsumexp(0)
    yes = (share + F.logsigmoid(logits)).logsumexp(0)
    no = (share + F.logsigmoid(-logits)).logsumexp(0)
    return yes - no


def disagreement(scores: Tensor, weights: Tensor, task: TaskKind) -> Tensor | None:
    """How far the scores of several teachers lie apart: a `score_std`. None unless a regression.

    Args:
        scores: (K, B) of K teachers, K at least 2.
        weights: (K, B), summing to 1 over the teachers.
        task: what the scores mean.

    Returns:
        (B,) weighted standard deviation over the teachers, float32.

    >>> disagreement(torch.tensor([[3.0], [4.0]]), torch.full((2, 1), 0.5), "regression").item()
    0.5
    """
    if task != "regression":
        return None
    scores, weights = scores.float(), weights.float()
    mean = (weights * scores).sum(0)
    return (weights * (scores - mean).square()).sum(0).sqrt()


class EnsembleTeacher:
    """Ask several teachers, live, cached or tables, and mix what they say.

    Logits come out, and for a regression `score_std`, how far the members' scores lie apart;
    features of different teachers have nothing in common. One member is passed through as it is,
    with everything it has.

    Args:
        members: K teachers of one task.
        task: what their logits mean.
        weighting: `"uniform"`, `"fixed"`, `"cross_entropy"` or `"entropy"`, as
            `coefvq.losses.multi_teacher.multi_teacher_weights` has them; the last two are not for
            a regression.
        weights: K numbers, for `"fixed"` and only there.
        labels_of: ids of the clips whose labels `"cross_entropy"` may read: the labelled training
            clips. Every other clip is weighted by `"entropy"`; reading the labels of validation and
            test clips would make the ensemble look better there than it is.

    Raises:
        ValueError: no member, or options that do not fit.
    """

    def __init__(
        self,
        members: Sequence[Teacher],
        task: TaskKind,
        *,
        weighting: TeacherWeighting = "uniform",
        weights: Sequence[float] | None = None,
        labels_of: Collection[str] | None = None,
    ) -> None:
        if not members:
            raise ValueError("an ensemble needs at least one teacher, got none")
        if weighting not in get_args(TeacherWeighting):
            raise ValueError(
                f"weighting {weighting!r} is unknown; choose one of "
                f"{', '.join(get_args(TeacherWeighting))}"
            )
        if task == "regression" and weighting not in ("uniform", "fixed"):
            raise ValueError(
                f"weighting {weighting!r} needs probabilities, which a regression has not; choose "
                "uniform or fixed"
            )
        if weighting == "cross_entropy" and labels_of is None:
            raise ValueError(
                "weighting 'cross_entropy' needs labels_of, the ids of the training clips whose "
                "labels it may read"
            )
        self.members, self.task = tuple(members), task
        self.weighting, self.weights = weighting, weights
        self.labels_of = frozenset(labels_of or ())
        wide = (1, 2) if task in ("multiclass", "multilabel") else (1,)
        self._weigh(torch.zeros(len(self.members), *wide))  # refuses wrong weights now

    def __call__(self, batch: Batch) -> TeacherOutput:
        """The mixed logits of a batch, on its device.

        Raises:
            ValueError: the members' logits differ in shape.
        """
        outputs = [member(batch) for member in self.members]
        if len(outputs) == 1:
            return outputs[0]
        shapes = [tuple(output.logits.shape) for output in outputs]
        if len(set(shapes)) > 1:
            raise ValueError(
                f"the teachers of an ensemble answer with logits of shapes {shapes}; "
                "give teachers of one task with the same classes"
            )
        logits = torch.stack([output.logits.float() for output in outputs])
        weights = self._weigh(logits, batch)
        return TeacherOutput(
            mix_logits(logits, weights, self.task),
            score_std=disagreement(logits, weights, self.task),
        )

    def _weigh(self, logits: Tensor, batch: Batch | None = None) -> Tensor:
        labels = mask = None
        if self.weighting == "cross_entropy" and batch is not None and batch.labels is not None:
            known = [name in self.labels_of for name in batch.ids]
            labels = batch.labels
            mask = torch.tensor(known, dtype=torch.bool, device=batch.device)
            if batch.label_mask is not None:
                mask = mask & batch.label_mask
        return multi_teacher_weights(
            logits,
            labels,
            task="binary"
            if self.task == "regression"
            else self.task,  # a shape, for uniform, fixed
            method=self.weighting,
            weights=self.weights,
            label_mask=mask,
        )


__all__ = ["EnsembleTeacher", "Teacher", "disagreement", "mix_logits"]
