"""The LightningModule: a student, a teacher that is not part of it, and an objective."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from coefvq.evaluation.metrics import compute_metrics
from coefvq.evaluation.threshold import choose_threshold
from coefvq.objective import Objective
from coefvq.optim import parameter_groups, scale_learning_rates
from coefvq.types import Batch, StudentOutput, TaskSpec, TeacherOutput

Teacher = Callable[[Batch], TeacherOutput]


def public(batch: Any) -> Any:
    """What exists at serving, of clips or of pairs."""
    return batch.public()


def whole(batch: Any) -> Any:
    """All of it."""
    return batch.whole()


class Distiller(lightning.LightningModule):
    """Train a student on an objective, with or without a teacher.

    The teacher is called, never owned: it must not be an `nn.Module`, so that its weights reach
    neither the checkpoint nor the optimizer nor DDP (wrap a module in
    `coefvq.teachers.frozen.FrozenTeacher`).

    Args:
        student: `forward(batch) -> StudentOutput`.
        objective: named terms and their weights.
        teacher: `teacher(batch) -> TeacherOutput`, or None for objectives that need none.
        task: what the logits mean, for the validation metrics.
        optimizer: builds an optimizer from parameter groups.
        scheduler: builds a schedule from an optimizer and `total_steps`; None: constant.
        inputs: what the student may see of a batch. `public` (default) hides privileged features
            and labels; `whole` is for training a privileged teacher.

    Raises:
        ValueError: if the teacher is an `nn.Module`.
    """

    def __init__(
        self,
        student: nn.Module,
        objective: Objective,
        teacher: Teacher | None = None,
        *,
        task: TaskSpec,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., LRScheduler] | None = None,
        inputs: Callable[[Any], Any] = public,
    ) -> None:
        super().__init__()
        if isinstance(teacher, nn.Module):
            raise ValueError(
                f"teacher is an nn.Module ({type(teacher).__name__}), which would put its weights "
                "into the student's checkpoint; wrap it: FrozenTeacher(module)"
            )
        self.student = student
        self.objective = objective
        self.teacher = teacher
        self.task = task
        self.inputs = inputs
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._val: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(self, batch: Batch) -> StudentOutput:
        """What the student says of a batch."""
        return self.student(self.inputs(batch))

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set and log what follows a schedule; validation reads what the last step had."""
        if self.objective.schedules:
            total_steps = self.trainer.estimated_stepping_batches
            values = self.objective.set_step(self.global_step, total_steps, self.current_epoch)
            self.log_dict(
                {f"train/schedule/{name.replace('.', '/')}": v for name, v in values.items()}
            )

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """One step; returns the loss and its unweighted terms."""
        teacher = None if self.teacher is None else self.teacher(batch)
        student = self.student(self.inputs(batch))
        total, terms = self.objective(student, teacher, batch)
        self._log("train", total, terms, batch_size=len(batch))
        return {"loss": total, **{name: value.detach() for name, value in terms.items()}}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The same loss without a step, and the logits for the epoch's metrics."""
        teacher = None if self.teacher is None else self.teacher(batch)
        student = self.student(self.inputs(batch))
        total, terms = self.objective(student, teacher, batch)
        self._log("val", total, terms, batch_size=len(batch))
        if batch.labels is not None:
            mask = batch.label_mask
            if mask is None:
                mask = torch.ones(len(batch), dtype=torch.bool, device=self.device)
            self._val.append((student.logits.float(), batch.labels, mask))

    def on_validation_epoch_end(self) -> None:
        """Log `val/<metric>` over the whole validation split, gathered from all processes.

        F1 and accuracy are those at the threshold that these clips choose, as in the report.
        Clips that are repeated to give each process as many count once: their copies have no label.
        """
        if not self._val:
            return
        columns = [torch.cat(column) for column in zip(*self._val, strict=True)]
        self._val.clear()
        if self.trainer.world_size > 1:
            # Bytes for the mask: not every backend gathers bool.
            columns[-1] = columns[-1].byte()
            columns = [_gathered(column, self.trainer.world_size) for column in columns]
        logits, labels, mask = (column.cpu() for column in columns)
        mask = mask.bool()
        threshold = choose_threshold(logits, labels, self.task, label_mask=mask, warn=False)
        metrics = compute_metrics(logits, labels, self.task, label_mask=mask, threshold=threshold)
        self.log_dict({f"val/{name}": float(value) for name, value in metrics.items()})

    def configure_optimizers(self) -> dict:
        """The optimizer over student and objective (losses may own projections)."""
        optimizer = self._optimizer(parameter_groups(self.student, self.objective))
        scale_learning_rates(optimizer)
        if self._scheduler is None:
            return {"optimizer": optimizer}
        total_steps = int(self.trainer.estimated_stepping_batches)
        schedule = self._scheduler(optimizer, total_steps=total_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _log(self, stage: str, total: Tensor, terms: dict[str, Tensor], batch_size: int) -> None:
        values = {f"{stage}/loss": total, **{f"{stage}/loss/{k}": v for k, v in terms.items()}}
        self.log_dict(
            {name: value.detach() for name, value in values.items()},
            batch_size=batch_size,
            sync_dist=stage == "val",
        )


def _gathered(rows: Tensor, processes: int) -> Tensor:
    """The rows of all processes, one after the other; each process has as many."""
    parts = [torch.empty_like(rows) for _ in range(processes)]
    torch.distributed.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


__all__ = ["Distiller", "Teacher", "public", "whole"]
