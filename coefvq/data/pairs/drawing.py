"""Which files make a pair, and what is true of it: decided from what each file shows and plays.

Nothing here looks into a file. Every file says which part of which source it shows, so that the
label of any two files is known, and two files that show the same moments can never be drawn as a
negative.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

CASES = ("copy", "natural", "copies", "segment", "similar", "sound", "random")
"""How a pair came about: the first three are reproductions, the others are not."""

OVERLAP = 0.2
"""Two copies are a reproduction of each other when they share this much of their source."""

TWO_COPIES = 0.2
"""How often a negative with another source is of two copies, not of an original and a copy: about
as often as a reproduction is. That both have been tampered with must say nothing of the label."""


@dataclass(frozen=True)
class File:
    """One file and what is in it.

    Args:
        id: unique name.
        path: where it is, as the clip manifest says it.
        source: whose picture it shows; equal for files of equal content.
        start: from where, as a share of the source.
        end: up to where.
        how: transformations that made it; empty for an original.
        original: whether it was there before.
        kind: sources of one kind look alike: one generator, one folder.
        title: text of the clip.
        inserted: whose picture it shows besides, where it is spliced into another clip.
        heard: whose sound it plays; empty for none.
        split: where all files of its source go.
    """

    id: str
    path: str
    source: str
    start: float = 0.0
    end: float = 1.0
    how: tuple[str, ...] = ()
    original: bool = False
    kind: str = ""
    title: str = ""
    inserted: str = ""
    heard: str = ""
    split: str = "train"

    def shows(self) -> set[str]:
        """Sources whose picture is in the file."""
        return {self.source, self.inserted} - {""}

    def to_dict(self) -> dict[str, Any]:
        """Return a row of plain values, for a table."""
        return {**dataclasses.asdict(self), "how": "|".join(self.how)}

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> File:
        """Undo `to_dict`; what else is in the row is left out."""
        names = [field.name for field in dataclasses.fields(cls)]
        values = {name: row[name] for name in names}
        return cls(**(values | {"how": tuple(filter(None, str(row["how"]).split("|")))}))


@dataclass(frozen=True)
class Drawn:
    """A drawn pair.

    Args:
        query: one file.
        candidate: the other.
        label: 1 for a reproduction.
        how: transformations between the two; None where that cannot be said (two copies).
        case: one of `CASES`.
    """

    query: File
    candidate: File
    label: int
    how: tuple[str, ...] | None
    case: str


@dataclass(frozen=True)
class Counts:
    """How many pairs are drawn for each source, besides every (original, copy).

    Args:
        copies: pairs of two copies that share moments: reproductions.
        segments: pairs of two copies that show disjoint parts of the source: the hardest
            negatives.
        similar: negatives with another source of the same kind.
        sounds: negatives with another source whose sound a copy plays.
        random: negatives with any other source.
    """

    copies: int = 1
    segments: int = 1
    similar: int = 1
    sounds: int = 1
    random: int = 1


def draw_pairs(
    files: Sequence[File], rng: np.random.Generator, counts: Counts | None = None
) -> list[Drawn]:
    """Draw the pairs of one split.

    Args:
        files: all files of the split, and of no other.
        rng: where chance comes from: which negatives, and which side is the query.
        counts: pairs per source; fewer are drawn where there are no more.

    Returns:
        Pairs of each source in turn; no two files are paired twice.
    """
    counts = counts or Counts()
    by_source: dict[str, list[File]] = {}
    for file in files:
        by_source.setdefault(file.source, []).append(file)
    originals = {name: [f for f in some if f.original] for name, some in by_source.items()}
    kinds: dict[str, list[str]] = {}
    for name, some in by_source.items():
        kinds.setdefault(some[0].kind, []).append(name)
    seen: set[frozenset[str]] = set()
    drawn: list[Drawn] = []

    def add(first: File, second: File, case: str, how: tuple[str, ...] | None = ()) -> bool:
        key = frozenset((first.id, second.id))
        if key in seen or first.id == second.id:
            return False
        seen.add(key)
        sides = (first, second) if rng.random() < 0.5 else (second, first)
        drawn.append(Drawn(*sides, int(case in CASES[:3]), how, case))
        return True

    def some(pairs: Iterable[tuple[File, File]], most: int, case: str) -> None:
        left = most
        choices = list(pairs)
        for index in rng.permutation(len(choices)).tolist():
            if left <= 0:
                return
            left -= add(*choices[index], case, None if case == "copies" else ())

    for name, own in by_source.items():
        copies = [file for file in own if not file.original]
        for first in originals[name][:1]:
            for copy in copies:
                add(first, copy, "copy", copy.how)
        naturals = originals[name]
        for index, first in enumerate(naturals):
            for second in naturals[index + 1 :]:
                add(first, second, "natural", None)
        borrowed = [(f, o) for f in copies for o in _lenders(f, originals)]
        some(borrowed, counts.sounds, "sound")
        both = [(a, b) for i, a in enumerate(copies) for b in copies[i + 1 :]]
        some((p for p in both if overlap(*p) >= OVERLAP), counts.copies, "copies")
        disjoint = [(a, b) for a, b in both if overlap(a, b) == 0 and _apart(a, b)]
        some(disjoint, counts.segments, "segment")

        def others(names: Iterable[str], own: list[File] = own) -> list[tuple[File, File]]:
            """Files of this source with those of others, as often two copies as elsewhere."""
            found = []
            for other in names:
                two_copies = rng.random() < TWO_COPIES
                for a in own:
                    found += [
                        (a, b)
                        for b in by_source[other]
                        if (
                            not (a.original or b.original)
                            if two_copies
                            else a.original != b.original
                        )
                    ]
            return [(a, b) for a, b in found if not a.shows() & b.shows()]

        kin = _few(rng, [n for n in kinds[own[0].kind] if n != name], 4 * counts.similar)
        some(others(kin), counts.similar, "similar")
        strangers = _few(rng, [n for n in by_source if n != name], 4 * counts.random)
        some(others(strangers), counts.random, "random")
    return drawn


def overlap(first: File, second: File) -> float:
    """Share of their source that two files have in common; 0 for different sources."""
    if first.source != second.source:
        return 0.0
    return max(0.0, min(first.end, second.end) - max(first.start, second.start))


def _apart(first: File, second: File) -> bool:
    """Whether files of one source share nothing that was spliced in, either."""
    return not first.inserted or first.inserted != second.inserted


def _lenders(file: File, originals: dict[str, list[File]]) -> list[File]:
    if not file.heard or file.heard in file.shows():
        return []
    return originals.get(file.heard, [])[:1]


def _few(rng: np.random.Generator, names: list[str], most: int) -> list[str]:
    """At most `most` of `names`, so that large splits don't list all pairs of files."""
    return [names[i] for i in rng.permutation(len(names))[:most].tolist()]


def pair_row(drawn: Drawn, names: Sequence[str], split: str) -> dict[str, Any]:
    """A drawn pair as a row of a pair table.

    Args:
        drawn: the pair. Its id is made of its clips': tables of several calls go together.
        names: sub-labels; each gets a column `sub_<name>` with 1, 0, or None where it is unknown.
        split: of the pair.
    """
    row: dict[str, Any] = {
        "id": f"{drawn.query.id}+{drawn.candidate.id}",
        "query": drawn.query.id,
        "candidate": drawn.candidate.id,
        "label": drawn.label,
        "split": split,
        "case": drawn.case,
    }
    how = drawn.how
    return row | {f"sub_{n}": None if how is None else int(n in how) for n in names}


__all__ = ["CASES", "OVERLAP", "Counts", "Drawn", "File", "draw_pairs", "overlap", "pair_row"]
