"""Two callbacks that every run needs; everything else is Lightning's own, chosen in conf/."""

from __future__ import annotations

from typing import Any

import lightning
import numpy
import torch
from lightning.pytorch.callbacks import Callback

from coefvq.types import Batch


class NonFiniteLossError(ValueError):
    """The loss became NaN or infinite; the message names the step, the terms and the clips."""


class FiniteLoss(Callback):
    """Stop at the first loss that is not a finite number, and say where it came from.

    On a GPU the check looks at the step before, whose value has long been computed, so that it
    does not make the device wait.

    Args:
        learning_rate: the word that sets the learning rate, for the sentence.
    """

    def __init__(self, learning_rate: str = "optimizer.lr") -> None:
        self.learning_rate = learning_rate
        self._last: tuple[int, dict[str, torch.Tensor], tuple[str, ...]] | None = None

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Check this step's loss on the CPU, the one before on other devices."""
        now = (trainer.global_step, {k: v.detach() for k, v in outputs.items()}, batch.ids)
        waiting, self._last = self._last, now
        if outputs["loss"].device.type == "cpu":
            self._check(now)
        elif waiting is not None:
            self._check(waiting)

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Check what is still waiting, before a checkpoint is written."""
        if self._last is not None:
            self._check(self._last)
            self._last = None

    def _check(self, seen: tuple[int, dict[str, torch.Tensor], tuple[str, ...]]) -> None:
        step, values, ids = seen
        # Lightning divides `loss` by the number of accumulated batches; finite stays finite.
        if bool(torch.isfinite(values["loss"])):
            return
        bad = [k for k, v in values.items() if k != "loss" and not bool(torch.isfinite(v))]
        terms = ", ".join(f"{k}={v.item():g}" for k, v in values.items() if k != "loss")
        shown = ", ".join(ids[:8]) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")
        where = f"term {', '.join(bad)}" if bad else "the weighted sum of finite terms"
        raise NonFiniteLossError(
            f"the loss became {values['loss'].item():g} at step {step} in {where} ({terms}), on "
            f"the batch with clips {shown}; lower {self.learning_rate}, use trainer.precision="
            "32-true, or look at those clips' labels and features"
        )


class StepSeed(Callback):
    """Make each step's random numbers a function of (seed, epoch, step, rank) alone.

    A run that was killed goes on with the very crops, flips and dropout that the uninterrupted run
    would have had: no generator's state has to be saved for that, and nothing else that draws
    numbers (a loader, a metric) can shift them.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Seed torch, on every device."""
        place = [self.seed, trainer.current_epoch, batch_idx, trainer.global_rank]
        torch.manual_seed(int(numpy.random.SeedSequence(place).generate_state(1)[0]))
