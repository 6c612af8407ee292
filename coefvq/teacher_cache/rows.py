"""Between a `TeacherOutput` and the columns of a shard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coefvq.teacher_cache.shards import RAGGED
from coefvq.types import TeacherOutput

_FIXED = ("logits", "features", "sub_logits", "level_logits", "score_std")

_FINITE = ("features", "score_std")


@dataclass(frozen=True)
class Rows:
    """Rows that wait to be written.

    Args:
        ids: N clip ids.
        views: N views.
        contents: what was in each clip; None where nobody said.
        arrays: N rows of each column.
        errors: of the numbers as they are kept, the largest by column.
    """

    ids: list[str]
    views: list[str]
    contents: list[str] | None
    arrays: dict[str, Any]
    errors: dict[str, float]


def joined(parts: Sequence[Rows]) -> Rows:
    """One after the other, as one."""
    known = [part.contents for part in parts if part.contents is not None]
    arrays = {}
    for name in parts[0].arrays:
        columns = [part.arrays[name] for part in parts]
        ragged = name in RAGGED
        arrays[name] = list(chain.from_iterable(columns)) if ragged else np.concatenate(columns)
    return Rows(
        ids=[name for part in parts for name in part.ids],
        views=[view for part in parts for view in part.views],
        contents=list(chain.from_iterable(known)) if len(known) == len(parts) else None,
        arrays=arrays,
        errors={name: max(part.errors[name] for part in parts) for name in parts[0].errors},
    )


def arrays_of(output: TeacherOutput, rows: Sequence[int], dtype: torch.dtype) -> dict[str, Any]:
    """The columns of some rows of a batch of outputs.

    Floating-point numbers are kept in `dtype`; the tail mass of top-k in float32, because a small
    one would vanish.

    Raises:
        ValueError: a number is not finite in that precision; only logits may be −inf.
    """
    arrays: dict[str, Any] = {}
    for name in _FIXED:
        value = getattr(output, name)
        if value is not None:
            arrays[name] = value.detach().cpu()[list(rows)].to(dtype).numpy()
    for name, array in arrays.items():
        # −inf is what masks a class.
        bad = ~np.isfinite(array) & ~((name not in _FINITE) & np.isneginf(array))
        if bad.any():
            kept = str(dtype).removeprefix("torch.")
            remedy = "write the cache in float32" if kept == "float16" else "look at the teacher"
            raise ValueError(
                f"the teacher's {name} hold {array[bad][0]} in {kept}, and a number was expected; "
                f"{remedy}"
            )
    mask = output.token_mask
    if output.token_features is not None:
        arrays["token_features"] = _ragged(output.token_features, mask, rows, dtype)
    if output.topk_indices is not None and output.topk_logprobs is not None:
        logprobs = output.topk_logprobs.float()
        tail = -torch.expm1(logprobs.logsumexp(-1)).clamp_max(0.0)
        arrays["topk_indices"] = _ragged(output.topk_indices, mask, rows, torch.int32)
        arrays["topk_logprobs"] = _ragged(logprobs, mask, rows, dtype)
        arrays["topk_tail"] = _ragged(tail, mask, rows, torch.float32)
    return arrays


def output_of(columns: Mapping[str, Any]) -> TeacherOutput:
    """Columns of B rows as a batch of outputs; ragged rows are padded with 0 and masked."""
    values: dict[str, Tensor] = {
        name: torch.from_numpy(columns[name]).float() for name in _FIXED if name in columns
    }
    ragged = ("token_features", "topk_indices", "topk_logprobs")
    found = [name for name in ragged if name in columns]
    for name in found:
        rows = columns[name]
        longest = max(len(row) for row in rows)
        padded = np.zeros((len(rows), longest, *rows[0].shape[1:]), rows[0].dtype)
        for place, row in enumerate(rows):
            padded[place, : len(row)] = row
        tensor = torch.from_numpy(padded)
        values[name] = tensor.long() if name == "topk_indices" else tensor.float()
    if found:
        lengths = torch.tensor([len(row) for row in columns[found[0]]])
        values["token_mask"] = torch.arange(int(lengths.max())) < lengths[:, None]
    return TeacherOutput(**values)


def stored_errors(output: TeacherOutput, dtype: torch.dtype) -> dict[str, float]:
    """How far kept logits and features are from the live ones: the largest of each, over a batch.

    A float16 number keeps 11 bits: its error is up to half a thousandth of its size.
    """
    errors: dict[str, float] = {}
    for name in ("logits", "features"):
        value = getattr(output, name)
        if value is not None:
            live = value.detach().float()
            lost = (live - live.to(dtype).float()).abs()
            errors[name] = float(lost[lost.isfinite()].amax()) if lost.isfinite().any() else 0.0
    return errors


def _ragged(
    values: Tensor, mask: Tensor | None, rows: Sequence[int], dtype: torch.dtype
) -> list[np.ndarray]:
    """The tokens that count, row by row, in their order."""
    values = values.detach().cpu().to(dtype)
    found = None if mask is None else mask.cpu()
    return [(values[row] if found is None else values[row][found[row]]).numpy() for row in rows]


__all__ = ["Rows", "arrays_of", "joined", "output_of", "stored_errors"]
