"""Lightning, set up from a config: one way to fit a model, for teachers and students alike."""

from __future__ import annotations

import io
import logging
import signal
import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, WeightAveraging
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, ListConfig, OmegaConf

from coefvq.callbacks import FiniteLoss, StepSeed
from coefvq.progress import StepProgress

# Advice that a user of a recipe cannot act on, or that does not hold here.
_NOT_ACTIONABLE = (
    r".*does not have many workers.*",  # batches come from a memory map: workers would only cost
    r".*The number of training batches .* is smaller than the logging interval.*",
    r".*module\(s\) in eval mode at the start of training.*",  # frozen encoders, on purpose
    r".*You are using `torch.load` with `weights_only=.*",
    r".*Checkpoint directory .* exists and is not empty.*",  # our own, when a run is resumed
    r".*Experiment logs directory .* exists and is not empty.*",
    r".*The dataloader.*did not.*shuffle.*",
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",  # inside Lightning
    r".*treespec.*deprecated.*",
    r".*It is recommended to use `self.log\('val/.*sync_dist=True.*",  # gathered before logging
)
_CHATTY = (
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric.utilities.rank_zero",
    "lightning.fabric.utilities.distributed",
)


def quiet() -> None:
    """Silence what a user cannot act on: hardware tips, and the warnings listed above."""
    for pattern in _NOT_ACTIONABLE:
        warnings.filterwarnings("ignore", message=pattern)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


class WholeCheckpointIO(TorchCheckpointIO):
    """Checkpoints that are either the old one or the new one, never half of one.

    Lightning writes to the system's temporary folder and moves the file, which is a copy where
    that is another file system: a process killed in the middle of it leaves a broken checkpoint.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write beside the old file, then take its place.

        Raises:
            OSError: the disk is full; the old file is untouched.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        # torch.save into a file hides why writing failed; a plain write says "no space left".
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        part = path.with_name(f".{path.name}.part")
        try:
            part.write_bytes(buffer.getbuffer())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def build(cfg: DictConfig, **given: Any) -> Any:
    """Instantiate a node with plain Python containers (losses must not see a DictConfig).

    Raises:
        ValueError: what the target itself has to say about its arguments, without Hydra's words
            around it; Lightning's the same way; any other error is Hydra's.
    """
    try:
        return instantiate(cfg, _convert_="all", **given)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, (ValueError, OSError)):
            raise cause from None
        if isinstance(cause, MisconfigurationException):
            raise ValueError(" ".join(str(cause).split())) from None
        raise


def seed_everything(seed: int) -> None:
    """Seed torch, numpy and random; Lightning's own, without its log line."""
    lightning.seed_everything(seed, workers=True, verbose=False)


def make_trainer(
    cfg: DictConfig,
    folder: Path,
    *,
    logger: Any = False,
    label: str = "",
    learning_rate: str = "optimizer.lr",
    **overrides: Any,
) -> lightning.Trainer:
    """The Trainer of `cfg.trainer` with the callbacks of `cfg.callbacks` and the two of ours.

    Args:
        cfg: the whole config.
        folder: checkpoints go to `folder/checkpoints`.
        logger: a Lightning logger, several of them, or False.
        label: shown in front of the progress bar.
        learning_rate: the word that sets it, for whoever has to lower it.
        overrides: arguments of lightning.Trainer that win over `cfg.trainer`.
    """
    callbacks: list[Callback] = [StepSeed(cfg.seed), FiniteLoss(learning_rate)]
    plain = str(cfg.trainer.get("strategy", "auto")).startswith(("auto", "ddp"))
    if plain and "plugins" not in cfg.trainer:  # sharded strategies write checkpoints of their own
        overrides = {"plugins": [WholeCheckpointIO()], **overrides}
    for node in OmegaConf.create(cfg.callbacks).values():
        callback = build(node)
        if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
            callback.dirpath = str(folder / "checkpoints")
        if isinstance(callback, StepProgress):
            if not cfg.trainer.get("enable_progress_bar", True):
                continue
            callback.label = label
        callbacks.append(callback)
    return build(
        cfg.trainer, logger=logger, callbacks=callbacks, default_root_dir=str(folder), **overrides
    )


class _Resume(Callback):
    """Go on after an epoch-end checkpoint with the next epoch, from its first batch.

    Where a training is counted in steps, Lightning 2.6 takes the epoch of such a checkpoint for an
    unfinished one: it trains one more batch in it, and every later epoch is shifted.
    """

    ended = False

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["loops"]["fit_loop"]
        total, current = (state["epoch_progress"][key] for key in ("total", "current"))
        if total["ready"] == total["processed"] == total["completed"] + 1:
            total["completed"], current["completed"] = total["processed"], current["processed"]
            batches = state["epoch_loop.batch_progress"]
            batches["current"] = dict.fromkeys(batches["current"], 0)
            batches["is_last_batch"] = False

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        # What logs go by; after loading it may be one more or less than the steps that were taken.
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.ended = True


def fit(
    trainer: lightning.Trainer, module: lightning.LightningModule, train: Any, val: Any, last: Path
) -> None:
    """Fit from the start, or from the checkpoint `last` if it is there.

    Raises:
        KeyboardInterrupt: on Ctrl-C, which Lightning alone would turn into exit status 1.
        NonFiniteLossError: the loss became NaN or infinite.
    """
    handler = signal.getsignal(signal.SIGINT)
    # A model that was loaded is in eval mode, and Lightning leaves it there: no dropout, no moving
    # statistics. Frozen parts know themselves that they stay in it.
    module.train()
    resume = _Resume()
    trainer.callbacks.append(resume)
    try:
        trainer.fit(
            module,
            train_dataloaders=train,
            val_dataloaders=val,
            ckpt_path=last if last.exists() else None,
            weights_only=True,
        )
    except SystemExit:
        if trainer.interrupted:
            signal.signal(signal.SIGINT, handler)  # Lightning has switched Ctrl-C off
            raise KeyboardInterrupt from None
        raise
    if not resume.ended:
        # Nothing was left to train, so Lightning has not put the average in place, either.
        for callback in trainer.callbacks:
            if isinstance(callback, WeightAveraging):
                callback.on_train_end(trainer, module)


def check_launch(cfg: DictConfig) -> None:
    """Refuse devices that are not there, or whose processes cannot be started.

    Raises:
        ValueError: no GPU, or several devices in a Hydra sweep, whose runs follow each other in one
            process.
    """
    wanted = cfg.trainer.get("accelerator", "auto")
    there = torch.cuda.is_available() or torch.backends.mps.is_available()
    if wanted in ("gpu", "cuda") and not there:
        raise ValueError(
            f"trainer.accelerator={wanted}, but PyTorch finds no GPU here; use trainer=cpu, or "
            "install a PyTorch that was built for this GPU"
        )
    devices = cfg.trainer.get("devices", 1)
    several = len(devices) > 1 if isinstance(devices, ListConfig) else devices not in (1, "1")
    swept = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    if several and swept:
        raise ValueError(
            f"a sweep with -m starts its runs one after the other in this process, but "
            f"trainer.devices={devices} needs processes of its own for each run; start the runs "
            "from a shell loop or a W&B sweep, or set trainer.devices=1"
        )


def device_of(trainer: lightning.Trainer) -> torch.device:
    """The device that this process trained on."""
    return trainer.strategy.root_device
