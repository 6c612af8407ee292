"""All pairs of a run: what `coefvq.data.manifest` is to clips."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from coefvq.data.content import file_content
from coefvq.data.media import BadClip
from coefvq.data.splits import joined
from coefvq.pairs import Pair
from coefvq.types import Clip, InputSpec, TaskSpec


@dataclass(frozen=True)
class PairManifest:
    """All pairs of a run.

    Args:
        pairs: every pair of every split. Clips of one id are one clip wherever they appear.
        task: what the label means; binary.
        sub_labels: S names, in the order of the tensors.
        fingerprint: identity of the content, as hex; made by `pairs_fingerprint` when empty.
    """

    pairs: tuple[Pair, ...]
    task: TaskSpec
    sub_labels: tuple[str, ...] = ()
    fingerprint: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "pairs", tuple(self.pairs))
        object.__setattr__(self, "sub_labels", tuple(self.sub_labels))
        if not self.fingerprint:
            object.__setattr__(self, "fingerprint", pairs_fingerprint(self))

    def split(self, name: str) -> list[Pair]:
        """Pairs of one split, in the manifest's order."""
        return [pair for pair in self.pairs if pair.split == name]


class PairSource(Protocol):
    """Anything that can come up with pairs; it may make the clips first."""

    def load(self) -> PairManifest:
        """Return the pairs; called once, before training."""
        ...


def clips_of(pairs: Iterable[Pair]) -> list[Clip]:
    """Each clip of some pairs once, in the order in which they appear."""
    return list({clip.id: clip for pair in pairs for clip in (pair.query, pair.candidate)}.values())


def pairs_fingerprint(
    manifest: PairManifest, root: str | Path | None = None, *, contents: bool = False
) -> str:
    """Hash what pairs say.

    Args:
        manifest: its pairs, task and sub-labels count; its own fingerprint does not.
        root: paths count relative to this folder; without it, only file names count.
        contents: count what is in the files as well (`coefvq.data.content.file_content`), so that a
            replaced file is noticed.

    Returns:
        32 hex digits, the same for the same pairs in any order.
    """

    def clip_row(clip: Clip) -> list[Any]:
        path = os.path.relpath(clip.path, root) if root is not None else clip.path.name
        content = file_content(clip.path) if contents else None
        return [clip.id, path, content, sorted(clip.text.items())]

    rows = [
        [p.id, p.query.id, p.candidate.id, p.label, sorted(p.sub_labels.items()), p.split]
        for p in sorted(manifest.pairs, key=lambda pair: pair.id)
    ]
    clips = [clip_row(c) for c in sorted(clips_of(manifest.pairs), key=lambda clip: clip.id)]
    whole = [manifest.task.to_dict(), manifest.sub_labels, rows, clips]
    return hashlib.blake2b(json.dumps(whole).encode(), digest_size=16).hexdigest()


def summarise_pairs(pairs: Sequence[Pair], sub_labels: Sequence[str]) -> dict[str, Any]:
    """Count pairs and labels, for a report.

    Returns:
        `pairs`, `clips`, `labelled`, and where there are labels: `prevalence` (share of
        reproductions among the labelled) and `sub_labels` (how many pairs have each).
    """
    labels = [pair.label for pair in pairs if pair.label is not None]
    summary: dict[str, Any] = {
        "pairs": len(pairs),
        "clips": len(clips_of(pairs)),
        "labelled": len(labels),
    }
    if labels:
        summary["prevalence"] = sum(labels) / len(labels)
        counts = {n: sum(p.sub_labels.get(n) == 1 for p in pairs) for n in sub_labels}
        summary["sub_labels"] = counts
    return summary


def describe_pairs(
    data: Any, splits: Mapping[str, Sequence[Pair]], skipped: Sequence[BadClip]
) -> dict[str, Any]:
    """Say in plain numbers what the data are, for a report.

    Args:
        data: prepared: its task, sub-labels, vocabulary and fingerprint.
        splits: pairs by split.
        skipped: clips that could not be read.
    """
    return {
        "task": data.task.name,
        "kind": data.task.kind,
        "classes": list(data.task.classes),
        "sub_labels": list(data.sub_labels),
        "privileged": 0,
        "vocab_size": data.vocab_size,
        "fingerprint": data.fingerprint,
        "splits": {s: summarise_pairs(pairs, data.sub_labels) for s, pairs in splits.items()},
        "skipped": [{"id": b.id, "path": str(b.path), "reason": b.reason} for b in skipped],
    }


def alike_groups(pairs: Sequence[Pair]) -> dict[str, str]:
    """What may show the same, as far as groups and pairs tell: a name for each clip's id.

    Clips share a name where they hang together by a group, by pairs of label 1, or by unlabelled
    pairs with a clip that has no group. Two groups are different content otherwise, though one may
    have been spliced into the other.
    """
    ties = [
        (f"clip {c.id}", f"clip {c.id}" if c.group is None else f"group {c.group}")
        for c in clips_of(pairs)
    ]
    for pair in pairs:
        groups = (pair.query.group, pair.candidate.group)
        if pair.label == 1 or (pair.label is None and None in groups):
            ties.append((f"clip {pair.query.id}", f"clip {pair.candidate.id}"))
    tied = joined(ties)
    return {clip.id: tied[f"clip {clip.id}"] for clip in clips_of(pairs)}


def reading_fingerprint(manifest: PairManifest, inputs: InputSpec, tokenizer: str) -> str:
    """Identity of pairs together with how their clips are read."""
    content = [manifest.fingerprint, manifest.task.to_dict(), manifest.sub_labels]
    content += [inputs.to_dict(), tokenizer]
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()


__all__ = [
    "PairManifest",
    "PairSource",
    "alike_groups",
    "clips_of",
    "describe_pairs",
    "pairs_fingerprint",
    "reading_fingerprint",
    "summarise_pairs",
]
