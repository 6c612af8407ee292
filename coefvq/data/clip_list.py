"""Clips to be scored: a folder of video files, or a manifest without labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from coefvq.data.manifest import ManifestError, Problem
from coefvq.data.rows import Row, blank, take_id, take_path
from coefvq.data.tables import read_table
from coefvq.types import Clip

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".flv")


def list_clips(
    source: str | Path, *, root: str | Path | None = None, text: Sequence[str] = ()
) -> list[Clip]:
    """List the clips of a folder or of a manifest file.

    Args:
        source: a folder: every video file below it, sorted, its id the relative path, no text. Or
            a `.csv`, `.jsonl` or `.parquet` file with the columns `id` and `path`.
        root: where a manifest's relative paths start; None: the manifest's own folder.
        text: text columns to read; one that the manifest lacks is the empty text.

    Raises:
        ValueError: the source does not exist, or holds no clip.
        ManifestError: ids or paths of the manifest are wrong; all problems are listed. A file that
            is missing is no problem yet: reading it is, and that can be skipped.
    """
    path = Path(source)
    if not path.exists():
        raise ValueError(f"clips={source} does not exist; give a folder of clips or a manifest")
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
        if not files:
            raise ValueError(
                f"clips={source} holds no video file ({', '.join(VIDEO_SUFFIXES)}); give a folder "
                "of clips or a manifest"
            )
        return [Clip(id=p.relative_to(path).as_posix(), path=p.absolute()) for p in files]
    table = read_table(path)
    if missing := [name for name in ("id", "path") if name not in table.columns]:
        raise ValueError(
            f"manifest {source} has no column {', '.join(missing)}; its columns are "
            f"{', '.join(table.columns)}"
        )
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


__all__ = ["VIDEO_SUFFIXES", "list_clips"]
