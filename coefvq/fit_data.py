"""The clips that `coefvq.fit_cascade` fits and judges with, and whether the models know them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, open_dict

from coefvq import config
from coefvq.data.seen_clips import clip_hashes, count_seen, read_seen
from coefvq.prepare import prepared_data

Say = Callable[..., None]

_ON_ITS_OWN = ("data", "seed", "train_on")
"""Words that choose the data."""


def choose_data(
    cfg: DictConfig, light: Path, task: Any, words: Sequence[str] | None, say: Say
) -> DictConfig:
    """The config with the data that a cascade is fitted on, and a line that says which they are.

    Without a word about data those of the light model's run are taken, where its folder lies in
    one. Rows of a manifest that somebody gives are for fitting and judging alone, and its task and
    classes are the model's unless they are given, too.

    Args:
        cfg: of `conf/fit_cascade.yaml`; left as it is.
        light: folder of the (first) light model.
        task: what that model answers.
        words: as given on the command line; None: nobody knows, and the config's data are meant.
        say: prints a line.
    """
    cfg = cfg.copy()
    given = {word.lstrip("+~").partition("=")[0] for word in words or ()}
    told = words is None or any(key.partition(".")[0] in _ON_ITS_OWN for key in given)
    run = light.absolute().parent / "config.yaml"
    if not told and run.is_file():
        stored = yaml.safe_load(run.read_text(encoding="utf-8"))
        with open_dict(cfg):
            cfg.update({key: stored[key] for key in _ON_ITS_OWN if key in stored})
        say(f"data     {config.data_words(cfg)}: those of the run {run.parent}")
        return cfg
    if cfg.data._target_.endswith(".manifest_data"):
        with open_dict(cfg):
            cfg.data.evaluation_only = True
            if words is not None and "data.task" not in given:
                cfg.data.task = task.kind
            if cfg.data.classes is None and cfg.data.task == task.kind:
                cfg.data.classes = list(task.classes)
    say(f"data     {config.data_words(cfg)}")
    return cfg


def data_for(cfg: DictConfig, folder: Path, model: Any) -> Any:
    """The data of the config, read as a model reads a clip.

    Args:
        cfg: with the data of `choose_data`.
        folder: of the model.
        model: its `coefvq.serving.served_model.Interface`.

    Raises:
        ValueError: the data don't offer what the model reads.
    """
    cfg = cfg.copy()
    for key, value in dataclasses.asdict(model.inputs).items():
        name = "text" if key == "text_fields" else key
        if name in cfg.data:
            cfg.data[name] = list(value) if isinstance(value, tuple) else value
    if cfg.data.get("evaluation_only") and model.tokenizer is not None:
        cfg.data.tokenizer = cfg.data.tokenizer or str(folder)  # no training texts to make one of
    data = prepared_data(cfg, folder)
    if data.inputs != model.inputs:
        ours, its = dataclasses.asdict(data.inputs), dataclasses.asdict(model.inputs)
        differ = [f"{k} {its[k]!r} (data: {ours[k]!r})" for k in its if its[k] != ours[k]]
        raise ValueError(
            f"{folder} reads clips with {', '.join(differ)}, which these data do not offer; "
            "use data=manifest"
        )
    return data


def say_splits(data: Any, say: Say) -> None:
    """Say how many clips fit the cascade and judge it, and which rows are of no use for either."""
    counts = (f"{number} {why}" for why, number in _left_out(data).items() if number)
    unused = f"; rows left out: {', '.join(counts)}" if any(_left_out(data).values()) else ""
    val, test = (len(data.splits[split]) for split in ("val", "test"))
    say(f"clips    {val} fit the cascade, {test} judge it{unused}")


def _left_out(data: Any) -> dict[str, int]:
    return dict(getattr(data.source, "left_out", {}))


def check_unseen(folders: Iterable[tuple[str, Path]], data: Any, how: str, say: Say) -> None:
    """Refuse clips that one of the models was trained on: on them it is better than it is.

    Args:
        folders: of the models, each with what it is (`light`, `heavy`).
        data: prepared.
        how: `refuse`, or `allow` to say it and go on.
        say: prints a line, also for a folder that does not remember its clips.

    Raises:
        ValueError: a model knows some of the clips, or `how` is another word.
    """
    if how not in ("refuse", "allow"):
        raise ValueError(f"seen_clips={how} is unknown; choose refuse or allow")
    val, test = (data.splits[split] for split in ("val", "test"))
    val_hashes, test_hashes = clip_hashes(val), clip_hashes(test)  # each file is read once
    for who, folder in folders:
        known = read_seen(folder)
        if known is None:
            say(
                f"{who:<8} {folder} does not say which clips it was trained on (an older version "
                "saved it), so nobody has checked that these are new to it"
            )
            continue
        fits, judges = count_seen(val_hashes, known), count_seen(test_hashes, known)
        if not fits + judges:
            continue
        sentence = (
            f"{who}={folder} was trained on {fits} of the {len(val)} validation and {judges} of "
            f"the {len(test)} test clips, on which it looks better than it is"
        )
        if how == "refuse":
            raise ValueError(
                f"{sentence}; give clips that are new to it (without data words those of the light "
                "model's run are taken), or add seen_clips=allow to go on"
            )
        say(f"{who:<8} {sentence} (seen_clips=allow)")


__all__ = ["check_unseen", "choose_data", "data_for", "say_splits"]
