"""`shortform` as a source of clips and, for recipes, as a data module from flat arguments."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas

from coefvq.data.datamodule import ClipDataModule
from coefvq.data.manifest import Manifest
from coefvq.data.shortform import history, make
from coefvq.data.shortform.pool import VERSION, Pool
from coefvq.data.shortform.tasks import NOISE, TASKS, make_labels
from coefvq.types import Clip, InputSpec

PRIVILEGED = {
    "full": (*make.REFERENCE, *make.ENCODER, *history.NAMES),
    "encoder": (*make.REFERENCE, *make.ENCODER),
    "history": history.NAMES,
}
"""Privileged features by what the teacher may see."""

LOG1P = ("bytes_first", "bytes_mean", "bytes_std", "views")


class Shortform:
    """The embedded data set, one task of it.

    Args:
        task: a key of `coefvq.data.shortform.tasks.TASKS`.
        labelled: training clips with a label.
        unlabelled: training clips without one.
        val: validation clips, labelled by the same noisy raters.
        test: test clips, with gold labels.
        privileged: `"full"`, `"encoder"` (measures of the file alone) or `"history"` (the simulated
            audience alone).
        label_noise: `"normal"`, `"heavy"` or `"none"`.
        seed: of the pool of clips.
        split_seed: which clips go where, and the raters' errors.
        pool: how many clips the splits are drawn from; None: just as many as they need.
        cache_dir: see `coefvq.data.home.cache_home`.

    Raises:
        ValueError: an unknown word, or a size below 1 (`unlabelled`: below 0).
    """

    def __init__(
        self,
        task: str = "degraded",
        *,
        labelled: int = 400,
        unlabelled: int = 700,
        val: int = 150,
        test: int = 350,
        privileged: str = "full",
        label_noise: str = "normal",
        seed: int = 0,
        split_seed: int = 1,
        pool: int | None = None,
        cache_dir: str | Path | None = None,
    ) -> None:
        _one_of("data.task", task, TASKS)
        _one_of("data.privileged", privileged, PRIVILEGED)
        _one_of("data.label_noise", label_noise, NOISE)
        sizes = {"labelled": labelled, "unlabelled": unlabelled, "val": val, "test": test}
        for name, size in sizes.items():
            least = 0 if name == "unlabelled" else 1
            if size < least:
                raise ValueError(f"data.{name} must be at least {least}, got {size}")
        needed = sum(sizes.values())
        if pool is not None and pool < needed:
            raise ValueError(
                f"data.pool={pool} is fewer than the {needed} clips that labelled, unlabelled, val "
                "and test add up to; raise it or ask for fewer"
            )
        self.task = TASKS[task]
        self.sizes = sizes
        self.privileged = PRIVILEGED[privileged]
        self.label_noise = label_noise
        self.seed = seed
        self.split_seed = split_seed
        self.pool = pool or needed
        self.cache_dir = cache_dir

    @property
    def fingerprint(self) -> str:
        """Hash of the recipe and its seeds; not of files, whose bytes vary with the encoder."""
        content = [VERSION, self.task.name, self.sizes, self.privileged, self.label_noise]
        content += [self.seed, self.split_seed, self.pool]
        return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()

    def load(self) -> Manifest:
        """Make the clips that are missing, and list those of this task's splits."""
        pool = Pool(self.seed, self.cache_dir)
        table = pool.ensure(self.pool)
        rng = np.random.default_rng([self.split_seed, list(TASKS).index(self.task.name)])
        noisy = make_labels(table, self.task.name, NOISE[self.label_noise], rng)
        gold = make_labels(table, self.task.name, NOISE["none"], rng)
        # The same clips are drawn whatever the task, test first: other sizes of the training split
        # leave validation and test as they are.
        order = np.random.default_rng(self.split_seed).permutation(len(table))
        splits: dict[str, Sequence[int]] = {}
        start = 0
        for name in ("test", "val", "labelled", "unlabelled"):
            splits[name] = order[start : start + self.sizes[name]].tolist()
            start += self.sizes[name]
        labels: dict[str, list | None] = {
            "labelled": noisy, "unlabelled": None, "val": noisy, "test": gold,
        }  # fmt: skip
        clips = [
            self._clip(pool, table.iloc[i], "train" if "labelled" in name else name, labels[name])
            for name in ("labelled", "unlabelled", "val", "test")
            for i in splits[name]
        ]
        log1p = tuple(name for name in LOG1P if name in self.privileged)
        return Manifest(tuple(clips), self.task, self.privileged, log1p, self.fingerprint)

    def _clip(self, pool: Pool, row: pandas.Series, split: str, labels: list | None) -> Clip:
        index = int(row["index"])
        return Clip(
            id=f"shortform-{self.seed}-{index:06d}",
            path=pool.clips / make.clip_name(index),
            text={"title": str(row["title"])},
            label=None if labels is None else labels[index],
            privileged={name: float(row[name]) for name in self.privileged},
            split=split,
        )


def shortform_data(
    task: str = "degraded",
    *,
    labelled: int = 400,
    unlabelled: int = 700,
    val: int = 150,
    test: int = 350,
    privileged: str = "full",
    label_noise: str = "normal",
    seed: int = 0,
    split_seed: int = 1,
    pool: int | None = None,
    num_frames: int = 2,
    max_text_length: int = 12,
    audio: bool = True,
    batch_size: int = 64,
    eval_batch_size: int | None = None,
    num_workers: int = 0,
    train_on: Literal["all", "labelled"] = "all",
    labelled_per_batch: int | None = None,
    order_seed: int = 1,
    on_bad_clip: Literal["error", "skip"] = "error",
    cache_dir: str | Path | None = None,
) -> ClipDataModule:
    """Make the data module of one task of `shortform`, from flat arguments.

    Args:
        task: see `Shortform`, as all up to `pool`.
        labelled: see `Shortform`.
        unlabelled: see `Shortform`.
        val: see `Shortform`.
        test: see `Shortform`.
        privileged: see `Shortform`.
        label_noise: see `Shortform`.
        seed: see `Shortform`.
        split_seed: see `Shortform`.
        pool: see `Shortform`.
        num_frames: frames that the models read of each clip's 24.
        max_text_length: tokens of the title.
        audio: whether sound is read.
        batch_size: see `coefvq.data.datamodule.ClipDataModule`, as all that follow.
        eval_batch_size: see there.
        num_workers: see there.
        train_on: see there.
        labelled_per_batch: see there.
        order_seed: order of training.
        on_bad_clip: see there.
        cache_dir: see `coefvq.data.home.cache_home`.

    Raises:
        ValueError: an unknown word or a size that makes no sense.
    """
    source = Shortform(
        task,
        labelled=labelled,
        unlabelled=unlabelled,
        val=val,
        test=test,
        privileged=privileged,
        label_noise=label_noise,
        seed=seed,
        split_seed=split_seed,
        pool=pool,
        cache_dir=cache_dir,
    )
    inputs = InputSpec(
        num_frames=num_frames, frame_size=128, max_text_length=max_text_length, audio=audio
    )
    return ClipDataModule(
        source,
        inputs,
        batch_size=batch_size,
        eval_batch_size=eval_batch_size,
        num_workers=num_workers,
        train_on=train_on,
        labelled_per_batch=labelled_per_batch,
        on_bad_clip=on_bad_clip,
        cache_dir=cache_dir,
        seed=order_seed,
    )


def _one_of(name: str, value: str, known: Any) -> None:
    if value not in known:
        raise ValueError(f"{name}={value} is unknown; choose one of {', '.join(known)}")
