"""What a model that answers questions about quality is trained by: the answer that is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, get_args

import torch
from torch import Tensor, nn

from coefvq.losses._contract import (
    Reduction,
    check_choice,
    check_labels,
    check_logits,
    check_reduction,
    check_weight,
    readable,
    reduce,
)

if TYPE_CHECKING:
    from coefvq.types import Batch, StudentOutput, TeacherOutput

AnswerTarget = Literal["linear", "nearest"]
"""How a score that lies between two answers is spread over them."""

TARGETS: Final = get_args(AnswerTarget)
NUMBERS: Final = 101


def answer_loss(
    student_logits: Tensor,
    labels: Tensor | None,
    values: Tensor | Sequence[float],
    *,
    target: AnswerTarget = "linear",
    label_mask: Tensor | None = None,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Say the answer that is worth what the label is.

    L_i = −Σ_k t_k log softmax(z_i)_k, with the target t on the two answers that the label lies
    between, in proportion to its distance from the other (`"linear"`, so that Σ t_k · v_k is the
    label itself), or on the nearest one (`"nearest"`, of two equally near the first).

    Sources: a number as text on 0 to 100 with token cross-entropy, LMM-VQA (arXiv 2408.14008),
    which is `"nearest"` with 101 answers, here normalised over the answers alone; one of five
    levels, Q-Align (Wu et al., 2023), which is `"nearest"` over equal intervals up to their edges.
    `"linear"` is the two-hot target of distributional value learning.

    Gradients flow to `student_logits`. Inside it is float32 (float64 for float64 logits).

    Args:
        student_logits: (B, A), one per answer.
        labels: (B,) in the unit of `values`; None: no sample is labelled, and the loss is 0.
        values: (A,) what each answer is worth, strictly rising or strictly falling.
        target: as above.
        label_mask: (B,) bool, True where the label counts. Elsewhere it is never read.
        sample_weight: (B,) finite and not negative. The mean divides by what it summed over.
        reduction: over samples.

    Returns:
        A scalar, or (B,) for `"none"`; nats, at least the entropy of the target; 0 where the label
        is an answer's value and the student is certain of it.

    Raises:
        ValueError: unknown option, wrong shape or dtype, values that are not ordered; on CPU
            tensors outside `torch.compile` also a label outside the values.

    >>> import torch  # 65 is two fifths of the way from 75 to 50: log 5 for a student without idea
    >>> values = [100.0, 75.0, 50.0, 25.0, 0.0]
    >>> round(answer_loss(torch.zeros(1, 5), torch.tensor([65.0]), values).item(), 4)
    1.6094
    """
    _check_options(target, reduction)
    logits = check_logits(student_logits, "multiclass")
    worth = torch.as_tensor(values, dtype=logits.dtype, device=logits.device)
    if worth.shape != logits.shape[1:]:
        raise ValueError(
            f"values have shape {tuple(worth.shape)} but the student has {logits.shape[1]} "
            "answers; give one value per answer"
        )
    safe, mask = check_labels(labels, label_mask, logits[:, 0], "regression")
    if readable(worth):
        steps = worth.diff()
        if not bool((steps > 0).all() | (steps < 0).all()):
            raise ValueError("values must rise or fall from answer to answer; sort the answers")
        low, high = worth.min(), worth.max()
        outside = (safe < low) | (safe > high)
        outside = outside if mask is None else outside & mask
        if bool(outside.any()):
            row = int(outside.nonzero()[0])
            raise ValueError(
                f"label {safe[row].item()} in row {row} is outside the answers, which are worth "
                f"{low.item():g} to {high.item():g}; correct it, or the range"
            )
    if target == "nearest":
        chosen = (safe[:, None] - worth).abs().argmin(-1)  # of two equally near the first
        wanted = torch.nn.functional.one_hot(chosen, len(worth)).to(logits.dtype)
    else:
        wanted = _two_hot(safe, worth)
    elements = -(wanted * logits.log_softmax(-1)).sum(-1)
    return reduce(elements, reduction, check_weight(sample_weight, logits), mask)


