"""Find `conf/` and `recipes/`, make recipes known to Hydra, and check a composed config."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

_PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """`conf` or `recipes`: inside an installed wheel, beside the package in a checkout.

    Raises:
        ValueError: if it is in neither place.
    """
    for parent in (_PACKAGE, _PACKAGE.parent):
        if (parent / name).is_dir():
            return parent / name
    raise ValueError(
        f"the folder {name}/ is neither in {_PACKAGE} nor in {_PACKAGE.parent}; "
        "reinstall coefvq, or run from a whole checkout"
    )


def recipe_names() -> list[str]:
    """Names of the recipes that `+recipe=` takes."""
    return sorted(path.stem for path in folder("recipes").glob("*.yaml"))


def task_word(cfg: Mapping[str, Any] | DictConfig) -> str:
    """What a run is about, before the data say it: their word for it, or what they are."""
    data = cfg["data"]
    return str(data.get("task") or data["_target_"].rsplit(".", 1)[-1])


def data_words(cfg: DictConfig) -> str:
    """What the first lines of a run call its data.

    >>> data_words(OmegaConf.create({"data": {"_target_": "a.shortform_data", "task": "level"}}))
    'shortform_data, task level'
    >>> data_words(OmegaConf.create({"data": {"_target_": "a.pair_data", "train": "p.csv"}}))
    'pair_data p.csv'
    """
    data = cfg.data
    name = str(data._target_).rsplit(".", 1)[-1]
    if data.get("task"):
        return f"{name}, task {data.task}"
    return f"{name} {data.train}" if isinstance(data.get("train"), str) else name


def register_recipes() -> None:
    """Store each `recipes/*.yaml` as Hydra's group `recipe` in the global package."""
    for path in sorted(folder("recipes").glob("*.yaml")):
        node = OmegaConf.create(yaml.safe_load(path.read_text(encoding="utf-8")))
        ConfigStore.instance().store(
            group="recipe", name=path.stem, node=node, package="_global_", provider="coefvq"
        )


def check_command_line(arguments: Sequence[str]) -> None:
    """Refuse an unknown recipe, or a `recipe=` without its plus, in one sentence.

    Raises:
        ValueError: naming the recipes that exist.
    """
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if key.lstrip("+~") != "recipe" or not equals:
            continue
        if key != "+recipe":
            raise ValueError(f"{argument!r} needs a plus: write +recipe={value}")
        unknown = [name for name in value.split(",") if name not in recipe_names()]
        if unknown:
            raise ValueError(
                f"recipe {', '.join(unknown)} is unknown; choose one of {', '.join(recipe_names())}"
            )


