"""A teacher on privileged features that were standardised with other statistics than its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import nn

from coefvq.types import Batch, TeacherOutput


class RescaledTeacher(nn.Module):
    """Bring standardised features back to the scale that a teacher was trained on.

    With z = (x - mean) / std on the batch's side and z' = (x - mean') / std' on the teacher's,
    z' = z · std / std' + (mean - mean') / std'. A missing feature stays 0.

    Args:
        module: the teacher.
        mean: P means that the batches were standardised with.
        std: P standard deviations likewise.
        own_mean: P means that the teacher's training batches were standardised with.
        own_std: P standard deviations likewise.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(
        self,
        module: nn.Module,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        own_mean: Sequence[float],
        own_std: Sequence[float],
    ) -> None:
        super().__init__()
        self.module = module
        m, s, own_m, own_s = (
            torch.tensor(tuple(values), dtype=torch.float64)
            for values in (mean, std, own_mean, own_std)
        )
        self.register_buffer("scale", (s / own_s).float())
        self.register_buffer("shift", ((m - own_m) / own_s).float())

    def forward(self, batch: Batch) -> TeacherOutput:
        """Answer a batch.

        Raises:
            ValueError: the batch has no privileged features.
        """
        if batch.privileged is None:
            raise ValueError("this teacher reads privileged features and this batch has none")
        values = batch.privileged * self.scale + self.shift
        if batch.privileged_mask is not None:
            values = values * batch.privileged_mask
        answer: TeacherOutput = self.module(dataclasses.replace(batch, privileged=values))
        return answer


__all__ = ["RescaledTeacher"]
