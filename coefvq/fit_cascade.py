"""`python -m coefvq.fit_cascade light=… heavy=… budget=0.1`: a policy between two models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from coefvq import config, launch
from coefvq.serving.fit_folder import (
    SETTINGS,
    check_different,
    check_labels,
    fit_and_save,
    fit_words,
)

Say = Callable[..., None]

SPLITS = ("val", "test")


def fit_cascade(
    cfg: DictConfig, say: Say = print, given: Sequence[str] | None = None
) -> dict[str, Any]:
    """Score clips with saved models and fit the cascade between them.

    Args:
        cfg: a config of `conf/fit_cascade.yaml`; `light` may be a list, for `gate=disagreement`.
        say: prints what is being done.
        given: words that the config was composed from; without one about data, those of the
            light model's run are taken. None: the config's data are meant.

    Returns:
        See `fit_and_save`.

    Raises:
        ValueError: wrong words, models of different tasks, data of another one, or clips that a
            model was trained on; a cascade that is there.
    """
    import torch

    from coefvq import engine
    from coefvq.evaluation.collect import collect
    from coefvq.fit_data import check_unseen, choose_data, data_for, say_splits
    from coefvq.serving.cascade_folder import is_cascade
    from coefvq.serving.light_models import light_folders
    from coefvq.serving.served_model import (
        load_served,
        pick_device,
        read_interface,
        reads_alike,
    )

    if missing := [name for name in ("light", "heavy") if OmegaConf.is_missing(cfg, name)]:
        raise ValueError(f"{missing[0]} is not given; give {missing[0]}=, the folder of a model")
    light = OmegaConf.to_object(cfg.light) if OmegaConf.is_list(cfg.light) else cfg.light
    lights = light_folders(light)
    out = Path(cfg.out or lights[0].absolute().parent / "cascade")
    if is_cascade(out) and not cfg.overwrite:
        raise ValueError(f"out={out} holds a cascade; add overwrite=true or give another out=")
    engine.quiet()
    device = torch.device(pick_device(cfg.device))
    settings = OmegaConf.masked_copy(cfg, SETTINGS)
    folders = [*(("light", path) for path in lights), ("heavy", Path(cfg.heavy))]
    check_different(lights, cfg.heavy)
    known = [read_interface(folder) for _, folder in folders]  # all that is wrong, before minutes
    words = fit_words(settings, known[0].task.kind, len(lights))
    for (_, folder), its in zip(folders, known, strict=True):
        if (its.task.kind, its.task.classes) != (known[0].task.kind, known[0].task.classes):
            raise ValueError(
                f"{folder} answers {its.task.kind} {list(its.task.classes)}, {lights[0]} "
                f"{known[0].task.kind} {list(known[0].task.classes)}; give models of one task"
            )
    answers: dict[str, dict[str, list[Any]]] = {w: {"light": [], "heavy": []} for w in SPLITS}
    cfg = choose_data(cfg, lights[0], known[0].task, given, say)
    data = None
    for (who, folder), its in zip(folders, known, strict=True):
        say(f"{who:<8} {folder}: reading clips")
        if data is None or not reads_alike(data, its):
            data = data_for(cfg, folder, its)
        if (its.task.kind, its.task.classes) != (data.task.kind, data.task.classes):
            raise ValueError(
                f"{who}={folder} answers {its.task.kind} {list(its.task.classes)}, but the data "
                f"are {data.task.kind} {list(data.task.classes)}; give data of the model's own task"
            )
        if not answers["val"]["light"]:
            say_splits(data, say)
            check_unseen(folders, data, cfg.seen_clips, say)
            check_labels(words, data.whole_split("val").clips)
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


@hydra.main(version_base="1.3", config_path=str(config.folder("conf")), config_name="fit_cascade")
def _main(cfg: DictConfig) -> None:
    with launch.one_sentence():
        from rich.console import Console

        from coefvq.evaluation.cascade_page import cascade_table

        console = Console(stderr=True, highlight=False)
        given = HydraConfig.get().overrides.task
        figures = fit_cascade(cfg, lambda text: console.print(text, soft_wrap=True), given)
        Console().print(cascade_table(figures))


if __name__ == "__main__":
    launch.start(_main)