def swept_words(overrides: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """The words of one run of a sweep that its sisters don't share, and its folder doesn't name.

    >>> command = ["-m", "+recipe=cpfd", "objective.distill_weight=0.3,0.5", "seed=1,2"]
    >>> swept_words(["+recipe=cpfd", "objective.distill_weight=0.3", "seed=1"], command)
    ['objective.distill_weight=0.3']
    """
    named = ("recipe", "seed", "data.task")
    return [
        word.lstrip("+")
        for word in overrides
        if word not in arguments and word.lstrip("+").partition("=")[0] not in named
    ]


def check_words_are_read(cfg: DictConfig, words: Sequence[str]) -> None:
    """Refuse words that shape a new teacher where a finished one is given.

    Args:
        cfg: what the words were composed to.
        words: `key=value` as given.

    Raises:
        ValueError: naming the first of them.
    """
    if OmegaConf.select(cfg, "teacher.checkpoint") is None:
        return
    made_here = tuple(f"teacher.{room}." for room in ("model", "pretraining", "training"))
    for word in words:
        if word.lstrip("+~").startswith(made_here):
            raise ValueError(
                f"{word} is for a teacher that is trained here, and teacher.checkpoint="
                f"{cfg.teacher.checkpoint} is taken as it was saved; leave out one of the two"
            )


def validate(cfg: DictConfig) -> None:
    """Check what can be checked before any clip is read.

    Raises:
        ValueError: with one sentence: what was given, what was expected, what to change.
    """
    if "recipe" in cfg:
        raise ValueError(
            f"recipe={cfg.recipe} was taken as a plain value, so the recipe is not applied; the "
            f"recipes found in {folder('recipes')} are {', '.join(recipe_names())}"
        )
    unset = [key for key in _unset(written(cfg)) if not key.startswith("runtime.")]
    if unset:
        raise ValueError(f"{', '.join(unset)} is not set; add {unset[0]}=… to the command")
    _check_logger(cfg)
    objective = cfg.objective
    weights, terms = set(objective.weights), set(objective.terms)
    if weights != terms:
        raise ValueError(
            f"objective.weights names {sorted(weights)} but objective.terms has {sorted(terms)}; "
            "give each term one weight (a recipe's values stay when a group is switched after it)"
        )
    for name, weight in objective.weights.items():
        _check_number(f"objective.weights.{name}", weight, 0.0, math.inf)
    _check_objective_is_read(cfg)
    if "distill_weight" in objective:
        _check_number("objective.distill_weight", objective.distill_weight, 0.0, 1.0)
    if "temperature" in objective:
        _check_number("objective.temperature", objective.temperature, 0.0, math.inf, open_low=True)
    if "confidence" in objective:
        _check_confidence(str(objective.confidence), "confidence_scale" in objective)
    if not isinstance(cfg.seed, int) or cfg.seed < 0:
        raise ValueError(f"seed is a whole number from 0, got {cfg.seed!r}")
    _check_settings(cfg)
    phases = list(cfg.phases)
    if phases not in (["teacher"], ["teacher", "student"], ["student"]):
        raise ValueError(f"phases is [teacher], [teacher, student] or [student], got {phases}")
    if (precision := cfg.get("at_precision")) is not None:
        _check_number("at_precision", precision, 0.0, 0.9999, open_low=True)
    _check_kinds(cfg)
    _check_cascade(cfg)
    _check_precision(str(cfg.get("trainer", {}).get("precision", "32-true")))
    if cfg.train_on not in ("labelled", "all"):
        raise ValueError(f"train_on is labelled or all, got {cfg.train_on!r}")


def _unset(tree: object, prefix: str = "") -> list[str]:
    """Dotted keys whose value is still ???."""
    if isinstance(tree, dict):
        return [
            key
            for name, value in tree.items()
            for key in _unset(value, f"{prefix}.{name}".strip("."))
        ]
    return [prefix] if tree == "???" else []


def _check_number(key: str, value: object, low: float, high: float, open_low: bool = False) -> None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not good or not (low < value if open_low else low <= value) or not value <= high:
        bounds = f"{'(' if open_low else '['}{low:g}, {high:g}{')' if high == math.inf else ']'}"
        raise ValueError(f"{key} must be a number in {bounds}, got {value!r}")


def _check_settings(cfg: DictConfig) -> None:
    """Numbers that would otherwise be refused late, in another library's words, or not at all."""
    for key in ("data.batch_size", "data.eval_batch_size", "data.num_frames"):
        value = OmegaConf.select(cfg, key)
        if value is not None and not (_is_whole(value) and value >= 1):
            raise ValueError(f"{key} is a whole number from 1, got {value!r}")
    steps = OmegaConf.select(cfg, "trainer.max_steps")
    if steps is not None and not (_is_whole(steps) and (steps >= 1 or steps == -1)):
        raise ValueError(
            f"trainer.max_steps is a whole number from 1, or -1 to go by trainer.max_epochs, got "
            f"{steps!r}; python -m coefvq.evaluate scores a run without training"
        )
    for key, open_low in (
        ("optimizer.lr", True),
        ("optimizer.weight_decay", False),
        ("trainer.gradient_clip_val", False),
    ):
        value = OmegaConf.select(cfg, key)
        if value is not None:
            _check_number(key, value, 0.0, math.inf, open_low=open_low)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_kinds(cfg: DictConfig) -> None:
    """Models of pairs read pairs, and models of single clips read single clips."""
    pairs = ".pairs." in str(OmegaConf.select(cfg, "data._target_"))
    for name, key in (("student", "student._target_"), ("teacher", "teacher.model._target_")):
        room, _, model = str(OmegaConf.select(cfg, key) or "").rpartition(".")
        # Of models from elsewhere nothing is known.
        if room.startswith("coefvq.") and model.startswith("Match") != pairs:
            has, reads = ("pairs", "single clips") if pairs else ("single clips", "pairs")
            raise ValueError(
                f"the data are {has} and {name} {model} reads {reads}; use another {name}= or data="
            )


def _check_cascade(cfg: DictConfig) -> None:
    """A cascade serves the teacher, so it must be one model that reads what exists there."""
    if cfg.cascade.gate is None:
        return
    teacher = cfg.teacher
    wrong = (
        f"cascade={cfg.cascade.gate} serves the teacher beside the student, "
        f"but teacher={teacher.name} "
    )
    if teacher.kind != "model" or teacher.model is None or teacher.folds is not None:
        raise ValueError(f"{wrong}is no single model; use one, for instance teacher=mllm")
    if teacher.inputs != "public":
        raise ValueError(
            f"{wrong}reads privileged features, which do not exist there; use teacher=mllm, or "
            "cascade=none"
        )
    if teacher.calibration not in (None, "none"):
        raise ValueError(
            f"{wrong}is calibrated for distillation; the cascade has a calibrator of its own, so "
            "set teacher.calibration=null"
        )


def _check_precision(precision: str) -> None:
    """Lightning's other precisions change batches in a way that frozen dataclasses refuse."""
    known = ("32-true", "16-mixed", "bf16-mixed")
    if precision not in (*known, "32", "16", "bf16"):
        raise ValueError(
            f"trainer.precision={precision} is not supported; choose one of {', '.join(known)}"
        )


def _check_objective_is_read(cfg: DictConfig) -> None:
    """A word of the objective that stands in no term was mistyped behind a plus."""
    everything = str(written(cfg))
    for key in set(cfg.objective) - {"weights", "terms", "schedules"}:
        if f"{{objective.{key}}}" not in everything:
            others = ", ".join(str(word) for word in cfg.objective if word != key)
            raise ValueError(
                f"objective.{key} is read by no term of this objective; its words are {others}"
            )


def _check_logger(cfg: DictConfig) -> None:
    """The only logger whose package is an extra."""
    target = str((cfg.get("logger") or {}).get("_target_", ""))
    if target.endswith("TensorBoardLogger") and find_spec("tensorboard") is None:
        raise ValueError(
            "logger=tensorboard needs the package tensorboard; pip install 'coefvq[tensorboard]', "
            "or use logger=csv"
        )


def _check_confidence(name: str, of_scores: bool) -> None:
    from coefvq.losses import confidence, regression_confidence

    known = regression_confidence.NAMES if of_scores else confidence.NAMES
    if name not in known:
        raise ValueError(
            f"objective.confidence={name} is unknown; choose one of {', '.join(known)}"
        )


def plain(cfg: DictConfig) -> dict:
    """A plain dict with interpolations resolved, for loggers; `runtime` must be filled in."""
    return OmegaConf.to_container(cfg, resolve=True)  # type: ignore[return-value]


def written(cfg: DictConfig) -> dict:
    """A plain dict with interpolations as they are written, for `config.yaml`."""
    return OmegaConf.to_container(cfg, resolve=False)  # type: ignore[return-value]
