"""Between a `TeacherOutput` and the columns of a shard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coefvq.types import TeacherOutput

_FIXED = ("logits", "features", "sub_logits", "level_logits", "score_std")

_FINITE = ("features", "score_std")


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


def stored_error(output: TeacherOutput, dtype: torch.dtype) -> Tensor:
    """How far the kept logits are from the live ones: (B,), the largest of each clip."""
    live = output.logits.detach().float().cpu()
    error = (live - live.to(dtype).float()).abs()
    return error if error.ndim == 1 else error.amax(-1)


def _ragged(
    values: Tensor, mask: Tensor | None, rows: Sequence[int], dtype: torch.dtype
) -> list[np.ndarray]:
    """The tokens that count, row by row, in their order."""
    values = values.detach().cpu().to(dtype)
    found = None if mask is None else mask.cpu()
    return [(values[row] if found is None else values[row][found[row]]).numpy() for row in rows]


__all__ = ["arrays_of", "output_of", "stored_error"]
