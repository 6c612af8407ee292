"""Run a model over a loader and keep what it says, in the loader's order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from coefvq.types import Batch, StudentOutput, TeacherOutput


@dataclass(frozen=True)
class Predictions:
    """What a model said of N clips.

    Args:
        ids: N clip ids.
        logits: (N, …) float32 on the CPU.
        labels: as in `Batch.labels`, or None where no batch had any.
        label_mask: (N,) bool, True where the label counts; None exactly when labels is None.
    """

    ids: tuple[str, ...]
    logits: Tensor
    labels: Tensor | None
    label_mask: Tensor | None

    @property
    def clips_fingerprint(self) -> str:
        """Which clips with which labels these are, in any order, whatever was read of them."""
        labels = [None] * len(self.ids) if self.labels is None else self.labels.tolist()
        rows = sorted(f"{name!r} {label!r}" for name, label in zip(self.ids, labels, strict=True))
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]


@torch.no_grad()
def collect(
    model: Callable[[Batch], StudentOutput | TeacherOutput],
    batches: Iterable[Batch],
    *,
    device: torch.device | str = "cpu",
) -> Predictions:
    """Predict every batch.

    Args:
        model: takes a batch on `device`; a module must be in eval mode already.
        batches: in the order in which the predictions are wanted.
        device: where the model is.

    Raises:
        ValueError: if there is no batch at all.
    """
    ids: list[str] = []
    logits: list[Tensor] = []
    labels: list[Tensor] = []
    masks: list[Tensor] = []
    for batch in batches:
        ids.extend(batch.ids)
        logits.append(model(batch.to(device)).logits.float().cpu())
        if batch.labels is not None:
            mask = batch.label_mask
            labels.append(batch.labels.cpu())
            masks.append(torch.ones(len(batch), dtype=torch.bool) if mask is None else mask.cpu())
    if not logits:
        raise ValueError("there is no clip to predict; the split is empty")
    return Predictions(
        ids=tuple(ids),
        logits=torch.cat(logits),
        labels=torch.cat(labels) if labels else None,
        label_mask=torch.cat(masks) if masks else None,
    )