def _two_hot(labels: Tensor, worth: Tensor) -> Tensor:
    """(B, A) shares of the two values around each label; they need not be evenly spaced."""
    sign = (worth[-1] - worth[0]).sign()  # values that fall are looked up upside down
    at = torch.searchsorted(worth * sign, labels * sign).clamp(1, len(worth) - 1)
    below, above = worth[at - 1], worth[at]
    share = ((labels - below) / (above - below)).clamp(0.0, 1.0)
    wanted = torch.zeros(len(labels), len(worth), dtype=worth.dtype, device=worth.device)
    wanted.scatter_(1, (at - 1)[:, None], (1 - share)[:, None])
    wanted.scatter_(1, at[:, None], share[:, None])
    return wanted


class _AnswerLoss(nn.Module):
    """`answer_loss` over answers that are evenly worth one end of a range to the other."""

    def __init__(
        self, low: float, high: float, *, target: AnswerTarget, reduction: Reduction
    ) -> None:
        super().__init__()
        _check_options(target, reduction)
        self.low, self.high = _check_range(low, high)
        self.target: AnswerTarget = target
        self.reduction: Reduction = reduction

    def worth(self, answers: int) -> Tensor:
        """(answers,) float64, what each is worth."""
        raise NotImplementedError

    def forward(
        self,
        student_logits: Tensor,
        labels: Tensor | None,
        label_mask: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """Call `answer_loss` with this module's options."""
        return answer_loss(
            student_logits,
            labels,
            self.worth(student_logits.shape[-1]),
            target=self.target,
            label_mask=label_mask,
            sample_weight=sample_weight,
            reduction=self.reduction,
        )


class LevelAnswerLoss(_AnswerLoss):
    """`answer_loss` on `level_logits`, the best level first, evenly worth `high` down to `low`.

    For teachers and students that have them: levels are learned from scores.
    """

    def __init__(
        self,
        low: float,
        high: float,
        *,
        target: AnswerTarget = "linear",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(low, high, target=target, reduction=reduction)

    def worth(self, answers: int) -> Tensor:
        """(answers,) float64, `high` down to `low`."""
        return torch.linspace(self.high, self.low, answers, dtype=torch.float64)

    def select(
        self, student: StudentOutput, teacher: TeacherOutput | None, batch: Batch
    ) -> dict[str, Tensor | None]:
        """Pick what `forward` reads."""
        return _select(student.level_logits, batch, "level_logits")


class NumberAnswerLoss(_AnswerLoss):
    """`answer_loss` on `number_logits`: 0 to 100, evenly worth `low` to `high`."""

    def __init__(
        self,
        low: float,
        high: float,
        *,
        target: AnswerTarget = "nearest",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(low, high, target=target, reduction=reduction)

    def worth(self, answers: int) -> Tensor:
        """(101,) float64, `low` to `high`, however many answers the model has."""
        return torch.linspace(self.low, self.high, NUMBERS, dtype=torch.float64)

    def select(
        self, student: StudentOutput, teacher: TeacherOutput | None, batch: Batch
    ) -> dict[str, Tensor | None]:
        """Pick what `forward` reads."""
        return _select(getattr(student, "number_logits", None), batch, "number_logits")


def _select(logits: Tensor | None, batch: Batch, name: str) -> dict[str, Tensor | None]:
    if logits is None:
        raise ValueError(
            f"the model answers without {name}; ask it that question (a blind student: "
            "student.levels=5), or take the term out of the objective"
        )
    return {
        "student_logits": logits,
        "labels": batch.labels,
        "label_mask": batch.label_mask,
        "sample_weight": batch.sample_weight,
    }


def _check_range(low: float, high: float) -> tuple[float, float]:
    if not low < high:
        raise ValueError(f"low must be below high, got {low} and {high}")
    return low, high


def _check_options(target: str, reduction: str) -> None:
    check_choice("target", target, TARGETS)
    check_reduction(reduction)
