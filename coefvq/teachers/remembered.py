"""A teacher that is asked once about each clip: frozen models give the same answer every time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from coefvq.types import Batch, TeacherOutput


class RememberedTeacher:
    """Ask a teacher about a clip the first time it is seen, and remember its logits.

    Right only where the teacher sees a clip the same way each time: frozen weights, a frame policy
    without chance, and augmentation that happens inside the student. Features are not kept; ask
    the teacher itself for losses that need them.

    Args:
        teacher: any `teacher(batch) -> TeacherOutput`.
    """

    def __init__(self, teacher: Callable[[Batch], TeacherOutput]) -> None:
        self.teacher = teacher
        self._logits: dict[str, Tensor] = {}

    def __call__(self, batch: Batch) -> TeacherOutput:
        """Logits of every clip of the batch, on its device; (B,), (B, C) or (B, L)."""
        if any(name not in self._logits for name in batch.ids):
            # The whole batch: a model's logits for a clip do not depend on its neighbours.
            for name, row in zip(batch.ids, self.teacher(batch).logits.cpu(), strict=True):
                self._logits.setdefault(name, row)
        rows = torch.stack([self._logits[name] for name in batch.ids])
        return TeacherOutput(rows.to(batch.frames.device))
