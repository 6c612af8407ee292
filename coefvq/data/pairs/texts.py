"""Whether the texts of clips fit into what the models read of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from coefvq.data.text import join_fields, separator_of
from coefvq.types import Clip, InputSpec

SHARE = 0.05
"""Longer texts than this share of the clips has are worth a word."""

_log = logging.getLogger(__name__)


def warn_of_cut_texts(clips: Sequence[Clip], inputs: InputSpec, tokenizer: Any) -> None:
    """Warn where texts are cut, because the last fields are then read of few clips or of none.

    Args:
        clips: those of training.
        inputs: which fields are read, and how many tokens of them.
        tokenizer: None where no text is read.
    """
    if tokenizer is None or not inputs.text_fields:
        return
    separator = separator_of(tokenizer)
    texts = [join_fields(clip.text, inputs.text_fields, separator) for clip in clips]
    if not any(texts):
        return
    lengths = [len(ids) for ids in tokenizer(texts, truncation=False, verbose=False)["input_ids"]]
    cut = sum(length > inputs.max_text_length for length in lengths)
    if cut > SHARE * len(clips):
        _log.warning(
            "the texts of %d of %d training clips (%s, joined) are longer than "
            "data.max_text_length=%d tokens and are cut; the longest has %d",
            cut,
            len(clips),
            ", ".join(inputs.text_fields),
            inputs.max_text_length,
            max(lengths),
        )


__all__ = ["SHARE", "warn_of_cut_texts"]
