"""What a teacher of pairs learns before it is shown a label: to know altered copies again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from safetensors.torch import load_model, save_model
from torch import nn

from coefvq import engine
from coefvq.distiller import Distiller, public
from coefvq.losses import SupervisedLoss
from coefvq.objective import Objective
from coefvq.runs import rank

WEIGHTS = "pretrained.safetensors"
"""Kept in the teacher's folder until it is trained, so that a killed run need not begin again."""


def pretrain(cfg: DictConfig, data: Any, module: nn.Module, folder: Path) -> None:
    """Train a model of pairs on `PretextPairs` of the training clips, in place.

    Nothing is done where `teacher.pretraining` is null. A killed pretraining goes on where it was.

    Args:
        cfg: the whole config.
        data: prepared.
        module: a teacher of pairs.
        folder: of the teacher.

    Raises:
        ValueError: the data are no pairs.
    """
    words = cfg.teacher.get("pretraining")
    if words is None:
        return
    if not hasattr(data, "pretext_dataloader"):
        raise ValueError(
            "teacher.pretraining makes pairs of the training clips and needs a data set of pairs; "
            "set teacher.pretraining=null for single clips"
        )
    kept, place = folder / WEIGHTS, folder / "pretraining"
    if not kept.exists():
        distiller = Distiller(
            module,
            Objective({"copies": SupervisedLoss(task="binary")}, {"copies": 1.0}),
            task=data.task,
            optimizer=engine.build(
                cfg.optimizer, lr=words.lr, weight_decay=cfg.teacher.training.weight_decay
            ),
            scheduler=engine.build(cfg.scheduler),
            inputs=public,
        )
        trainer = engine.make_trainer(
            cfg, place, label=f"pretraining {cfg.teacher.name}",
            learning_rate="teacher.pretraining.lr",
            max_steps=words.max_steps,
            limit_val_batches=0,  # nothing is chosen, and it has been shown no label
        )  # fmt: skip
        last = place / "checkpoints" / "last.ckpt"
        pairs = data.pretext_dataloader(words.clips)
        engine.fit(trainer, distiller, pairs, data.val_dataloader(), last)
        trainer.strategy.barrier()
        module.cpu()
        if rank() == 0:
            part = kept.with_name(f".{kept.name}.part")
            save_model(module, str(part))  # tied weights once
            part.replace(kept)
            shutil.rmtree(place, ignore_errors=True)
        trainer.strategy.barrier()
    load_model(module, kept)


__all__ = ["WEIGHTS", "pretrain"]
