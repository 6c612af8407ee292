"""A probability that means something, and where to cut it for a precision that was asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from coefvq.evaluation.intervals import wilson

MIN_TAKEN = 20
"""A precision that fewer validation examples speak of is doubted."""

SLACK = 0.1
"""The same for one whose 95 % interval begins further than this below what was asked for."""


@dataclass(frozen=True)
class OperatingPoint:
    """How a binary model is served: calibrated score = σ(scale · logit + bias), cut at a threshold.

    Args:
        scale: above 0, so that the order of clips stays.
        bias: of the logit, for a model trained at another prevalence than it is served at.
        threshold: on the calibrated score; 1.01 where no threshold reaches the precision.
        precision: what was asked for, in (0, 1).
        val_precision: what the threshold has on the validation examples.
        val_recall: likewise.
        positives: among the labelled validation examples.
        n: labelled validation examples.
        taken: how many of them the threshold calls positive, which is what `val_precision` rests
            on; None: not known (saved by an earlier version).
        test_precision: what the threshold has on test examples, which did not choose it; None: not
            measured.
        test_taken: how many of these it calls positive.
    """

    scale: float
    bias: float
    threshold: float
    precision: float
    val_precision: float
    val_recall: float
    positives: int
    n: int
    taken: int | None = None
    test_precision: float | None = None
    test_taken: int | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval of the precision; None where nothing is known to be taken.

        >>> point = OperatingPoint(1.0, 0.0, 0.9, 0.8, 1.0, 0.01, 100, 500, taken=1)
        >>> [round(end, 2) for end in point.interval]
        [0.21, 1.0]
        """
        if not self.taken:
            return None
        return wilson(self.val_precision, self.taken, 0.95)

    @property
    def doubt(self) -> str | None:
        """Why the precision may be another one in use, and what to do; None: it stands firm.

        The threshold is the lowest that has the precision, so that the interval always begins
        below what was asked for: it is said where it does so by more than `SLACK`. So it is where
        the test examples, which did not choose it, speak against it: their interval ends below.
        """
        if self.test_taken and self.test_precision is not None:
            low, high = wilson(self.test_precision, self.test_taken, 0.95)
            if high < self.precision:
                return (
                    f"the threshold for a precision of {100 * self.precision:g}% was chosen on "
                    f"validation examples; on the test examples it had {self.test_precision:.2f} "
                    f"(95 % interval {low:.2f} to {high:.2f}): ask for more with at_precision"
                )
        interval = self.interval
        if interval is None or self.taken is None:
            return None
        if self.taken >= MIN_TAKEN and interval[0] >= self.precision - SLACK:
            return None
        rests = f"{self.taken} validation example" + ("s" if self.taken != 1 else "")
        low, high = interval
        return (
            f"the threshold for a precision of {100 * self.precision:g}% rests on the {rests} that "
            f"it calls positive (precision {self.val_precision:.2f}, 95 % interval {low:.2f} "
            f"to {high:.2f}) and may have another one in use; give more labelled "
            "validation examples (data.val) or a lower at_precision"
        )

    def score(self, logits: Tensor) -> Tensor:
        """Calibrated probabilities of (N,) logits."""
        return (self.scale * logits.double() + self.bias).sigmoid()

    def tested(self, logits: Tensor, labels: Tensor, label_mask: Tensor | None = None) -> Self:
        """The same with what the threshold has on test examples.

        Args:
            logits: (N,).
            labels: (N,) 0 or 1.
            label_mask: (N,) bool, True where the label counts; None: all.
        """
        if label_mask is not None:
            logits, labels = logits[label_mask], labels[label_mask]
        truth = labels[self.score(logits) >= self.threshold] > 0.5
        precision = float(truth.double().mean()) if len(truth) else None
        return dataclasses.replace(self, test_precision=precision, test_taken=len(truth))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is the way back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make it from what `to_dict` gave."""
        return cls(**values)


def choose_operating_point(
    logits: Tensor, labels: Tensor, precision: float, *, label_mask: Tensor | None = None
) -> OperatingPoint:
    """Fit Platt's sigmoid on validation examples and find the threshold with the most recall.

    The sigmoid (Platt, 1999) is fitted to his softened targets (n₊ + 1)/(n₊ + 2) and 1/(n₋ + 2),
    so that examples which are told apart perfectly don't give an infinite scale. The threshold is
    half-way between the last score that is taken and the next.

    Args:
        logits: (N,).
        labels: (N,) 0 or 1.
        precision: the least share of right answers among those that are called positive.
        label_mask: (N,) bool, True where the label counts; None: all.

    Raises:
        ValueError: a precision outside (0, 1), or no example of one kind.
    """
    if not 0 < precision < 1:
        raise ValueError(f"a precision to reach is between 0 and 1, got {precision}")
    if label_mask is not None:
        logits, labels = logits[label_mask], labels[label_mask]
    logits, truth = logits.double(), labels > 0.5
    positives, n = int(truth.sum()), len(truth)
    if positives in (0, n):
        raise ValueError(
            f"{positives} of {n} labelled validation examples are positive; a threshold for a "
            "precision needs both kinds"
        )
    scale, bias = _platt(logits, truth)
    point = OperatingPoint(scale, bias, 1.01, precision, 0.0, 0.0, positives, n, taken=0)
    scores, order = point.score(logits).sort(descending=True, stable=True)
    hits = truth[order].cumsum(0).double()
    reached = hits / torch.arange(1, n + 1)
    last = torch.cat([scores[1:] != scores[:-1], torch.tensor([True])])  # ties stand together
    good = (last & (reached >= precision)).nonzero()
    if not len(good):
        return point
    k = int(good[-1])
    below = float(scores[k + 1]) if k + 1 < n else 0.0
    return dataclasses.replace(
        point,
        threshold=(float(scores[k]) + below) / 2,
        val_precision=float(reached[k]),
        val_recall=float(hits[k] / positives),
        taken=k + 1,
    )


def _platt(logits: Tensor, truth: Tensor) -> tuple[float, float]:
    up, down = truth.sum().double(), (~truth).sum().double()
    targets = torch.where(truth, (up + 1) / (up + 2), 1 / (down + 2))
    weights = torch.zeros(2, dtype=torch.float64, requires_grad=True)  # log scale, bias
    spread = logits.std().clamp_min(1e-6)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        scaled = weights[0].exp() / spread * logits + weights[1]
        loss = F.binary_cross_entropy_with_logits(scaled, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    found = weights.detach()
    return float(found[0].exp() / spread), float(found[1])


__all__ = ["MIN_TAKEN", "SLACK", "OperatingPoint", "choose_operating_point"]
