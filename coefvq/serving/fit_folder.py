"""Fit a cascade from what its models said, and write its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from coefvq.cascade.ablation import calibration_ablation
from coefvq.cascade.ablation_table import ablation_table
from coefvq.cascade.cost import Cost
from coefvq.cascade.fit_words import check_positives, check_prices, check_words
from coefvq.cascade.fitting import fit_policy
from coefvq.cascade.report import cascade_figures, labelled
from coefvq.evaluation.cascade_page import write_cascade
from coefvq.serving import cascade_cost
from coefvq.serving.cascade_folder import Cascade, save_cascade
from coefvq.serving.light_models import light_folders, load_light
from coefvq.serving.served_model import load_served, model_fingerprint
from coefvq.types import Clip

RULES = ("budget", "recall", "expected_recall", "threshold", "miss_price")
SETTINGS = [
    *RULES, "false_alarm_price", "false_alarms", "gate", "gate_options", "calibrator",
    "heavy_calibrator", "confidence", "recall_of", "deferred", "train_prevalence",
    "serving_prevalence", "precision",
]  # fmt: skip
SHARED = ("gate", "gate_options", "deferred", "serving_prevalence")


def fit_words(settings: DictConfig, task: str, light_models: int = 1) -> dict[str, Any]:
    """Turn `conf/cascade/entropy.yaml` into words of `coefvq.cascade.fitting.fit_policy`.

    Without a rule it is a budget of 0.1; without a calibrator affine, or vector for several
    classes. With `miss_price` the rule is the cheapest threshold; its `cost` is still to be
    measured and is 0 here.

    Args:
        settings: as in the config; null and missing words have their defaults.
        task: binary, multiclass or multilabel.
        light_models: how many.

    Raises:
        ValueError: words that no clips could make right, before any is scored.
    """
    given: Any = OmegaConf.to_container(settings, resolve=True)
    words = {name: value for name, value in given.items() if value is not None}
    rules = [name for name in RULES if name in words]
    if len(rules) > 1:
        raise ValueError(
            f"give exactly one of {', '.join(RULES)} (miss_price chooses by cost), got "
            f"{' and '.join(rules)}"
        )
    if not rules:
        words["budget"] = 0.1
    if "miss_price" in words:
        words["cost"] = Cost(0.0, 0.0)
    elif "false_alarm_price" in words:
        raise ValueError("false_alarm_price goes with miss_price, which chooses by cost; give both")
    check_prices(**{name: words[name] for name in words if name.endswith("_price")})
    words.setdefault("calibrator", "vector" if task == "multiclass" else "affine")
    check_words(words, task=task, light_models=light_models)
    return words


def check_labels(words: Mapping[str, Any], clips: Sequence[Clip]) -> None:
    """Refuse a recall that the labels of these clips cannot show, before a model scores them.

    Args:
        words: of `fit_words`.
        clips: of the validation split.

    Raises:
        ValueError: too few positives, with the number that is needed.
    """
    for rule in ("recall", "expected_recall"):
        if rule in words:
            positives = sum(clip.label == 1 for clip in clips)
            check_positives(positives, rule, words[rule], confidence=words.get("confidence", 0.95))


def check_different(lights: Sequence[Path], heavy: str | Path) -> None:
    """Refuse a heavy model that is a light one, by config and weights.

    Raises:
        ValueError: it is, or a folder holds no model.
    """
    _refuse_same({light: model_fingerprint(light) for light in lights}, model_fingerprint(heavy))


def _refuse_same(lights: Mapping[Path, str], heavy: str) -> None:
    for folder, own in lights.items():
        if own == heavy:
            raise ValueError(
                f"light={folder} and the heavy model are the same, config and weights, so that one "
                "cannot correct the other; give a heavy model that is better than the light one"
            )


def fit_and_save(
    folder: Path,
    settings: DictConfig,
    models: tuple[Any, str | Path],
    val: tuple[Any, Any],
    test: tuple[Any, Any],
    data: Any,
    *,
    overwrite: bool = False,
    device: Any = "cpu",
) -> dict[str, Any]:
    """Fit a policy on validation clips, write the cascade's folder, measure it on test clips.

    Args:
        folder: what becomes the cascade.
        settings: as `conf/cascade/entropy.yaml`.
        models: folder of the light model, or folders of several, and of the heavy one.
        val: `Predictions` of the light model (a list of several) and of the heavy one.
        test: likewise.
        data: prepared; whose clips cost is measured with.
        overwrite: replace a cascade that is there.
        device: that cost is measured on.

    Returns:
        `coefvq.cascade.report.cascade_figures`, with the latencies of single clips and, under
        `calibrators`, `coefvq.cascade.ablation.calibration_ablation`.

    Raises:
        ValueError: what the fit refuses, in one sentence.
    """
    lights, task = light_folders(models[0]), data.task.kind
    words = fit_words(settings, task, len(lights))
    light, heavy = load_light(lights).to(device), load_served(models[1]).to(device)
    _refuse_same(dict(zip(lights, light.fingerprint.split("+"), strict=True)), heavy.fingerprint)
    cost = cascade_cost.measure_cost(light, heavy, data.whole_split("val").clips[:16])
    if "cost" in words:
        words["cost"] = cost
    policy = fit_policy(
        *labelled(*val), task=task, data=data.fingerprint, light_fingerprint=light.fingerprint,
        heavy_fingerprint=heavy.fingerprint, **words,
    )  # fmt: skip
    figures = cascade_figures(policy, val, test, cost=cost, precision=words.get("precision"))
    shared = {name: words[name] for name in SHARED if name in words}
    found = calibration_ablation(
        labelled(*val), labelled(*test), task=task, budget=_between(words.get("budget")), **shared
    )
    figures["calibrators"] = found
    clips = data.whole_split("test").clips[:64]
    figures["latency"] = cascade_cost.latencies(Cascade(light, heavy, policy), clips)
    save_cascade(folder, policy, lights, models[1], overwrite=overwrite)
    write_cascade(folder, figures)
    report = {"label": Path(folder).name, "task": data.task.name, "seed": 1, "cascade": figures}
    table = ablation_table([report])
    assert table is not None
    table.write(folder)
    return figures


def _between(budget: float | None) -> float:
    """The policy's own budget, where it defers some clips and not all."""
    return budget if budget is not None and 0 < budget < 1 else 0.1


__all__ = ["RULES", "SETTINGS", "check_different", "check_labels", "fit_and_save", "fit_words"]
