"""`python -m coefvq.fit_cascade light=… heavy=… budget=0.1`: a policy between two models."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from coefvq import config

Say = Callable[..., None]

RULES = ("budget", "recall", "expected_recall", "threshold", "miss_price")
SETTINGS = [
    *RULES, "false_alarm_price", "false_alarms", "gate", "gate_options", "calibrator",
    "heavy_calibrator", "confidence", "recall_of", "deferred", "train_prevalence",
    "serving_prevalence", "precision",
]  # fmt: skip
SPLITS = ("val", "test")
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
    from coefvq.cascade.cost import Cost
    from coefvq.cascade.fit_words import check_prices, check_words

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
    from coefvq.cascade.ablation import calibration_ablation
    from coefvq.cascade.ablation_table import ablation_table
    from coefvq.cascade.fitting import fit_policy
    from coefvq.cascade.report import cascade_figures, labelled
    from coefvq.evaluation.cascade_page import write_cascade
    from coefvq.serving.cascade_cost import latencies, measure_cost
    from coefvq.serving.cascade_folder import Cascade, save_cascade
    from coefvq.serving.light_models import light_folders, load_light
    from coefvq.serving.served_model import load_served

    lights, task = light_folders(models[0]), data.task.kind
    words = fit_words(settings, task, len(lights))
    light, heavy = load_light(lights).to(device), load_served(models[1]).to(device)
    cost = measure_cost(light, heavy, data.whole_split("val").clips[:16])
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
    figures["latency"] = latencies(Cascade(light, heavy, policy), clips)
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


def fit_cascade(cfg: DictConfig, say: Say = print) -> dict[str, Any]:
    """Score clips with saved models and fit the cascade between them.

    Args:
        cfg: a config of `conf/fit_cascade.yaml`; `light` may be a list, for `gate=disagreement`.
        say: prints what is being done.

    Returns:
        See `fit_and_save`.

    Raises:
        ValueError: wrong words, models of different tasks, or data of another one; a cascade that
            is there.
    """
    import torch

    from coefvq import engine
    from coefvq.evaluation.collect import collect
    from coefvq.serving.cascade_folder import is_cascade
    from coefvq.serving.light_models import light_folders
    from coefvq.serving.served_model import load_served, pick_device, read_interface

    light = OmegaConf.to_object(cfg.light) if OmegaConf.is_list(cfg.light) else cfg.light
    lights = light_folders(light)
    out = Path(cfg.out or lights[0].absolute().parent / "cascade")
    if is_cascade(out) and not cfg.overwrite:
        raise ValueError(f"out={out} holds a cascade; add overwrite=true or give another out=")
    engine.quiet()
    device = torch.device(pick_device(cfg.device))
    settings = OmegaConf.masked_copy(cfg, SETTINGS)
    folders = [*(("light", path) for path in lights), ("heavy", Path(cfg.heavy))]
    known = [read_interface(folder) for _, folder in folders]  # all that is wrong, before minutes
    fit_words(settings, known[0].task.kind, len(lights))
    for (_, folder), its in zip(folders, known, strict=True):
        if (its.task.kind, its.task.classes) != (known[0].task.kind, known[0].task.classes):
            raise ValueError(
                f"{folder} answers {its.task.kind} {list(its.task.classes)}, {lights[0]} "
                f"{known[0].task.kind} {list(known[0].task.classes)}; give models of one task"
            )
    answers: dict[str, dict[str, list[Any]]] = {w: {"light": [], "heavy": []} for w in SPLITS}
    data = None
    for (who, folder), its in zip(folders, known, strict=True):
        if data is None or data.inputs != its.inputs or data.tokenizer is not None:
            say(f"{who:<8} {folder}: reading clips")
            data = _data_for(cfg, folder, its)
        if (its.task.kind, its.task.classes) != (data.task.kind, data.task.classes):
            raise ValueError(
                f"{who}={folder} answers {its.task.kind} {list(its.task.classes)}, but the data "
                f"are {data.task.kind} {list(data.task.classes)}; give data of the model's own task"
            )
        module = load_served(folder).to(device).module
        answers["val"][who].append(collect(module, data.val_dataloader(), device=device))
        answers["test"][who].append(collect(module, data.test_dataloader(), device=device))
    assert data is not None
    pairs = (
        (found["light"] if len(lights) > 1 else found["light"][0], found["heavy"][0])
        for found in answers.values()
    )
    figures = fit_and_save(
        out, settings, (lights, cfg.heavy), *pairs, data, overwrite=cfg.overwrite, device=device
    )
    say(f"cascade  {out}")
    return figures


def _data_for(cfg: DictConfig, folder: Path, model: Any) -> Any:
    """The data of the config, read as the model reads a clip."""
    from coefvq.prepare import prepared_data

    cfg = cfg.copy()
    for key, value in dataclasses.asdict(model.inputs).items():
        name = "text" if key == "text_fields" else key
        if name in cfg.data:
            cfg.data[name] = list(value) if isinstance(value, tuple) else value
    data = prepared_data(cfg, folder)
    if data.inputs != model.inputs:
        ours, its = dataclasses.asdict(data.inputs), dataclasses.asdict(model.inputs)
        differ = [f"{k} {its[k]!r} (data: {ours[k]!r})" for k in its if its[k] != ours[k]]
        raise ValueError(
            f"{folder} reads clips with {', '.join(differ)}, which these data do not offer; "
            "use data=manifest"
        )
    return data


@hydra.main(version_base="1.3", config_path=str(config.folder("conf")), config_name="fit_cascade")
def _main(cfg: DictConfig) -> None:
    with config.one_sentence():
        from rich.console import Console

        from coefvq.evaluation.cascade_page import cascade_table

        console = Console(stderr=True, highlight=False)
        figures = fit_cascade(cfg, lambda text: console.print(text, soft_wrap=True))
        Console().print(cascade_table(figures))


if __name__ == "__main__":
    config.read_words()
    _main()
