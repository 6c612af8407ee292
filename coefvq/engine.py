"""Lightning, set up from a config: one way to fit a model, for teachers and students alike."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from omegaconf import DictConfig, OmegaConf

from coefvq.callbacks import FiniteLoss, StepSeed
from coefvq.progress import StepProgress

# Advice that a user of a recipe cannot act on, or that does not hold here.
_NOT_ACTIONABLE = (
    r".*does not have many workers.*",  # batches come from a memory map: workers would only cost
    r".*The number of training batches .* is smaller than the logging interval.*",
    r".*You are using `torch.load` with `weights_only=.*",
    r".*Checkpoint directory .* exists and is not empty.*",  # our own, when a run is resumed
    r".*Experiment logs directory .* exists and is not empty.*",
    r".*The dataloader.*did not.*shuffle.*",
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",  # inside Lightning
    r".*treespec.*deprecated.*",
)


def quiet() -> None:
    """Silence what a user cannot act on: hardware tips, and the warnings listed above."""
    for pattern in _NOT_ACTIONABLE:
        warnings.filterwarnings("ignore", message=pattern)
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)


def build(cfg: DictConfig, **given: Any) -> Any:
    """Instantiate a node with plain Python containers (losses must not see a DictConfig)."""
    return instantiate(cfg, _convert_="all", **given)


def seed_everything(seed: int) -> None:
    """Seed torch, numpy and random; Lightning's own, without its log line."""
    lightning.seed_everything(seed, workers=True, verbose=False)


def make_trainer(
    cfg: DictConfig, folder: Path, *, logger: Any = False, label: str = "", **overrides: Any
) -> lightning.Trainer:
    """The Trainer of `cfg.trainer` with the callbacks of `cfg.callbacks` and the two of ours.

    Args:
        cfg: the whole config.
        folder: checkpoints go to `folder/checkpoints`.
        logger: a Lightning logger or False.
        label: shown in front of the progress bar.
        overrides: arguments of lightning.Trainer that win over `cfg.trainer`.
    """
    callbacks: list[Callback] = [StepSeed(cfg.seed), FiniteLoss()]
    for node in OmegaConf.create(cfg.callbacks).values():
        callback = build(node)
        if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
            callback.dirpath = str(folder / "checkpoints")
        if isinstance(callback, StepProgress):
            callback.label = label
        callbacks.append(callback)
    return build(
        cfg.trainer, logger=logger, callbacks=callbacks, default_root_dir=str(folder), **overrides
    )


def fit(
    trainer: lightning.Trainer, module: lightning.LightningModule, train: Any, val: Any, last: Path
) -> None:
    """Fit from the start, or from the checkpoint `last` if it is there."""
    trainer.fit(
        module,
        train_dataloaders=train,
        val_dataloaders=val,
        ckpt_path=last if last.exists() else None,
        weights_only=True,
    )
    if trainer.interrupted:
        raise KeyboardInterrupt


def device_of(trainer: lightning.Trainer) -> torch.device:
    """The device that this process trained on."""
    return trainer.strategy.root_device


def partial(cfg: DictConfig, **given: Any) -> Callable[..., Any]:
    """A `_partial_` node as the callable that it describes."""
    return build(cfg, **given)
