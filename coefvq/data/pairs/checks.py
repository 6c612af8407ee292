"""What can be wrong with a table of pairs as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from coefvq.data.manifest import Problem
from coefvq.data.rows import Row, place_of, unlabelled
from coefvq.data.splits import SPLITS
from coefvq.pairs import Pair


def check_pairs(
    rows: Sequence[Row], pairs: Sequence[Pair], file: Path, label: str
) -> Iterator[Problem]:
    """Yield a problem for each pair that is there twice, and for each split that is of no use.

    Args:
        rows: of all tables, with their splits.
        pairs: what they say, in the same order, with labels where those could be read.
        file: the table that problems of a split are told of.
        label: its label column.
    """
    names: dict[str, Row] = {}
    sides: dict[tuple[str, str], Row] = {}
    for row, pair in zip(rows, pairs, strict=True):
        two = (pair.query.id, pair.candidate.id)
        if two[0] == two[1]:
            yield row.problem(f"pairs {two[0]!r} with itself; remove it or name another clip")
        elif (first := sides.setdefault(two, row)) is not row:
            yield row.problem(f"has the query and candidate of {place_of(first, row)}; keep one")
        elif (first := names.setdefault(pair.id, row)) is not row:
            yield row.problem(
                f"id {pair.id!r} is taken by {place_of(first, row)}; give every pair its own"
            )
    for split in SPLITS:
        own = [number for number, row in enumerate(rows) if row.split == split]
        if not own:
            yield Problem(
                file,
                None,
                f"the {split} split is empty; add pairs to it, or give data.{split} or a column "
                "for the split (without one, pairs that share clips stay together)",
            )
            continue
        marked = [number for number in own if not unlabelled(rows[number], (label,))]
        if split == "train" and not marked:
            yield Problem(file, None, "no training pair has a label; label some of them")
        found = {pairs[number].label for number in (marked if split == "train" else own)}
        # A wrong label has been told of already. A test of one kind leaves some metrics undefined.
        if split != "test" and len(found) == 1 and None not in found:
            (only,) = found
            what = "learning needs" if split == "train" else "a threshold is chosen there, from"
            yield Problem(
                file,
                None,
                f"all labelled pairs of the {split} split have label {only:g}; {what} both kinds, "
                f"so add pairs of label {1 - float(only or 0):g}",
            )


__all__ = ["check_pairs"]
