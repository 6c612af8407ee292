"""Folds of the labelled training clips: whole groups, about equally many clips in each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

from coefvq.types import Clip


def fold_of(clips: Iterable[Clip], folds: int, seed: int) -> dict[str, int]:
    """Put every labelled training clip into one fold; clips of one group share theirs.

    The largest group comes first, each into the fold that has the fewest labelled clips so far; a
    hash of the seed and the group's name orders groups of one size. Labels are not balanced. An
    unlabelled clip goes with the labelled ones of its group, for it shows what they show.

    Args:
        clips: those of other splits are left out, and unlabelled ones of other groups.
        folds: K, from 2.
        seed: another seed, other folds.

    Returns:
        Fold 0 to K - 1 by clip id. The same clips give the same answer in whatever order they
        come.

    Raises:
        ValueError: fewer than two folds, or fewer groups than folds.

    >>> from pathlib import Path
    >>> clips = [Clip(id=n, path=Path(n), label=1.0, group=n[0]) for n in ("a1", "a2", "b1", "b2")]
    >>> sorted(fold_of(clips, 2, seed=0).values())
    [0, 0, 1, 1]
    """
    if isinstance(folds, bool) or not isinstance(folds, int) or folds < 2:
        raise ValueError(f"teacher.folds is a number of folds from 2, got {folds!r}")
    groups: dict[tuple[str, str], list[str]] = {}
    unlabelled: list[tuple[str, str]] = []
    for clip in clips:
        if clip.split != "train":
            continue
        own = ("clip", clip.id) if clip.group is None else ("group", clip.group)
        if clip.label is not None:
            groups.setdefault(own, []).append(clip.id)
        elif clip.group is not None:
            unlabelled.append((clip.id, clip.group))
    if len(groups) < folds:
        raise ValueError(
            f"teacher.folds={folds} needs at least {folds} groups of labelled training clips, got "
            f"{len(groups)}; lower teacher.folds or label clips of more groups"
        )
    sizes = [0] * folds
    found: dict[str, int] = {}
    for group in sorted(groups, key=lambda g: (-len(groups[g]), _hash(g, seed))):
        fold = sizes.index(min(sizes))
        sizes[fold] += len(groups[group])
        found |= dict.fromkeys(groups[group], fold)
    fold_of_group = {name: found[ids[0]] for (kind, name), ids in groups.items() if kind == "group"}
    return found | {
        clip: fold_of_group[group] for clip, group in unlabelled if group in fold_of_group
    }


def folds_fingerprint(folds: Mapping[str, int]) -> str:
    """SHA-256 of who is in which fold, for the identity of a cache that such teachers fill."""
    return hashlib.sha256(json.dumps(sorted(folds.items())).encode()).hexdigest()


def _hash(group: tuple[str, str], seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{group[0]}:{group[1]}".encode()).digest()


__all__ = ["fold_of", "folds_fingerprint"]
