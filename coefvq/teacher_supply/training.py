"""Get the teacher of a run: load it, find it under its fingerprint, or train it first."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from torch import nn

import coefvq
from coefvq import engine
from coefvq.clip_features import clip_features
from coefvq.data.home import cache_home
from coefvq.data.privileged import PrivilegedNormalizer
from coefvq.data.seen_clips import SEEN_CLIPS, remember_training
from coefvq.distiller import public, whole
from coefvq.files import write_json
from coefvq.losses import SubLabelLoss, SupervisedLoss
from coefvq.modules.pretrained import load_metadata, read_config
from coefvq.objective import Objective
from coefvq.runs import rank
from coefvq.teacher_supply.clips import data_read
from coefvq.teacher_supply.fitting import fit_alone
from coefvq.teacher_supply.pretraining import WEIGHTS, pretrain, pretraining_settings
from coefvq.teachers.rescaled import RescaledTeacher


@dataclass(frozen=True)
class TrainedTeacher:
    """A teacher that is ready to teach.

    Args:
        module: the network (not yet frozen).
        name: what reports call it.
        fingerprint: hash of architecture, training, seed and data; of the weights when a
            checkpoint was given.
        folder: where it is kept, in `save_pretrained` form.
        seconds: what its training took, 0 if it was loaded.
        reused: whether it was found or loaded rather than trained.
    """

    module: nn.Module
    name: str
    fingerprint: str
    folder: Path
    seconds: float
    reused: bool


def get_teacher(cfg: DictConfig, data: Any, exclude: Collection[str] = ()) -> TrainedTeacher | None:
    """Load `teacher.checkpoint`, or reuse or train the teacher that the config describes.

    Training uses the run's own data and engine, labelled clips only and `teacher.training`;
    `teacher.pretraining` comes first: all training clips, no label. The result lives in the cache
    folder by fingerprint, two runs wait for one training, and a killed one goes on where it was.

    Args:
        cfg: the whole config.
        data: prepared.
        exclude: ids of labelled clips whose labels this teacher must not see.

    Returns:
        None for `teacher=none`.

    Raises:
        ValueError: if a checkpoint does not fit the task, or privileged features are missing.
    """
    if cfg.teacher.model is None:
        return None
    if cfg.teacher.checkpoint is not None:
        return _load(cfg, data, Path(cfg.teacher.checkpoint))
    settings = teacher_settings(cfg, data)
    if exclude:
        settings["exclude"] = hashlib.sha256("\0".join(sorted(exclude)).encode()).hexdigest()
    fingerprint = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    folder = cache_home(cfg.cache_dir) / "teachers" / f"{cfg.teacher.name}-{fingerprint[:16]}"
    if rank() > 0:
        return _find_or_train(cfg, data, folder, fingerprint, settings, exclude)
    # Beside the folders: what fails before anything is written then leaves none behind.
    locks = cache_home(cfg.cache_dir) / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / folder.name):
        return _find_or_train(cfg, data, folder, fingerprint, settings, exclude)


def teacher_settings(cfg: DictConfig, data: Any) -> dict[str, Any]:
    """Everything that decides what the trained teacher's weights will be, and nothing else.

    Privileged features count where the teacher reads them: one that does not is found again on the
    same clips with other ones.
    """
    trainer = OmegaConf.to_container(cfg.trainer, resolve=True)
    assert isinstance(trainer, dict)
    kept = ("precision", "gradient_clip_val", "accumulate_grad_batches", "devices", "strategy")
    teacher = OmegaConf.to_container(cfg.teacher, resolve=True)
    assert isinstance(teacher, dict)
    own = [key for key in ("objective", "pretraining") if teacher.get(key) is not None]
    teacher = {key: teacher[key] for key in ("name", "model", "inputs", "training", *own)}
    optimizer = OmegaConf.to_container(cfg.optimizer, resolve=True)
    assert isinstance(optimizer, dict)
    # `teacher.training` has its own, so that a sweep of the student's keeps its teacher.
    optimizer |= {key: teacher["training"][key] for key in ("lr", "weight_decay")}
    return {
        **({"alike": pretraining_settings(data)} if "pretraining" in own else {}),
        "teacher": teacher,
        "optimizer": optimizer,
        "scheduler": OmegaConf.to_container(cfg.scheduler, resolve=True),
        "trainer": {key: trainer.get(key) for key in kept},
        "batch_size": data.batch_size,
        "seed": cfg.seed,
        "data": data_read(data, teacher["inputs"]),
        "coefvq": coefvq.__version__,
    }


def _find_or_train(
    cfg: DictConfig,
    data: Any,
    folder: Path,
    fingerprint: str,
    settings: dict[str, Any],
    exclude: Collection[str],
) -> TrainedTeacher:
    done, model_folder = folder / "teacher.json", folder / "model"
    if done.exists():
        if rank() == 0 and not (model_folder / SEEN_CLIPS).exists():  # an older version's
            with contextlib.suppress(OSError):
                remember_training(model_folder, data, labelled=True, exclude=exclude)
        module = get_class(cfg.teacher.model["_target_"]).from_pretrained(model_folder)
        return TrainedTeacher(module, cfg.teacher.name, fingerprint, model_folder, 0.0, True)
    start = time.perf_counter()
    try:
        module = train_teacher(cfg, data, folder, exclude)
    except BaseException:
        if rank() == 0 and not any(path.is_file() for path in folder.rglob("*")):
            shutil.rmtree(folder, ignore_errors=True)
        raise
    seconds = time.perf_counter() - start
    if rank() == 0:
        module.save_pretrained(
            model_folder,
            tokenizer=data.tokenizer,
            metadata={
                "classes": list(data.task.classes),
                "task": data.task.to_dict(),
                "inputs": data.inputs.to_dict(),
                "privileged": _scale(data) if cfg.teacher.inputs == "whole" else None,
            },
            overwrite=True,  # what is there is the rest of a save that was killed
        )
        remember_training(model_folder, data, labelled=True, exclude=exclude)
        write_json(done, {"fingerprint": fingerprint, "seconds": seconds, "settings": settings})
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # nobody goes on from there
        (folder / WEIGHTS).unlink(missing_ok=True)
    return TrainedTeacher(module, cfg.teacher.name, fingerprint, model_folder, seconds, False)


def train_teacher(
    cfg: DictConfig, data: Any, folder: Path, exclude: Collection[str] = ()
) -> nn.Module:
    """Train the model of `cfg.teacher` on the labelled clips with the supervised loss."""
    training = cfg.teacher.training
    engine.seed_everything(cfg.seed)
    module = engine.build(cfg.teacher.model, **_own_words(cfg, data))
    pretrain(cfg, data, module, folder)
    with clip_features(cfg, data, module):
        return fit_alone(
            cfg,
            data,
            module,
            teacher_objective(cfg, data),
            data.labelled_dataloader(exclude),
            folder,
            inputs={"whole": whole, "public": public}[cfg.teacher.inputs],
            lr=training.lr,
            max_steps=training.max_steps,
            label=cfg.teacher.get("label") or f"teacher {cfg.teacher.name}",
            learning_rate=cfg.teacher.get("learning_rate") or "teacher.training.lr",
        )


def teacher_objective(cfg: DictConfig, data: Any) -> Objective:
    """What the teacher is trained by: `teacher.objective`, or the supervised loss.

    Raises:
        ValueError: if a loss refuses its arguments.
    """
    own = cfg.teacher.get("objective")
    if own is not None:
        return Objective(engine.build(own.terms), OmegaConf.to_container(own.weights, resolve=True))
    smoothing = cfg.teacher.training.label_smoothing
    terms: dict[str, nn.Module] = {
        "task": SupervisedLoss(task=data.task.kind, label_smoothing=smoothing)
    }
    if getattr(data, "sub_labels", ()):
        terms["sub_labels"] = SubLabelLoss()
    return Objective(terms, dict.fromkeys(terms, 1.0))


def _scale(data: Any) -> dict[str, Any] | None:
    normalizer: PrivilegedNormalizer | None = data.normalizer
    return None if normalizer is None else normalizer.to_dict()


def _own_words(cfg: DictConfig, data: Any) -> dict[str, Any]:
    """The data's tokenizer for a model that turns words of its own into tokens: a prompt."""
    known = inspect.signature(get_class(cfg.teacher.model["_target_"])).parameters
    return {"tokenizer": data.tokenizer} if {"tokenizer", "layout"} <= known.keys() else {}


