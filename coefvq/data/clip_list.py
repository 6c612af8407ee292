"""Clips to be scored: a video file, a folder of them, or a manifest without labels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from coefvq.data.manifest import ManifestError, Problem
from coefvq.data.rows import Row, blank, take_id, take_path
from coefvq.data.tables import FORMATS, read_table
from coefvq.types import Clip

_log = logging.getLogger(__name__)

VIDEO_SUFFIXES = (
    *(".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".mpg", ".mpeg"),
    *(".ts", ".flv", ".wmv", ".3gp", ".ogv"),
)


def list_clips(
    source: str | Path,
    *,
    root: str | Path | None = None,
    text: Sequence[str] = (),
    for_model: bool = False,
) -> list[Clip]:
    """List the clips of a folder or of a manifest file.

    Args:
        source: a folder: every video file below it, sorted, its id the relative path, no text. Or
            one video file, its id its name. Or a `.csv`, `.jsonl` or `.parquet` file with the
            columns `id` and `path`.
        root: where a manifest's relative paths start; None: the manifest's own folder.
        text: text columns to read; one that is not there is the empty text.
        for_model: a model will read these texts: the log says which are not there.

    Raises:
        ValueError: the source does not exist, or holds no clip.
        ManifestError: ids or paths of the manifest are wrong; all problems are listed. A file that
            is missing is no problem yet: reading it is, and that can be skipped.
    """
    path = Path(source)
    if not path.exists():
        raise ValueError(
            f"clips={source} does not exist; give a folder of clips, a video file or a manifest"
        )
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
        if not files:
            raise ValueError(
                f"clips={source} holds no video file ({', '.join(VIDEO_SUFFIXES)}); give a folder "
                "of clips or a manifest"
            )
        if for_model:
            _say_missing(source, text, "a folder, whose clips have no texts")
        return [Clip(id=p.relative_to(path).as_posix(), path=p.absolute()) for p in files]
    if path.suffix.lower() in VIDEO_SUFFIXES:
        if for_model:
            _say_missing(source, text, "a video, which has no texts")
        return [Clip(id=path.name, path=path.absolute())]
    if path.suffix.lower() not in FORMATS:
        raise ValueError(
            f"clips={source} is neither a video file ({', '.join(VIDEO_SUFFIXES)}) nor a manifest "
            f"({', '.join(FORMATS)}); convert it, or give one of these"
        )
    table = read_table(path)
    if missing := [name for name in ("id", "path") if name not in table.columns]:
        raise ValueError(
            f"manifest {source} has no column {', '.join(missing)}; its columns are "
            f"{', '.join(table.columns)}"
        )
    if for_model:
        _say_missing(source, [t for t in text if t not in table.columns], "a manifest without them")
    names = ["id", "path", *(name for name in text if name in table.columns)]
    problems: list[Problem] = []
    seen: dict[str, Row] = {}
    clips = []
    for i in range(len(table)):
        row = Row(path, i + 1, {name: table.columns[name][i] for name in names})
        place = take_path(
            row,
            "path",
            None if root is None else Path(root).absolute(),
            problems,
            allow_outside_root=False,
            check_files=False,
        )
        words = {n: "" if blank(row.cells.get(n)) else str(row.cells[n]) for n in text}
        clips.append(Clip(id=take_id(row, "id", seen, problems), path=place, text=words))
    if problems:
        raise ManifestError(problems)
    if not clips:
        raise ValueError(f"manifest {source} has no row; give one with clips")
    return clips


def _say_missing(source: str | Path, fields: Sequence[str], what: str) -> None:
    """A model that reads texts answers otherwise without them, and nothing else would show it."""
    if fields:
        _log.warning(
            "the model reads %s, and clips=%s is %s, so it is given empty texts; for the texts "
            "give a manifest with the columns id, path, %s",
            ", ".join(fields), source, what, ", ".join(fields),
        )  # fmt: skip


__all__ = ["VIDEO_SUFFIXES", "list_clips"]
