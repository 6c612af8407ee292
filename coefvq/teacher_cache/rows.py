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

_MASKED = ("logits", "sub_logits", "level_logits", "topk_logprobs")
"""Where −inf has a meaning: a class that is masked, a token that cannot come."""


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
        ValueError: a number is not finite in that precision; only logits and log-probabilities may
            be −inf.
    """
    arrays: dict[str, Any] = {}
    for name in _FIXED:
        value = getattr(output, name)
        if value is not None:
            arrays[name] = _kept(name, value.detach().cpu()[list(rows)], dtype)
    mask = output.token_mask
    if output.token_features is not None:
        found = _ragged(output.token_features, mask, rows)
        arrays["token_features"] = [_kept("token_features", row, dtype) for row in found]
    if output.topk_indices is not None and output.topk_logprobs is not None:
        logprobs = _ragged(output.topk_logprobs.float(), mask, rows)
        tails = [-torch.expm1(row.logsumexp(-1)).clamp_max(0.0) for row in logprobs]
        indices = _ragged(output.topk_indices, mask, rows)
        arrays["topk_indices"] = [row.to(torch.int32).numpy() for row in indices]
        arrays["topk_logprobs"] = [_kept("topk_logprobs", row, dtype) for row in logprobs]
        arrays["topk_tail"] = [row.numpy() for row in tails]
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
    """How far kept numbers are from the live ones: the largest of each column, over a batch.

    A float16 number keeps 11 bits: its error is up to half a thousandth of its size.
    """
    errors: dict[str, float] = {}
    for name in (*_FIXED, "token_features", "topk_logprobs"):
        value = getattr(output, name)
        if value is not None:
            live = value.detach().float()
            if name not in _FIXED and output.token_mask is not None:
                live = live[output.token_mask]
            lost = (live - live.to(dtype).float()).abs()
            errors[name] = float(lost[lost.isfinite()].amax()) if lost.isfinite().any() else 0.0
    return errors


def _ragged(values: Tensor, mask: Tensor | None, rows: Sequence[int]) -> list[Tensor]:
    """The tokens that count, row by row, in their order."""
    values = values.detach().cpu()
    found = None if mask is None else mask.cpu()
    return [values[row] if found is None else values[row][found[row]] for row in rows]


def _kept(name: str, live: Tensor, dtype: torch.dtype) -> np.ndarray:
    """Numbers as they are written, none of which became something else on the way."""
    kept = live.to(dtype)
    bad = ~kept.isfinite()
    if name in _MASKED:
        bad &= ~live.isneginf()
    if bad.any():
        what = str(dtype).removeprefix("torch.")
        number = live[bad][0].item()
        if np.isfinite(number):
            raise ValueError(
                f"the teacher's {name} hold {number:g}, which is too large for {what}; write the "
                "cache in float32 (teacher.cache_dtype=float32)"
            )
        raise ValueError(
            f"the teacher's {name} hold {number}, and a number was expected; look at the teacher"
        )
    return kept.numpy()


__all__ = ["Rows", "arrays_of", "joined", "output_of", "stored_errors"]
