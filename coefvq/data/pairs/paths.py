"""Where `make_pairs` puts what belongs to a pair table."""

from __future__ import annotations

from pathlib import Path

CLIPS_FILE = "clips.parquet"
"""The list of all clips of a table, originals and copies."""


def clips_folder(table: str | Path) -> Path:
    """The folder beside a table that holds its copies and `CLIPS_FILE`.

    >>> clips_folder("made/pairs.parquet").as_posix()
    'made/pairs.parquet.clips'
    """
    table = Path(table)
    return table.with_name(table.name + ".clips")


__all__ = ["CLIPS_FILE", "clips_folder"]
