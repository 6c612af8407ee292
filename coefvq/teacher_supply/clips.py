"""Which clips a teacher was asked about: to know them again, or to say what differs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from omegaconf import DictConfig, OmegaConf

from coefvq.data.content import clip_content

_NOT_DATA = ("_target_", "_convert_", "batch_size", "eval_batch_size", "num_workers", "cache_dir",
             "cache_frames", "labelled_per_batch", "train_on", "order_seed")  # fmt: skip
"""Words of a data set that change no clip."""


def contents_of(data: Any, datasets: Sequence[Any]) -> Callable[[str], str]:
    """What is in each clip (or in the two of each pair), by id.

    Args:
        data: prepared.
        datasets: of clips or of pairs.
    """
    fields = data.inputs.text_fields
    pairs = {pair.id: pair for each in datasets for pair in getattr(each, "pairs", ())}
    clips = {
        clip.id: clip for each in datasets if not hasattr(each, "pairs") for clip in each.clips
    }

    @cache
    def content(name: str) -> str:
        if name in clips:
            return clip_content(clips[name], fields)
        pair = pairs[name]
        both = [clip_content(clip, fields) for clip in (pair.query, pair.candidate)]
        return hashlib.blake2b("".join([*both, pair.split]).encode(), digest_size=16).hexdigest()

    return content


def data_read(data: Any, inputs: str) -> str:
    """Fingerprint of the part of the data that a teacher reads.

    Args:
        data: prepared.
        inputs: `teacher.inputs`: `"whole"`, or `"public"`: all but privileged features, which then
            change neither a weight nor an answer.
    """
    return str(data.public_fingerprint if inputs == "public" else data.fingerprint)


def about_data(cfg: DictConfig, data: Any) -> dict[str, Any]:
    """The words that the data were made by and what came out, for a reader of the cache."""
    words = OmegaConf.to_container(cfg.data, resolve=True)
    assert isinstance(words, dict)
    kept = {str(key): value for key, value in words.items() if key not in _NOT_DATA}
    return {"data": kept, "splits": data.describe()["splits"]}


__all__ = ["about_data", "contents_of", "data_read"]
