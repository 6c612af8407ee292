"""Every query against every candidate, from features that were computed once per clip."""

from __future__ import annotations

import torch
from torch import Tensor

from coefvq.modules.clip_encoders import ClipFeatures
from coefvq.students.matchlite import MatchLite, PreparedClips


def prepare_clips(model: MatchLite, clips: ClipFeatures, chunk: int = 256) -> PreparedClips:
    """Do what is done once per clip: mix its modalities, project it for the maps.

    Args:
        model: in eval mode.
        clips: features of N clips.
        chunk: clips at a time.

    Returns:
        N prepared clips.
    """
    with torch.no_grad():
        parts = [model.prepare(clips[i : i + chunk]) for i in range(0, len(clips), chunk)]
    fields = ("units", "mask", "as_query", "as_candidate")
    return PreparedClips(*(torch.cat([getattr(p, f) for p in parts]) for f in fields))


def score_pairs(
    model: MatchLite,
    queries: ClipFeatures | PreparedClips,
    candidates: ClipFeatures | PreparedClips,
    chunk: int = 256,
) -> Tensor:
    """Score N queries against M candidates.

    Args:
        model: in eval mode.
        queries: features of N clips, or what `prepare_clips` made of them.
        candidates: of M clips, the same.
        chunk: pairs at a time; it bounds the memory and does not change the scores beyond
            rounding.

    Returns:
        (N, M) logits.

    Raises:
        ValueError: the model is in training mode, or chunk is below 1.
    """
    if model.training:
        raise ValueError("scores of a model in training mode are random; call model.eval() first")
    if chunk < 1:
        raise ValueError(f"chunk is a number of pairs from 1, got {chunk}")
    if isinstance(queries, ClipFeatures):
        queries = prepare_clips(model, queries, chunk)
    if isinstance(candidates, ClipFeatures):
        candidates = prepare_clips(model, candidates, chunk)
    rows, columns = len(queries), len(candidates)
    logits = queries.units.new_empty(rows * columns)
    with torch.no_grad():
        for start in range(0, rows * columns, chunk):
            pairs = torch.arange(
                start, min(start + chunk, rows * columns), device=queries.units.device
            )
            left = queries[torch.div(pairs, columns, rounding_mode="floor")]
            output = model.compare(left, candidates[pairs % columns])
            logits[start : start + chunk] = output.logits
    return logits.view(rows, columns)


__all__ = ["prepare_clips", "score_pairs"]
