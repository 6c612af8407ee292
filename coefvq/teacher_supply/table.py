"""Read somebody's table of scores from disk as the teacher of a run."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from coefvq.data.tables import FORMATS, read_table
from coefvq.teachers.table import TableKind, TableTeacher
from coefvq.types import TaskSpec


def open_table(
    path: str | Path | None,
    task: TaskSpec,
    wanted: Collection[str],
    *,
    kind: TableKind = "probabilities",
    id_column: str = "id",
    cache_dir: str | Path | None = None,
) -> TableTeacher:
    """Read and check `teacher=table teacher.path=scores.parquet`.

    Args:
        path: CSV, JSON Lines or Parquet, or a folder of a Hugging Face dataset.
        task: what the run asks; see `TableTeacher.from_columns` for the columns it wants.
        wanted: ids of every clip that the run will ask about; other rows may be there.
        kind: whether the numbers are probabilities or logits.
        id_column: the column of clip ids.
        cache_dir: see `coefvq.data.home.cache_home`.

    Raises:
        ValueError: there is no such file, or its content does not fit.
    """
    if path is None:
        raise ValueError(
            "teacher=table needs teacher.path, a CSV, JSON Lines or Parquet file with an id and "
            "the scores of each clip"
        )
    file = Path(path).expanduser()
    if not file.exists():
        raise ValueError(f"teacher.path={path} does not exist; give the file of the scores")
    if not file.is_dir() and file.suffix.lower() not in FORMATS:
        raise ValueError(f"teacher.path={path} is of an unknown kind; give {', '.join(FORMATS)}")
    _refuse_other_separators(file, path)
    try:
        table = read_table(file, cache_dir)
    except ValueError as error:  # which calls every table a manifest
        raise ValueError(str(error).replace("manifest ", "teacher.path=", 1)) from error
    return TableTeacher.from_columns(
        table.columns,
        task,
        kind=kind,
        id_column=id_column,
        wanted=wanted,
        source=f"teacher.path={path}",
    )


def _refuse_other_separators(file: Path, path: str | Path) -> None:
    if file.is_dir() or file.suffix.lower() != ".csv":
        return
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        header = lines.readline()
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if separator in header and "," not in header:
            raise ValueError(
                f"teacher.path={path} has {name} between its columns, and a CSV has commas; save "
                "it with commas (and decimal points), or as Parquet"
            )


__all__ = ["open_table"]
