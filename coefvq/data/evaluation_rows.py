"""Rows of a manifest for models that are trained already: some to fit with, some to judge by."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from coefvq.data.content import file_content
from coefvq.data.rows import Row, take_path
from coefvq.data.splits import joined


def evaluation_rows(
    rows: Sequence[Row],
    files: Collection[str],
    keys: Callable[[Row], Sequence[str]],
    unlabelled: Callable[[Row], bool],
    seed: int,
) -> tuple[list[Row], dict[str, int]]:
    """Put each row that a fit can use into validation or test, and leave out the others.

    Rows that have a split keep it; those of the training split are left out. The others go to the
    split that has no file of its own, or half of them to each where none has: what hangs together
    by a key stays on one side, in an order that only the keys and the seed decide.

    Args:
        rows: of all files; the open ones have no split, and get one here.
        files: splits that have a file of their own.
        keys: what a row shares with others, such as its group and what is in its file.
        unlabelled: whether nobody has said the row's label.
        seed: another seed, other halves.

    Returns:
        The rows that are kept, in their order, and how many were left out, by why.
    """
    sides = [split for split in ("val", "test") if split not in files]
    train = {id(row) for row in rows if row.split == "train"}
    free = [row for row in rows if row.split is None]
    if not sides:  # every row of the first file is one for training
        train |= {id(row) for row in free}
    empty = {id(row) for row in free if unlabelled(row)} - train
    kept = [row for row in rows if id(row) not in train | empty]
    own = {id(row): list(keys(row)) for row in kept}
    roots = joined((names[0], name) for names in own.values() for name in names)
    whole: dict[str, list[Row]] = {}
    for row in kept:
        whole.setdefault(roots[own[id(row)][0]], []).append(row)
    count = dict.fromkeys(sides, 0)
    for group in sorted(whole.values(), key=lambda g: _place(g, own, seed)):
        there = next((row.split for row in group if row.split is not None), None)
        side = there or min(sides, key=lambda split: count[split])
        for row in group:
            if row.split is None:
                row.split = side
                count[side] = count.get(side, 0) + 1
    return kept, {"of the training split": len(train), "without a label": len(empty)}


def keys_of(row: Row, group: Callable[[Row], str], path: str, root: Path | None) -> list[str]:
    """What holds a row together with others: its group, and what is in its file.

    Args:
        row: one.
        group: names its group.
        path: column of the file.
        root: folder that it is relative to; None: that of the manifest.
    """
    file = take_path(row, path, root, [], allow_outside_root=True, check_files=False)
    content = file_content(file)
    return [group(row), *([] if content is None else [f"content {content}"])]


def _place(group: Sequence[Row], own: dict[int, list[str]], seed: int) -> bytes:
    """Where a group stands in line: the same whatever the order of the rows."""
    name = min(key for row in group for key in own[id(row)])
    return hashlib.blake2b(f"{seed}:{name}".encode()).digest()


__all__ = ["evaluation_rows", "keys_of"]
