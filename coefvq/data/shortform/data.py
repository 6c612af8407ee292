"""`shortform` as a source of clips and, for recipes, as a data module from flat arguments."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from coefvq.data.datamodule import ClipDataModule
from coefvq.data.manifest import Manifest
from coefvq.data.options import share_out
from coefvq.data.shortform import history, make
from coefvq.data.shortform.pool import VERSION, Pool
from coefvq.data.shortform.sources import SAME_PICTURES
from coefvq.data.shortform.tasks import CUTS, NOISE, TASKS, make_labels, make_opinions
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

    Clips of the patterns `sources.SAME_PICTURES` share pictures. For the task `quality`, whose
    splits share no content, each of these patterns is one group, and only training clips are drawn
    from it.

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
        pool: how many clips the splits are drawn from; None: just as many as they need. With
            a number, test and validation stay the same clips while `labelled` and `unlabelled`
            change.
        cache_dir: see `coefvq.data.home.cache_home`.

    Raises:
        ValueError: an unknown word, a size below 1 (`unlabelled`: below 0), a pool too small for
            the splits, or a negative seed.
    """

    files_are_alike = True  # in length, size and colours: reports look at one of them

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
            _at_least(f"data.{name}", size, 0 if name == "unlabelled" else 1)
        _at_least("data.seed", seed, 0)
        _at_least("data.split_seed", split_seed, 0)
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
        least = make.pool_for(needed, val + test, seed) if self._grouped else needed
        if pool is not None and pool < least:
            raise ValueError(
                f"data.pool={pool} has fewer than the {val + test} clips of their own content that "
                "val and test add up to; raise it or ask for fewer"
            )
        self.pool = pool or least
        self.cache_dir = cache_dir

    @property
    def _grouped(self) -> bool:
        """Whether content is kept on one side; classes came first, and their splits stay."""
        return self.task.kind == "regression"

    @property
    def fingerprint(self) -> str:
        """Hash of the recipe and its seeds; not of files, whose bytes vary with the encoder."""
        return self._hash(self.privileged)

    @property
    def labels_note(self) -> str | None:
        """What validation and test labels mean beside each other, where that shifts numbers."""
        if self.task.kind != "regression" or self.label_noise == "none":
            return None
        return (
            "labels of validation clips are means of ten simulated opinions, those of test clips "
            "gold scores: raters can only err downwards on the best clips, so that opinions are on "
            "average lower than gold (by .13 with label_noise=normal), and so are calibrated "
            "scores, which are fitted to opinions"
        )

    def _hash(self, privileged: Sequence[str]) -> str:
        content: list[Any] = [VERSION, self.task.to_dict(), CUTS, self.sizes, privileged]
        content += [dataclasses.asdict(NOISE[self.label_noise])]
        content += [self.seed, self.split_seed, self.pool]
        if self._grouped:
            content += [SAME_PICTURES]
        return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()

    def load(self) -> Manifest:
        """Make the clips that are missing, and list those of this task's splits."""
        pool = Pool(self.seed, self.cache_dir)
        table = pool.ensure(self.pool)
        rng = np.random.default_rng([self.split_seed, list(TASKS).index(self.task.name)])
        spreads: list[float | None] | None = None
        if self.task.kind == "regression":
            opinions = make_opinions(table, NOISE[self.label_noise], rng)
            noisy, spreads = [mean for mean, _ in opinions], [spread for _, spread in opinions]
        else:
            noisy = make_labels(table, self.task.name, NOISE[self.label_noise], rng)
        gold = make_labels(table, self.task.name, NOISE["none"], rng)
        # The same clips are drawn whatever the task, and test first: in a pool of one size, other
        # sizes of the training split leave validation and test as they are.
        order = np.random.default_rng(self.split_seed).permutation(len(table))
        if self._grouped:
            order = self._contents_apart(order, table["kind"].isin(SAME_PICTURES).to_numpy())
        splits: dict[str, Sequence[int]] = {}
        start = 0
        for name in ("test", "val", "labelled", "unlabelled"):
            splits[name] = order[start : start + self.sizes[name]].tolist()
            start += self.sizes[name]
        labels: dict[str, list | None] = {
            "labelled": noisy, "unlabelled": None, "val": noisy, "test": gold,
        }  # fmt: skip
        rows = table.to_dict("records")
        clips = [
            self._clip(
                pool,
                rows[i],
                "train" if "labelled" in name else name,
                labels[name],
                spreads if labels[name] is noisy else None,
            )
            for name in ("labelled", "unlabelled", "val", "test")
            for i in splits[name]
        ]
        log1p = tuple(name for name in LOG1P if name in self.privileged)
        return Manifest(
            tuple(clips), self.task, self.privileged, log1p, self.fingerprint, self._hash(())
        )

    def _contents_apart(self, order: np.ndarray, shared: np.ndarray) -> np.ndarray:
        """Move clips that share pictures behind the places of test and validation."""
        alone = order[~shared[order]][: self.sizes["test"] + self.sizes["val"]]
        return np.concatenate([alone, order[~np.isin(order, alone)]])

    def _clip(
        self,
        pool: Pool,
        row: dict[str, Any],
        split: str,
        labels: list | None,
        spreads: list[float | None] | None,
    ) -> Clip:
        index = int(row["index"])
        return Clip(
            id=f"shortform-{self.seed}-{index:06d}",
            path=pool.clips / make.clip_name(index),
            text={"title": str(row["title"])},
            label=None if labels is None else labels[index],
            label_std=None if spreads is None else spreads[index],
            privileged={name: float(row[name]) for name in self.privileged},
            split=split,
            group=row["kind"] if self._grouped and row["kind"] in SAME_PICTURES else None,
        )


def shortform_data(
    task: str = "degraded",
    *,
    num_frames: int = 2,
    max_text_length: int = 12,
    sampling: str = "uniform",
    train_sampling: str | None = None,
    order_seed: int = 1,
    **options: Any,
) -> ClipDataModule:
    """Make the data module of one task of `shortform`, from flat arguments.

    Args:
        task: see `Shortform`.
        num_frames: frames that the models read of each clip's 24.
        max_text_length: tokens of the title.
        sampling: frame policy at evaluation.
        train_sampling: frame policy in training; None: the same.
        order_seed: order of the training batches.
        **options: any other argument of `Shortform` (its `seed` is the pool's),
            `coefvq.types.InputSpec` or `coefvq.data.datamodule.ClipDataModule`; `cache_dir` goes
            wherever it is known.

    Raises:
        ValueError: an option is none of these, or has a value that its owner refuses.
    """
    own, spec, loading = share_out(options, Shortform, InputSpec, ClipDataModule)
    inputs = InputSpec(
        num_frames=num_frames,
        max_text_length=max_text_length,
        sampling=sampling,
        train_sampling=train_sampling or sampling,
        **spec,
    )
    return ClipDataModule(Shortform(task, **own), inputs, **loading | {"seed": order_seed})


def _one_of(name: str, value: str, known: Any) -> None:
    if value not in known:
        raise ValueError(f"{name}={value} is unknown; choose one of {', '.join(known)}")


def _at_least(name: str, value: int, least: int) -> None:
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


__all__ = ["LOG1P", "PRIVILEGED", "Shortform", "shortform_data"]
