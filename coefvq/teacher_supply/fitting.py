"""One training of a model by itself: no teacher, its own objective, rate and number of steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import nn

from coefvq import engine
from coefvq.distiller import Distiller
from coefvq.objective import Objective
from coefvq.runs import rank


def fit_alone(
    cfg: DictConfig,
    data: Any,
    module: nn.Module,
    objective: Objective,
    clips: Iterable[Any],
    folder: Path,
    *,
    inputs: Callable[[Any], Any],
    lr: float,
    max_steps: int,
    label: str,
    learning_rate: str,
    keep: Callable[[nn.Module], None] | None = None,
    **overrides: Any,
) -> nn.Module:
    """Train a model in place with the run's own engine, and bring it back to the CPU.

    Args:
        cfg: the whole config; optimizer, scheduler, trainer and callbacks are its own.
        data: prepared; its validation clips are looked at on the way.
        module: what is trained.
        objective: by what.
        clips: loader of its batches.
        folder: gets `checkpoints/`; a killed training goes on from there.
        inputs: what of a batch the model sees (`coefvq.distiller.public` or `whole`).
        lr: its learning rate.
        max_steps: how long.
        label: shown in front of the progress bar.
        learning_rate: the word that sets the rate, for whoever has to lower it.
        keep: called with the trained model by the first process, while the others wait.
        overrides: arguments of lightning.Trainer that win over `cfg.trainer`.
    """
    distiller = Distiller(
        module,
        objective,
        task=data.task,
        optimizer=engine.build(
            cfg.optimizer, lr=lr, weight_decay=cfg.teacher.training.weight_decay
        ),
        scheduler=engine.build(cfg.scheduler),
        inputs=inputs,
    )
    trainer = engine.make_trainer(
        cfg, folder, label=label, learning_rate=learning_rate, max_steps=max_steps, **overrides
    )
    last = folder / "checkpoints" / "last.ckpt"
    engine.fit(trainer, distiller, clips, data.val_dataloader(), last)
    trainer.strategy.barrier()
    module.cpu()
    if keep is not None:
        if rank() == 0:
            keep(module)
        trainer.strategy.barrier()
    return module


__all__ = ["fit_alone"]
