"""Rows of a long prediction, kept in parts until all are there: a killed call goes on."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas

from coefvq.data.media import UnreadableClip
from coefvq.files import replacing
from coefvq.types import Clip

PART = 256
"""Clips per part file: what a killed call loses at most."""


class Parts:
    """The folder `<out>.parts` of one call, or of an earlier one of the same kind.

    Args:
        out: the Parquet file that everything ends up in.
        model: identity of what answers.
        clips: all that is asked about.
        overwrite: replace `out` if it exists.

    Raises:
        ValueError: `out` is no Parquet file or exists, or the parts are another call's.
    """

    def __init__(
        self, out: str | Path, model: str, clips: Sequence[Clip], *, overwrite: bool = False
    ) -> None:
        self.out = check_out(out, overwrite)
        self.folder = self.out.with_name(self.out.name + ".parts")
        self._order = {clip.id: i for i, clip in enumerate(clips)}
        listing = "\n".join(str(dataclasses.asdict(clip)) for clip in clips)
        stamp = hashlib.sha256(f"{model}\n{listing}".encode()).hexdigest()
        self.folder.mkdir(parents=True, exist_ok=True)
        stamp_file = self.folder / "stamp"
        if not stamp_file.exists():
            stamp_file.write_text(stamp)
        elif stamp_file.read_text() != stamp:
            raise ValueError(
                f"{self.folder} holds parts of another model or other clips; remove it or give "
                "another out"
            )
        tables = [pandas.read_parquet(p, columns=["id"]) for p in self._files()]
        self.done: set[str] = {name for table in tables for name in table["id"]}

    def add(self, rows: pandas.DataFrame) -> None:
        """Keep some rows."""
        write_table(rows, self.folder / f"{len(self._files()):06d}.parquet")

    def finish(self, columns: Sequence[str]) -> pandas.DataFrame:
        """Join the parts in the order of the clips, write `out`, and remove the folder."""
        table = pandas.concat([pandas.read_parquet(p) for p in self._files()])
        table = table.sort_values("id", key=lambda ids: ids.map(self._order))
        table = table.reset_index(drop=True).reindex(columns=list(columns))
        write_table(table, self.out)
        shutil.rmtree(self.folder)
        return table

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.parquet"))


def check_out(out: str | Path, overwrite: bool) -> Path:
    """Refuse a wrong `out` before minutes are spent.

    Raises:
        ValueError: it is no Parquet file, or exists and must not be replaced.
    """
    out = Path(out)
    if out.suffix != ".parquet":
        raise ValueError(f"out={out} must end in .parquet")
    if out.exists() and not overwrite:
        raise ValueError(f"out={out} exists; add overwrite=true or give another name")
    return out


def write_table(table: pandas.DataFrame, path: Path) -> None:
    """Write Parquet so that a reader never sees half of it."""
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)


def unreadable(clip: Clip, error: UnreadableClip, on_bad_clip: str) -> str:
    """Say why a clip's row has no score.

    Raises:
        ValueError: `on_bad_clip` is `"error"`.
    """
    if on_bad_clip == "error":
        raise ValueError(
            f"clip {clip.id} ({clip.path}) cannot be read: {error.reason}; repair or remove it, "
            "or set on_bad_clip=skip"
        ) from error
    return f"{clip.path} cannot be read: {error.reason}"


__all__ = ["PART", "Parts", "check_out", "unreadable", "write_table"]
