"""Which columns of a manifest are read, and that all of them are there."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Mapping, Sequence

from coefvq.data.tables import Table


def expand_columns(table: Table, patterns: Sequence[str]) -> tuple[str, ...]:
    """Columns that some patterns mean, in the order of the table; a pattern without one stays.

    Args:
        table: the manifest file.
        patterns: names, or patterns such as `dense_*`.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        hits = [name for name in table.columns if fnmatch.fnmatchcase(name, pattern)]
        found.update(dict.fromkeys(hits or [pattern]))
    return tuple(found)


def matching(names: Sequence[str], patterns: Sequence[str]) -> tuple[str, ...]:
    """Those of the privileged features that `data.log1p` means.

    Raises:
        ValueError: a pattern means none of them.
    """
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise ValueError(
                f"data.log1p names {pattern!r}, which is not among the privileged features "
                f"{list(names)}"
            )
    return tuple(n for n in names if any(fnmatch.fnmatchcase(n, p) for p in patterns))


def check_columns(
    tables: Collection[Table],
    wanted: Mapping[str, Sequence[str]],
    of_first: Mapping[str, Sequence[str]],
) -> None:
    """Refuse columns that a manifest file does not have, all of them at once.

    Args:
        tables: the manifest files.
        wanted: by the word of `data` that names them, columns that every file must have.
        of_first: the same for the first file alone.

    Raises:
        ValueError: naming every word whose column is not there.
    """
    for number, table in enumerate(tables):
        words = dict(wanted) | (dict(of_first) if number == 0 else {})
        missing = [
            f"data.{word} names column {column!r}"
            for word, columns in words.items()
            for column in columns
            if column not in table.columns
        ]
        if missing:
            what = "which" if len(missing) == 1 else "columns that"
            raise ValueError(
                f"{' and '.join(missing)}, {what} {table.file} does not have; its columns are "
                f"{', '.join(table.columns)}"
            )


__all__ = ["check_columns", "expand_columns", "matching"]
