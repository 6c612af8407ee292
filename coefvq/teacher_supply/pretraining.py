"""What a teacher of pairs learns before it is shown a label: to know altered copies again."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_model, save_model
from torch import nn

from coefvq.distiller import public
from coefvq.losses import SubLabelLoss, SupervisedLoss
from coefvq.objective import Objective
from coefvq.runs import rank
from coefvq.teacher_supply.fitting import fit_alone

_log = logging.getLogger(__name__)

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
    """
    words = cfg.teacher.get("pretraining")
    if words is None:
        return
    named = OmegaConf.select(cfg, "teacher.model.mllm.backbone.model_name_or_path")
    if named is not None:
        _log.warning(
            "teacher.pretraining is for random weights, and %s has been trained: its adapters and "
            "projectors are trained on altered copies first; set teacher.pretraining=null "
            "to leave that out",
            named,
        )
    kept, place = folder / WEIGHTS, folder / "pretraining"
    if not kept.exists():
        terms: dict[str, nn.Module] = {"copies": SupervisedLoss(task="binary")}
        if data.sub_labels:
            # Without labels it is 0, but ties that head into the graph: several processes wait for
            # the gradient of every weight.
            terms["sub_labels"] = SubLabelLoss()
        fit_alone(
            cfg,
            data,
            module,
            Objective(terms, dict.fromkeys(terms, 1.0)),
            data.pretext_dataloader(words.clips),
            place,
            inputs=public,
            lr=words.lr,
            max_steps=words.max_steps,
            label=f"pretraining {cfg.teacher.name}",
            learning_rate="teacher.pretraining.lr",
            keep=lambda trained: _save(trained, kept),
            limit_val_batches=0,  # nothing is chosen, and it has been shown no label
        )
    load_model(module, kept)
    if rank() == 0:
        shutil.rmtree(place, ignore_errors=True)


def pretraining_settings(data: Any) -> str:
    """A hash of what pretraining reads beside the clips: which of them may show the same.

    Raises:
        ValueError: the data are no pairs.
    """
    if not hasattr(data, "alike"):
        raise ValueError(
            "teacher.pretraining makes pairs of the training clips and needs a data set of pairs; "
            "set teacher.pretraining=null for single clips"
        )
    alike = json.dumps(sorted(data.alike().items()))
    return hashlib.sha256(alike.encode()).hexdigest()


def _save(module: nn.Module, file: Path) -> None:
    part = file.with_name(f".{file.name}.part")
    save_model(module, str(part))  # tied weights once
    part.replace(file)


__all__ = ["WEIGHTS", "pretrain", "pretraining_settings"]
