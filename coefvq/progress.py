"""One bar for a whole fit, in optimizer steps: short epochs would scroll a bar each."""

from __future__ import annotations

from typing import Any

import lightning
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class StepProgress(ProgressBar):
    """Steps done, loss, time gone and time left, on standard error.

    Where standard error is no terminal (a log file, a cluster), one line is written at the end.

    Args:
        label: what is being trained; set by the engine.
    """

    def __init__(self, label: str = "training") -> None:
        super().__init__()
        self.label = label
        self._progress: Progress | None = None
        self._shown = True

    def disable(self) -> None:
        """Show nothing: Lightning asks for it in all processes but the first."""
        self._shown = False

    def enable(self) -> None:
        """Show the bar again."""
        self._shown = True

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Open the bar where a resumed run stands."""
        if not self._shown:
            return
        total = trainer.estimated_stepping_batches
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._progress.start()
        self._bar = self._progress.add_task(
            self.label,
            total=total if total != float("inf") else None,
            completed=trainer.global_step,
            loss="-",
        )

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *rest: Any
    ) -> None:
        """Move the bar; the loss is read only when it is logged, so that no GPU has to wait."""
        if self._progress is None:
            return
        step = trainer.global_step
        fields: dict[str, Any] = {}
        if step % max(1, trainer.log_every_n_steps) == 0 and "train/loss" in trainer.logged_metrics:
            fields["loss"] = f"{float(trainer.logged_metrics['train/loss']):.4f}"
        self._progress.update(self._bar, completed=step, **fields)

    def on_train_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Close the bar."""
        self._close()

    def on_exception(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        exception: BaseException,
    ) -> None:
        """Close the bar, so that the error's sentence stands below it."""
        self._close()

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
