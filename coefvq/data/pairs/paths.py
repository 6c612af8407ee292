"""Where `make_pairs` puts what belongs to a pair table, and whose a folder of copies is."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas

from coefvq.types import Clip

_log = logging.getLogger(__name__)

CLIPS_FILE = "clips.parquet"
"""The list of all clips of a table, originals and copies."""

WRITERS = {
    ".parquet": lambda table, file: table.to_parquet(file, index=False),
    ".csv": lambda table, file: table.to_csv(file, index=False),
    ".jsonl": lambda table, file: table.to_json(file, orient="records", lines=True),
}
"""How a table is written, by the ending of its file."""


def clips_folder(table: str | Path) -> Path:
    """The folder beside a table that holds its copies and `CLIPS_FILE`.

    >>> clips_folder("made/pairs.parquet").as_posix()
    'made/pairs.parquet.clips'
    """
    table = Path(table)
    return table.with_name(table.name + ".clips")


@contextlib.contextmanager
def entered_folder(folder: Path, settings: list[Any], clips: Sequence[Clip]) -> Iterator[None]:
    """Make the folder of copies, or see that it is an earlier call's of the same kind.

    Folders above it that are not there are made, too, and a warning says so. Where the work inside
    fails before the first copy, all that was made goes away again.

    Args:
        folder: from `clips_folder`.
        settings: what the copies depend on, as plain values.
        clips: originals; their paths, sizes and texts count, too.

    Raises:
        ValueError: it holds something else, or copies made from other clips or settings.
    """
    listing = [
        [c.id, str(c.path), c.path.stat().st_size if c.path.is_file() else None, dict(c.text)]
        for c in clips
    ]
    content = json.dumps([settings, listing], sort_keys=True)
    stamp = hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
    file = folder / "stamp"
    if folder.exists() and not file.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is there and is not ours; move it or give another out")
    new = [path for path in folder.parents if not path.exists()]
    if new:
        _log.warning("out: folder %s was not there and is made", new[0])
    folder.mkdir(parents=True, exist_ok=True)
    made = any(path != file and path.name[0] != "." for path in folder.iterdir())  # no draft
    if made and file.read_text() != stamp:
        raise ValueError(
            f"{folder} holds copies of other clips or with other settings; remove it or give "
            "another out"
        )
    file.write_text(stamp)
    for leftover in folder.glob(".*.part"):  # of a call that was killed
        leftover.unlink(missing_ok=True)
    try:
        yield
    except BaseException:
        if [path.name for path in folder.iterdir()] == [file.name]:
            file.unlink()
            with contextlib.suppress(OSError):  # somebody else has put something there
                for path in (folder, *new):
                    path.rmdir()
        raise


def put_table(table: pandas.DataFrame, file: Path) -> None:
    """Write a table so that its file appears whole."""
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    WRITERS[file.suffix](table, part)
    part.replace(file)


__all__ = ["CLIPS_FILE", "WRITERS", "clips_folder", "entered_folder", "put_table"]
