"""Texts of clips as pieces of a sequence: all fields joined, or one field by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from coefvq.modules.mllm.backbone import Piece
from coefvq.modules.mllm.prompt import Slot
from coefvq.types import Batch


def text_pieces(
    slot: Slot, clip: Batch, fields: Sequence[str], embed: Callable[[Tensor], Tensor]
) -> list[Piece]:
    """Look up the tokens of a text slot.

    Args:
        slot: of kind `"text"`.
        clip: B rows; its joined text may be missing.
        fields: names of the K rows of `clip.field_ids`.
        embed: (n,) token ids -> (n, D).

    Returns:
        B pieces of the tokens that count; an empty field has none.

    Raises:
        ValueError: a slot for a field, and a batch whose fields are not there one by one, or not
            as many as there were names.

    Example:
        >>> frames = torch.zeros(1, 1, 3, 2, 2, dtype=torch.uint8)
        >>> ids = torch.tensor([[[3, 4], [5, 0]]])
        >>> clip = Batch(("a",), frames, torch.ones(1, 1).bool(), field_ids=ids, field_mask=ids > 0)
        >>> slot, names = Slot("text", 0, "ocr"), ("title", "ocr")
        >>> text_pieces(slot, clip, names, lambda found: found[:, None])[0].tokens
        tensor([[5]])
    """
    if slot.field is None:
        ids, mask = clip.input_ids, clip.text_mask
        if ids is None:
            return [Piece(embed(torch.zeros(0, dtype=torch.long, device=clip.device)))] * len(clip)
    else:
        ids, mask = _field(slot.field, clip, fields)
    if mask is None:
        mask = torch.ones_like(ids, dtype=torch.bool)
    return [Piece(row) for row in embed(ids[mask]).split(mask.sum(1).tolist())]


def _field(name: str, clip: Batch, fields: Sequence[str]) -> tuple[Tensor, Tensor | None]:
    if clip.field_ids is None:
        raise ValueError(
            f"the layout has a slot {{text:{name}}}, but the batch has its texts only as one; set "
            "separate_text=true for the data (data.separate_text), or use the slot {text}"
        )
    if clip.field_ids.shape[1] != len(fields):
        raise ValueError(
            f"the batch has {clip.field_ids.shape[1]} text fields, the model was made for "
            f"{list(fields)}; read the same fields in the same order"
        )
    place = list(fields).index(name)
    return clip.field_ids[:, place], None if clip.field_mask is None else clip.field_mask[:, place]


__all__ = ["text_pieces"]
