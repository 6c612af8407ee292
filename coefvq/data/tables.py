"""Manifest files of four kinds to columns: CSV, JSON Lines, Parquet, Hugging Face dataset folder.

All are read through `datasets`, which keeps a memory-mapped copy in the cache folder.
"""

from __future__ import annotations

import contextlib
import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coefvq.data.home import cache_home

FORMATS = {
    ".csv": "csv",
    ".jsonl": "json",
    ".json": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
}


_EMPTY = "it is empty"


@dataclass(frozen=True)
class Table:
    """The rows of one manifest file, as columns.

    Args:
        file: where it was read from.
        columns: values by column name, all of one length. CSV cells are text, empty cells None;
            other formats keep their types, with null as None and NaN as a float.
        class_names: by column, where the file itself names its classes (Hugging Face datasets).
    """

    file: Path
    columns: dict[str, list[Any]]
    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))


def read_table(file: str | Path, cache_dir: str | Path | None = None) -> Table:
    """Read one manifest file.

    Args:
        file: `.csv`, `.jsonl`, `.parquet`, or a folder written by `save_to_disk`. A folder of
            several splits gets a column `split` with their names unless it has one.
        cache_dir: see `coefvq.data.home.cache_home`.

    Raises:
        ValueError: there is no such file, its kind is unknown, or it cannot be read.
    """
    file = Path(file).expanduser()
    if not file.exists():
        raise ValueError(f"manifest {str(file)!r} does not exist; check data.train, val and test")
    if not file.is_dir() and file.suffix.lower() not in FORMATS:
        raise ValueError(
            f"manifest {str(file)!r} is of an unknown kind; give .csv, .jsonl, .parquet or a "
            "folder that was written by a Hugging Face dataset's save_to_disk"
        )
    try:
        with _quiet():
            return _read_folder(file) if file.is_dir() else _read_file(file, cache_dir)
    except Exception as error:  # datasets raises a dozen kinds, some without a common base
        root: BaseException = error
        while root.__cause__ is not None:
            root = root.__cause__
        first_line = (str(root).strip() or type(root).__name__).splitlines()[0]
        if "corresponds to no data" in first_line or first_line == _EMPTY:
            raise ValueError(
                f"manifest {str(file)!r} has no row; write one row per clip below the header"
            ) from error
        # Readers count rows from 0, we and our users from 1.
        first_line = re.sub(r"\bin row (\d+)", lambda m: f"in row {int(m[1]) + 1}", first_line)
        raise ValueError(
            f"manifest {str(file)!r} cannot be read: {first_line.rstrip('.')}; correct it, or save "
            "it again as CSV, JSON Lines or Parquet"
        ) from error


def other_separator(header: Sequence[str]) -> str | None:
    """What a header that should have been split at commas is separated by; None: it was.

    >>> other_separator(["id;path"]), other_separator(["id", "path"])
    (';', None)
    """
    return next((c for c in ";\t|" if len(header) == 1 and c in header[0]), None)


def _read_file(file: Path, cache_dir: str | Path | None) -> Table:
    import datasets

    kind = FORMATS[file.suffix.lower()]
    options: dict[str, Any] = {}
    if kind == "csv":
        with file.open(newline="", encoding="utf-8-sig") as lines:
            header = next(csv.reader(lines), [])
        # pandas writes its index in a column without a name, unless it is told not to.
        if header[:1] == [""]:
            header = header[1:]
            options["usecols"] = header
        if other := other_separator(header):
            raise ValueError(f"its columns are separated by {other!r}, and a CSV's are by commas")
        if repeated := sorted({name for name in header if header.count(name) > 1}):
            raise ValueError(f"its columns {repeated} appear more than once")
        # As text: "007" stays an id, and an empty cell is told from one that says nan.
        names = {name: datasets.Value("string") for name in header}
        options |= {"features": datasets.Features(names), "keep_default_na": False}
    if file.stat().st_size == 0:
        raise ValueError(_EMPTY)
    loaded = datasets.load_dataset(
        kind,
        data_files=str(file.absolute()),
        split="train",
        cache_dir=str(cache_home(cache_dir) / "datasets"),
        **options,
    )
    columns = loaded[:]
    if kind == "csv":
        columns = {
            name: [None if value is None or not value.strip() else value for value in values]
            for name, values in columns.items()
        }
    return Table(file, dict(columns), _class_names(loaded))


def _read_folder(folder: Path) -> Table:
    import datasets

    loaded = datasets.load_from_disk(str(folder))
    if isinstance(loaded, datasets.Dataset):
        return Table(folder, _plain(loaded), _class_names(loaded))
    columns: dict[str, list[Any]] = {}
    names: dict[str, tuple[str, ...]] = {}
    done = 0
    for split, part in loaded.items():
        rows = _plain(part)
        rows.setdefault("split", [split] * len(part))
        for name in {**columns, **rows}:
            column = columns.setdefault(name, [None] * done)
            column.extend(rows.get(name, [None] * len(part)))
        done += len(part)
        names |= _class_names(part)
    return Table(folder, columns, names)


def _plain(loaded: Any) -> dict[str, list[Any]]:
    """Columns of a dataset with media left undecoded and reduced to their paths."""
    for name, feature in loaded.features.items():
        if hasattr(feature, "decode") and hasattr(feature, "decode_example"):
            loaded = loaded.cast_column(name, type(feature)(decode=False))
    return {
        name: [
            value.get("path") if isinstance(value, dict) and "path" in value else value
            for value in values
        ]
        for name, values in loaded[:].items()
    }


def _class_names(loaded: Any) -> dict[str, tuple[str, ...]]:
    return {
        name: tuple(feature.names)
        for name, feature in loaded.features.items()
        if hasattr(feature, "names") and hasattr(feature, "str2int")
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the bars and remarks of `datasets` off the screen while a small file is read."""
    import datasets

    shown, level = datasets.is_progress_bar_enabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        if shown:
            datasets.enable_progress_bars()


__all__ = ["FORMATS", "Table", "other_separator", "read_table"]
