"""What a report says of pairs beyond the metrics of any yes-or-no task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_average_precision

from coefvq.evaluation.metrics import recall_at

PRECISIONS = (0.8, 0.9, 0.95)
"""Where recall is read, as MatchLM2Lite (arXiv 2606.14786) does."""


def pair_metrics(
    logits: Tensor,
    labels: Tensor,
    sub_labels: Tensor | None,
    names: Sequence[str],
    *,
    label_mask: Tensor | None = None,
    sub_label_mask: Tensor | None = None,
) -> dict[str, Any]:
    """Recall at fixed precisions, and the same model seen through each kind of change.

    For a kind of change its positives stand against *all* negatives: a threshold is chosen once
    for all copies, so that the question of each kind is how many of its copies are found.

    Args:
        logits: (N,).
        labels: (N,) 0 or 1.
        sub_labels: (N, S) 0 or 1; None where S is 0.
        names: S names.
        label_mask: (N,) bool, True where the label counts.
        sub_label_mask: (N, S) bool, likewise.

    Returns:
        - `recall_at_precision`: by precision in percent, the largest recall of any threshold that
          has it; 0 where none has; NaN where a kind of label is missing.
        - `by_sub_label`: by name, `n` positives, `chance`, the average precision of a model that
          knows nothing (their share beside all negatives), `average_precision` against these, and
          `recall_at_precision_80`: the share of them that the one threshold finds which has the
          largest recall at 80 % precision over all pairs; names without a positive are left out.

    >>> logits, labels = torch.tensor([2.0, 1.0, -1.0]), torch.tensor([1.0, 1.0, 0.0])
    >>> changed = torch.tensor([[1.0], [0.0], [0.0]])
    >>> pair_metrics(logits, labels, changed, ["flip"])["by_sub_label"]["flip"]["n"]
    1
    """
    counts = torch.ones_like(labels, dtype=torch.bool) if label_mask is None else label_mask
    score, truth = logits[counts].double(), labels[counts].long()
    kinds = torch.zeros(len(truth), 0).bool() if sub_labels is None else sub_labels[counts] > 0.5
    if sub_labels is not None and sub_label_mask is not None:
        kinds &= sub_label_mask[counts]
    both = bool(truth.any() and not truth.all())
    probability = score.sigmoid()
    cuts: dict[float, tuple[float, float]] = {}
    for precision in PRECISIONS:
        recall, cut = math.nan, math.inf
        if both:
            found = recall_at(precision, probability, truth)
            recall, cut = float(found[0]), float(found[1])
        cuts[precision] = (recall, cut)
    by_name: dict[str, dict[str, float]] = {}
    for column, name in enumerate(names):
        own = kinds[:, column] & (truth == 1)
        if not own.any():
            continue
        shown = own | (truth == 0)
        by_name[name] = {
            "n": int(own.sum()),
            "chance": float(own.sum() / shown.sum()),
            "average_precision": float(
                binary_average_precision(probability[shown], own[shown].long())
            )
            if both
            else math.nan,
            "recall_at_precision_80": float((probability[own] >= cuts[0.8][1]).double().mean())
            if both and cuts[0.8][0] > 0
            else 0.0,
        }
    return {
        "recall_at_precision": {f"{100 * p:.0f}": recall for p, (recall, _) in cuts.items()},
        "by_sub_label": by_name,
    }


__all__ = ["PRECISIONS", "pair_metrics"]
