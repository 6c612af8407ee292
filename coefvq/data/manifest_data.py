"""The data module for a user's own manifest, from the flat words of a config."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from coefvq.data.datamodule import ClipDataModule
from coefvq.data.manifest_source import ManifestSource
from coefvq.data.options import share_out
from coefvq.types import InputSpec


def manifest_data(
    train: str | Path,
    *,
    text: str | Sequence[str] = ("title",),
    sampling: str = "uniform",
    train_sampling: str | None = None,
    log1p: str | Sequence[str] = (),
    on_bad_clip: Literal["error", "skip"] = "error",
    **options: Any,
) -> ClipDataModule:
    """Make the data module for the user's own manifest, from flat arguments.

    Args:
        train: manifest file, see `coefvq.data.manifest_source.ManifestSource`.
        text: columns with text fields; the models read them in this order.
        sampling: frame policy at evaluation.
        train_sampling: frame policy in training; None: the same.
        log1p: privileged columns or patterns to put through log(1 + x).
        on_bad_clip: see `ClipDataModule`; with `"skip"`, missing files are left out, too.
        **options: any other argument of `ManifestSource`, `coefvq.types.InputSpec` or
            `ClipDataModule`; `seed` and `cache_dir` go wherever they are known.

    Raises:
        ValueError: an option is none of these, or has a value that its owner refuses.
    """
    if "text_fields" in options:
        raise ValueError(
            f"data.text_fields={options['text_fields']} is a word of the embedded clips; name a "
            "manifest's text columns with data.text=[…]"
        )
    fields = (text,) if isinstance(text, str) else tuple(text)
    own, spec, loading = share_out(options, ManifestSource, InputSpec, ClipDataModule)
    source = ManifestSource(
        train, text=fields, log1p=log1p, check_files=on_bad_clip == "error", **own
    )
    inputs = InputSpec(
        text_fields=fields,
        sampling=sampling,
        train_sampling=train_sampling or sampling,
        **spec,
    )
    return ClipDataModule(source, inputs, on_bad_clip=on_bad_clip, **loading)


__all__ = ["manifest_data"]
