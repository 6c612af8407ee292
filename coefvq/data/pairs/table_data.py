"""The data module for a user's own pair table, from the flat words of a config."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from coefvq.data.options import share_out
from coefvq.data.pairs.datamodule import PairDataModule
from coefvq.data.pairs.table import PairTable
from coefvq.types import InputSpec


def pair_data(
    train: str | Path,
    *,
    text: str | Sequence[str] = ("title",),
    sampling: str = "uniform",
    train_sampling: str | None = None,
    on_bad_clip: Literal["error", "skip"] = "error",
    **options: Any,
) -> PairDataModule:
    """Make the data module for the user's own pair table, from flat arguments.

    Args:
        train: table, see `PairTable`.
        text: text columns of the clip manifest; the models read them in this order.
        sampling: frame policy at evaluation.
        train_sampling: frame policy in training; None: the same.
        on_bad_clip: see `PairDataModule`; with `"skip"`, missing files are left out, too.
        **options: any other argument of `PairTable`, `coefvq.types.InputSpec` or
            `PairDataModule`; `seed` and `cache_dir` go wherever they are known.

    Raises:
        ValueError: an option is none of these, or has a value that its owner refuses.
    """
    fields = (text,) if isinstance(text, str) else tuple(text)
    own, spec, loading = share_out(options, PairTable, InputSpec, PairDataModule)
    source = PairTable(train, text=fields, check_files=on_bad_clip == "error", **own)
    inputs = InputSpec(
        text_fields=fields, sampling=sampling, train_sampling=train_sampling or sampling, **spec
    )
    return PairDataModule(source, inputs, on_bad_clip=on_bad_clip, **loading)


__all__ = ["pair_data"]
