"""From a list of clips to sources: what can be read, what shows the same, what goes where."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coefvq.data.clip_list import VIDEO_SUFFIXES, list_clips
from coefvq.data.media import UnreadableClip
from coefvq.data.pairs.clip_table import DEFAULT_TEXT
from coefvq.data.pairs.films import look_at
from coefvq.data.splits import hash_split, joined
from coefvq.data.tables import read_table
from coefvq.types import Clip

_log = logging.getLogger(__name__)


def listed(source: str | Path, root: str | Path | None, text: Sequence[str]) -> list[Clip]:
    """List the clips to make pairs of.

    Args:
        source: a folder or a manifest.
        root: see `coefvq.data.clip_list.list_clips`.
        text: text columns of the manifest; only `DEFAULT_TEXT` may be missing.

    Raises:
        ValueError: there are no clips, `root` is no folder, or a text column is not there.
    """
    path = Path(source)
    if root is not None and not Path(root).is_dir():
        raise ValueError(f"root={root} is no folder; give the one that the manifest's paths are in")
    if path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES:
        raise ValueError(f"clips={source} is one video file; give a folder of clips or a manifest")
    clips = list_clips(source, root=root, text=text)
    if tuple(text) not in ((), DEFAULT_TEXT):
        columns = () if path.is_dir() else tuple(read_table(path).columns)
        if missing := [name for name in text if name not in columns]:
            has = f"has the columns {', '.join(columns)}" if columns else "is a folder"
            raise ValueError(
                f"text names {', '.join(missing)}, but clips={source} {has}; give a manifest with "
                "these columns, or leave text out"
            )
    return clips


def look(name: str, path: Path) -> tuple[str, tuple[bool, float] | str]:
    """Whether a clip has sound and how long it is, or why it cannot be read."""
    try:
        film = look_at(path)
    except UnreadableClip as error:
        return name, error.reason
    return name, (film.sound_rate > 0, film.seconds)


def contents(clips: Sequence[Clip], source: str | Path) -> tuple[dict[str, str], dict[str, str]]:
    """Tell which clips show the same, and which must stay together in a split.

    Files that are equal byte by byte show the same whatever they are called; a warning says so.

    Args:
        clips: those that can be read.
        source: folder or manifest that they were listed from.

    Returns:
        The name of its content for each clip's id, which is the id of the first clip that shows
        it; and a group for the name of each content.
    """
    path = Path(source)
    columns: dict[str, dict[str, str]] = {"content": {}, "group": {}}
    if not path.is_dir():
        table = read_table(path).columns
        for name, cells in columns.items():
            pairs = zip(table["id"], table.get(name, []), strict=False)
            cells |= {str(k).strip(): str(v) for k, v in pairs if v not in (None, "")}
    content: dict[str, str] = {}
    names: dict[Any, str] = {}
    for clip in clips:
        key: Any = columns["content"].get(clip.id)
        if key is None:
            key = (clip.path.parent, clip.path.stem) if path.is_dir() else clip.id
        # A content is called after its first clip.
        content[clip.id] = names.setdefault((type(key), key), clip.id)
    twins = [(c, first) for c, first in same_bytes(clips) if content[c.id] != content[first.id]]
    if twins:
        _log.warning(
            "%d of %d clips have the same bytes as another (%s as %s%s) and count as one content",
            len(twins),
            len(clips),
            twins[0][0].id,
            twins[0][1].id,
            ", …" if len(twins) > 1 else "",
        )
        tied = joined([(content[first.id], content[c.id]) for c, first in twins])
        # All are called after the first clip of those that are one now.
        firsts: dict[str, str] = {}
        content = {
            name: firsts.setdefault(tied.get(old, old), old) for name, old in content.items()
        }
    named = [(content[c.id], columns["group"][c.id]) for c in clips if c.id in columns["group"]]
    group = {name: f"id {name}" for name in content.values()} | dict(reversed(named))
    # Groups that share a content go together.
    tied = joined([(group[name], other) for name, other in named])
    return content, {name: tied.get(some, some) for name, some in group.items()}


def same_bytes(clips: Sequence[Clip]) -> list[tuple[Clip, Clip]]:
    """Find files that are equal byte by byte; only those of one size are read.

    Returns:
        Each clip that equals an earlier one, and the first that it equals.
    """
    sizes: dict[int, list[Clip]] = {}
    for clip in clips:
        with contextlib.suppress(OSError):
            sizes.setdefault(clip.path.stat().st_size, []).append(clip)
    found = []
    seen: dict[tuple[int, bytes], Clip] = {}
    for size, some in sizes.items():
        for clip in some if len(some) > 1 else ():
            with contextlib.suppress(OSError), clip.path.open("rb") as file:
                key = (size, hashlib.file_digest(file, "blake2b").digest())
                first = seen.setdefault(key, clip)
                if first is not clip:
                    found.append((clip, first))
    return found


def places(
    firsts: Sequence[Clip],
    group: dict[str, str],
    split: str | None,
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> dict[str, str]:
    """Assign every source to a split, at least two to each that is wanted.

    Args:
        firsts: one clip of each content.
        group: of each content.
        split: where all go; None: by a hash.
        val_fraction: share of the sources for validation; 0: none.
        test_fraction: likewise for the test split.
        seed: of the hash.

    Returns:
        Splits by the name of the content.

    Raises:
        ValueError: so few clips are there that nothing would be left for training.
    """
    if split is not None:
        return {clip.id: split for clip in firsts}
    # One source alone has hardly a negative, and a threshold cannot be chosen without them.
    least = 2 / len(firsts)
    val, test = (max(f, least) if f > 0 else f for f in (val_fraction, test_fraction))
    if val + test >= 1:
        raise ValueError(
            f"val_fraction={val_fraction} and test_fraction={test_fraction} of {len(firsts)} "
            "clips, two to each split, leave none for training; give more clips or smaller "
            "fractions"
        )
    places = hash_split(
        [group[clip.id] for clip in firsts],
        [True] * len(firsts),
        val_fraction=val,
        test_fraction=test,
        seed=seed,
    )
    for name, count in Counter(places).items():
        if count < 2:
            _log.warning(
                "the %s split has one source, so its only negatives are parts of it; give more "
                "clips or a larger fraction",
                name,
            )
    return {clip.id: place for clip, place in zip(firsts, places, strict=True)}


__all__ = ["contents", "listed", "look", "places", "same_bytes"]
