"""`shortform_pairs`: the embedded pairs as a source, and as a data module from flat arguments."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from coefvq.data.options import share_out
from coefvq.data.pairs.datamodule import PairDataModule
from coefvq.data.pairs.drawing import Counts, Drawn, File, draw_pairs
from coefvq.data.pairs.manifest import PairManifest
from coefvq.data.pairs.plan import TRANSFORMATIONS
from coefvq.data.pairs.pool import BLOCK, COPIES, VERSION, PairPool
from coefvq.pairs import Pair
from coefvq.types import Clip, InputSpec, TaskSpec

TASK = TaskSpec("reproduced", "binary", ("other", "reproduced"))
"""Is one clip a reproduction of the other?"""

COUNTS = Counts(copies=1, segments=1, similar=3, sounds=1, random=1)
"""Pairs of each source, besides its copies; see the README for the shares that come out."""


class ShortformPairs:
    """The embedded pairs.

    Sizes count sources, each of which gives about nine pairs; they are rounded up to whole blocks
    of 8.

    Args:
        labelled: sources of the training split whose pairs have labels.
        unlabelled: those whose pairs have none.
        val: sources of the validation split.
        test: sources of the test split.
        seed: of the pool of clips.
        split_seed: which sources go where, and which pairs are drawn.
        pool: how many sources the splits are drawn from; None: just as many as they need.
        cache_dir: see `coefvq.data.home.cache_home`.

    Raises:
        ValueError: a size below 1 (`unlabelled`: below 0), a pool too small for the splits, or a
            negative seed.
    """

    def __init__(
        self,
        *,
        labelled: int = 128,
        unlabelled: int = 72,
        val: int = 40,
        test: int = 64,
        seed: int = 0,
        split_seed: int = 1,
        pool: int | None = None,
        cache_dir: str | Path | None = None,
    ) -> None:
        sizes = {"labelled": labelled, "unlabelled": unlabelled, "val": val, "test": test}
        for name, size in sizes.items():
            _at_least(f"data.{name}", size, 0 if name == "unlabelled" else 1)
        _at_least("data.seed", seed, 0)
        _at_least("data.split_seed", split_seed, 0)
        self.blocks = {name: -(-size // BLOCK) for name, size in sizes.items()}
        needed = sum(self.blocks.values())
        if pool is not None and -(-pool // BLOCK) < needed:
            raise ValueError(
                f"data.pool={pool} is fewer than the {needed * BLOCK} sources that labelled, "
                f"unlabelled, val and test add up to in blocks of {BLOCK}; raise it or ask for "
                "fewer"
            )
        self.pool_blocks = needed if pool is None else -(-pool // BLOCK)
        self.seed = seed
        self.split_seed = split_seed
        self.cache_dir = cache_dir

    @property
    def fingerprint(self) -> str:
        """Hash of the recipe and its seeds; not of files, whose bytes vary with the encoder."""
        content = [VERSION, COPIES, dataclasses.asdict(COUNTS), TRANSFORMATIONS, self.blocks]
        content += [self.pool_blocks, self.seed, self.split_seed]
        return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()

    def load(self) -> PairManifest:
        """Make the clips that are missing, and draw the pairs of every split."""
        pool = PairPool(self.seed, self.cache_dir)
        blocks = pool.ensure(self.pool_blocks)
        # Test first: in a pool of one size, other training sizes leave test and val as they are.
        order = np.random.default_rng(self.split_seed).permutation(len(blocks)).tolist()
        pairs: list[Pair] = []
        start = 0
        for stream, name in enumerate(("test", "val", "labelled", "unlabelled")):
            some = sorted(order[start : start + self.blocks[name]])
            start += self.blocks[name]
            files = [file for number in some for file in blocks[number]]
            drawn = draw_pairs(files, np.random.default_rng([self.split_seed, stream]), COUNTS)
            split = "train" if "labelled" in name else name
            pairs += [_pair(pool, d, split, name != "unlabelled") for d in drawn]
        return PairManifest(tuple(pairs), TASK, TRANSFORMATIONS, self.fingerprint)


def _pair(pool: PairPool, drawn: Drawn, split: str, labelled: bool) -> Pair:
    how = drawn.how
    known = labelled and how is not None
    return Pair(
        id=f"{drawn.query.id}+{drawn.candidate.id}",
        query=_clip(pool, drawn.query, split),
        candidate=_clip(pool, drawn.candidate, split),
        label=float(drawn.label) if labelled else None,
        sub_labels={n: float(n in (how or ())) for n in TRANSFORMATIONS} if known else {},
        split=split,
        group=drawn.query.source,
    )


def _clip(pool: PairPool, file: File, split: str) -> Clip:
    path = pool.clips / file.path
    return Clip(file.id, path, {"title": file.title}, split=split, group=file.source)


def shortform_pairs(
    *,
    num_frames: int = 8,
    frame_size: int = 64,
    max_text_length: int = 12,
    sampling: str = "uniform",
    train_sampling: str | None = None,
    order_seed: int = 1,
    **options: Any,
) -> PairDataModule:
    """Make the data module of the embedded pairs, from flat arguments.

    Args:
        num_frames: frames that the models read of each clip.
        frame_size: side of the square that they are brought to.
        max_text_length: tokens of the title.
        sampling: frame policy at evaluation.
        train_sampling: frame policy in training; None: the same.
        order_seed: order of the training batches.
        **options: any other argument of `ShortformPairs` (its `seed` is the pool's),
            `coefvq.types.InputSpec` or `coefvq.data.pairs.datamodule.PairDataModule`; `cache_dir`
            goes wherever it is known.

    Raises:
        ValueError: an option is none of these, or has a value that its owner refuses.
    """
    own, spec, loading = share_out(options, ShortformPairs, InputSpec, PairDataModule)
    inputs = InputSpec(
        num_frames=num_frames,
        frame_size=frame_size,
        max_text_length=max_text_length,
        sampling=sampling,
        train_sampling=train_sampling or sampling,
        **spec,
    )
    return PairDataModule(ShortformPairs(**own), inputs, **loading | {"seed": order_seed})


def _at_least(name: str, value: int, least: int) -> None:
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


__all__ = ["COUNTS", "TASK", "ShortformPairs", "shortform_pairs"]
