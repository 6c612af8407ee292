"""Which clips a model was trained on, remembered beside its weights as eight bytes each.

Whoever fits or judges something with a saved model can then see that a clip is not new to it. Kept
are hashes of what is in the files, sorted: no name, no order and no label can be read from them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from coefvq.data.content import file_content
from coefvq.files import replacing
from coefvq.types import Clip

SEEN_CLIPS = "seen_clips.npy"
"""The file in a model's folder. No part of the model's fingerprint: weights and config are."""


def clip_hashes(clips: Iterable[Clip]) -> list[int]:
    """64 bits of what is in each clip's file; clips whose file is gone are passed over."""
    found = (file_content(clip.path) for clip in clips)
    return [int(content[:16], 16) for content in found if content is not None]


def write_seen(
    folder: str | Path, clips: Sequence[Clip], started_from: str | Path | None = None
) -> None:
    """Remember the clips that a model was trained on.

    Args:
        folder: of the saved model.
        clips: with their files.
        started_from: folder whose weights the training began with; what is remembered there counts
            here, too.

    Raises:
        OSError: nothing can be written there.
    """
    ours = np.array(clip_hashes(clips), np.uint64)
    earlier = None if started_from is None else read_seen(started_from)
    known = np.union1d(ours, ours if earlier is None else earlier)
    # np.save adds .npy to a name that does not end in it.
    with replacing(Path(folder) / SEEN_CLIPS) as part, part.open("wb") as file:
        np.save(file, known, allow_pickle=False)


def remember_training(
    folder: str | Path,
    data: Any,
    *,
    labelled: bool,
    exclude: Collection[str] = (),
    started_from: str | Path | None = None,
) -> None:
    """`write_seen` for a model that was trained on the training split of prepared data.

    Nothing is written for pairs: no model of them becomes part of a cascade.

    Args:
        folder: of the saved model.
        data: prepared.
        labelled: whether only labelled clips counted.
        exclude: ids of clips that it was not shown.
        started_from: as there.
    """
    clips = [clip for clip in data.splits["train"] if isinstance(clip, Clip)]
    if clips:
        shown = [clip for clip in clips if clip.id not in exclude]
        seen = [clip for clip in shown if clip.label is not None or not labelled]
        write_seen(folder, seen, started_from)


def read_seen(folder: str | Path) -> np.ndarray | None:
    """(N,) uint64, sorted; None where a folder remembers nothing, as those of older versions.

    Raises:
        ValueError: the file is no such list.
    """
    path = Path(folder) / SEEN_CLIPS
    try:
        known = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (ValueError, EOFError) as error:
        raise ValueError(_damaged(path, str(error))) from None
    if not isinstance(known, np.ndarray) or known.dtype != np.uint64 or known.ndim != 1:
        raise ValueError(_damaged(path, "it is no list of 64-bit numbers"))
    return known


def count_seen(hashes: Sequence[int], known: np.ndarray) -> int:
    """How many clips, by `clip_hashes`, are among those that a model remembers."""
    return int(np.isin(np.array(hashes, np.uint64), known).sum())


def _damaged(path: Path, why: str) -> str:
    return f"{path} cannot be read ({why}); restore it, or delete it to go on unchecked"


__all__ = [
    "SEEN_CLIPS",
    "clip_hashes",
    "count_seen",
    "read_seen",
    "remember_training",
    "write_seen",
]