def _load(cfg: DictConfig, data: Any, path: Path) -> TrainedTeacher:
    expected = get_class(cfg.teacher.model["_target_"])
    if not path.is_dir():
        raise ValueError(
            f"teacher.checkpoint={path} is not a folder; give one written by save_pretrained, for "
            "instance the teacher folder named in an earlier report"
        )
    found = read_config(path)["class"]
    if found != expected.__name__:
        raise ValueError(
            f"teacher.checkpoint={path} holds {found}, but teacher={cfg.teacher.name} is "
            f"{expected.__name__}; give one of those, or teacher.checkpoint=null to train one"
        )
    module = expected.from_pretrained(path)
    _check_fits(module, cfg, data, path)
    _check_classes(data, path)
    if cfg.teacher.inputs == "whole":
        module = _on_its_own_scale(module, data, path)
    digest = hashlib.sha256()
    for weights in sorted(path.rglob("*.safetensors")):
        digest.update(weights.read_bytes())
    return TrainedTeacher(module, cfg.teacher.name, digest.hexdigest(), path.absolute(), 0.0, True)


def _check_fits(module: nn.Module, cfg: DictConfig, data: Any, path: Path) -> None:
    if hasattr(data, "sub_labels"):
        wanted = {"num_sub_labels": len(data.sub_labels)}
    else:
        wanted = {"num_outputs": data.task.num_outputs}
    if cfg.teacher.inputs == "whole":
        wanted["num_privileged"] = data.num_privileged
    for name, number in wanted.items():
        found = module.config.get(name)
        if found != number:
            raise ValueError(
                f"teacher.checkpoint={path} has {name}={found}, but task {data.task.name!r} on "
                f"this data needs {number}; give a teacher trained for this task, or "
                "teacher.checkpoint=null to train one"
            )
    named = module.config.get("prompt", {}).get("fields", ())
    if named and list(named) != list(data.inputs.text_fields):
        raise ValueError(
            f"teacher.checkpoint={path} was trained with the text fields {list(named)}, the data "
            f"have {list(data.inputs.text_fields)}; give the same ones in the same order"
        )


def _check_classes(data: Any, path: Path) -> None:
    """A teacher whose classes stand in another order would teach the opposite."""
    stored, wanted = load_metadata(path).get("classes"), list(data.task.classes)
    if stored is not None and stored != wanted:
        raise ValueError(
            f"teacher.checkpoint={path} was trained for the classes {stored}, but task "
            f"{data.task.name!r} has {wanted}; give data with the same classes in the same order, "
            "or teacher.checkpoint=null to train one"
        )


def _on_its_own_scale(module: nn.Module, data: Any, path: Path) -> nn.Module:
    """Make sure that the teacher sees the features that it knows, in its own units."""
    stored = load_metadata(path).get("privileged")
    if stored is None:
        return module
    its, ours = PrivilegedNormalizer.from_dict(stored), data.normalizer
    for what in ("names", "log1p"):
        if getattr(its, what) != getattr(ours, what):
            raise ValueError(
                f"teacher.checkpoint={path} was trained on privileged features with "
                f"{what}={list(getattr(its, what))}, but these data have "
                f"{list(getattr(ours, what))}; give the same ones in the same order"
            )
    if its == ours:
        return module
    return RescaledTeacher(module, mean=ours.mean, std=ours.std, own_mean=its.mean, own_std=its.std)
