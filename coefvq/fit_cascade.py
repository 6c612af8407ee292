"""`python -m coefvq.fit_cascade light=… heavy=… budget=0.1`: a policy between two models."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from coefvq import config, launch

Say = Callable[..., None]

RULES = ("budget", "recall", "expected_recall", "threshold")
SETTINGS = [
    *RULES, "gate", "gate_options", "calibrator", "confidence", "deferred", "serving_prevalence",
    "precision",
]  # fmt: skip


def fit_and_save(
    folder: Path,
    settings: DictConfig,
    models: tuple[str | Path, str | Path],
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
        models: folders of the light and of the heavy model.
        val: `Predictions` of the light and of the heavy model.
        test: likewise.
        data: prepared; whose clips cost is measured with.
        overwrite: replace a cascade that is there.
        device: that cost is measured on.

    Returns:
        `coefvq.cascade.report.cascade_figures`, with the latencies of single clips.

    Raises:
        ValueError: what the fit refuses, in one sentence.
    """
    from coefvq.cascade.fitting import fit_policy
    from coefvq.cascade.report import cascade_figures, labelled
    from coefvq.evaluation.cascade_page import write_cascade
    from coefvq.serving.cascade_cost import latencies, measure_cost
    from coefvq.serving.cascade_folder import load_cascade, save_cascade
    from coefvq.serving.served_model import model_fingerprint

    words: dict[str, Any] = OmegaConf.to_container(settings, resolve=True)  # type: ignore[assignment]
    if all(words[rule] is None for rule in RULES):
        words["budget"] = 0.1
    policy = fit_policy(
        *labelled(*val), task=data.task.kind, data=data.fingerprint,
        light_fingerprint=model_fingerprint(models[0]),
        heavy_fingerprint=model_fingerprint(models[1]), **words,
    )  # fmt: skip
    save_cascade(folder, policy, *models, overwrite=overwrite)
    cascade = load_cascade(folder)
    cascade.light.to(device)
    cascade.heavy.to(device)
    clips = data.whole_split("test").clips
    cost = measure_cost(cascade, clips[:16])
    figures = cascade_figures(policy, val, test, cost=cost, precision=words["precision"])
    figures["latency"] = latencies(cascade, clips[:64])
    write_cascade(folder, figures)
    return figures


def fit_cascade(cfg: DictConfig, say: Say = print) -> dict[str, Any]:
    """Score clips with two saved models and fit the cascade between them.

    Args:
        cfg: a config of `conf/fit_cascade.yaml`.
        say: prints what is being done.

    Returns:
        See `fit_and_save`.

    Raises:
        ValueError: models of different tasks, or data of another one; a cascade that is there.
    """
    import torch

    from coefvq import engine
    from coefvq.evaluation.collect import collect
    from coefvq.serving.cascade_folder import is_cascade
    from coefvq.serving.served_model import load_served, pick_device

    out = Path(cfg.out or Path(cfg.light).absolute().parent / "cascade")
    if is_cascade(out) and not cfg.overwrite:
        raise ValueError(f"out={out} holds a cascade; add overwrite=true or give another out=")
    engine.quiet()
    device = torch.device(pick_device(cfg.device))
    settings = OmegaConf.masked_copy(cfg, SETTINGS)
    answers: dict[str, list[Any]] = {"val": [], "test": []}
    data = None
    for who in ("light", "heavy"):
        model = load_served(cfg[who]).to(device)
        if data is None or data.inputs != model.inputs or data.tokenizer is not None:
            say(f"{who:<8} {cfg[who]}: reading clips")
            data = _data_for(cfg, model)
        task = model.task
        if (task.kind, task.classes) != (data.task.kind, data.task.classes):
            raise ValueError(
                f"{who}={cfg[who]} answers {task.kind} {list(task.classes)}, but the data are "
                f"{data.task.kind} {list(data.task.classes)}; give data of the model's own task"
            )
        answers["val"].append(collect(model.module, data.val_dataloader(), device=device))
        answers["test"].append(collect(model.module, data.test_dataloader(), device=device))
    assert data is not None
    figures = fit_and_save(
        out, settings, (cfg.light, cfg.heavy), tuple(answers["val"]), tuple(answers["test"]),
        data, overwrite=cfg.overwrite, device=device,
    )  # fmt: skip
    say(f"cascade  {out}")
    return figures


def _data_for(cfg: DictConfig, model: Any) -> Any:
    """The data of the config, read as the model reads a clip."""
    from coefvq.prepare import prepared_data

    cfg = cfg.copy()
    for key, value in dataclasses.asdict(model.inputs).items():
        name = "text" if key == "text_fields" else key
        if name in cfg.data:
            cfg.data[name] = list(value) if isinstance(value, tuple) else value
    data = prepared_data(cfg, model.folder)
    if data.inputs != model.inputs:
        ours, its = dataclasses.asdict(data.inputs), dataclasses.asdict(model.inputs)
        differ = [f"{k} {its[k]!r} (data: {ours[k]!r})" for k in its if its[k] != ours[k]]
        raise ValueError(
            f"{model.folder} reads clips with {', '.join(differ)}, which these data do not offer; "
            "use data=manifest"
        )
    return data


@hydra.main(version_base="1.3", config_path=str(config.folder("conf")), config_name="fit_cascade")
def _main(cfg: DictConfig) -> None:
    with launch.one_sentence():
        from rich.console import Console

        from coefvq.evaluation.cascade_page import cascade_table

        console = Console(stderr=True, highlight=False)
        figures = fit_cascade(cfg, lambda text: console.print(text, soft_wrap=True))
        Console().print(cascade_table(figures))


if __name__ == "__main__":
    launch.start(_main)
