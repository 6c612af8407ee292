"""A trained module as a supplier of targets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import nn

from coefvq.types import Batch, StudentOutput, TeacherOutput

VECTOR = 8
"""On a CPU batches are filled up to a multiple of it with their own clips. Kernels work on whole
vectors and treat what is left over differently, so that without it a clip's last digit depends on
its place in the batch, and an answer that was kept is not quite the one that would be given now."""


class FrozenTeacher:
    """A frozen module in eval mode.

    Not an `nn.Module` itself, so that no checkpoint, optimizer or wrapper of the student ever
    sees its weights.

    Args:
        module: answers a batch with logits; a student will do (self-distillation). It is put in
            eval mode and takes no gradient from here on.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module.eval().requires_grad_(False)
        self._device: torch.device | None = None

    def __call__(self, batch: Batch) -> TeacherOutput:
        """Answer a batch on its own device, without gradients.

        `no_grad`, not `inference_mode`: tensors made under the latter break losses whose backward
        needs them.
        """
        device = batch.device
        if device != self._device:
            self.module.to(device)
            self._device = device
        answer: Callable[[Batch], StudentOutput | TeacherOutput] = self.module
        n = len(batch)
        more = -n % VECTOR if device.type == "cpu" else 0
        if more:
            batch = batch.rows([place % n for place in range(n + more)])
        with torch.no_grad():
            output = answer(batch)
        values = {f.name: getattr(output, f.name, None) for f in dataclasses.fields(TeacherOutput)}
        return TeacherOutput(
            **{k: None if v is None else v.detach()[:n] for k, v in values.items()}
        )


__all__ = ["VECTOR", "FrozenTeacher"]
