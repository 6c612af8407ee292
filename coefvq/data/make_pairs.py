"""`python -m coefvq.data.make_pairs clips=folder out=pairs.parquet`: labelled pairs of any clips.

Words are `key=value`, as everywhere. Lists are written `transformations=[crop,flip]`.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

import yaml

from coefvq.data.pairs.drawing import Counts
from coefvq.data.pairs.make import SKIPPED_FILE, MadePairs, make_pairs
from coefvq.data.pairs.paths import clips_folder
from coefvq.files import FULL

SHOWN = 10
"""Skipped files that are spelt out; all are in the list beside the copies."""


def read_options(words: Sequence[str]) -> dict[str, Any]:
    """Turn `key=value` words into arguments of `make_pairs`.

    Raises:
        ValueError: a word is not `key=value`, a key is unknown or given twice, a value has another
            type than the default, or `clips` or `out` is missing.

    >>> read_options(["clips=videos", "out=pairs.csv", "copies=2"])
    {'clips': 'videos', 'out': 'pairs.csv', 'copies': 2}
    """
    parameters = inspect.signature(make_pairs).parameters
    numbers = {field.name: field.default for field in dataclasses.fields(Counts)}
    known = [name for name in parameters if name != "counts"]
    options: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"{word!r} is not key=value; write for instance clips=folder")
        if name not in known and not name.startswith("counts."):
            raise ValueError(
                f"{name} is unknown; there are {', '.join(known)}, "
                f"{', '.join(f'counts.{n}' for n in numbers)}"
            )
        if name in options:
            raise ValueError(f"{name} is given twice; keep one")
        options[name] = value if name in ("clips", "out", "root") else _value(word, value)
    for name in ("clips", "out"):
        if not options.get(name):
            raise ValueError(f"{name} is not set; add {name}=… to the command")
    counts: dict[str, int] = {}
    for name in [name for name in options if name.startswith("counts.")]:
        key, number = name.removeprefix("counts."), options.pop(name)
        if key not in numbers or type(number) is not int or number < 0:
            raise ValueError(
                f"{name}={number} is not one of {', '.join(f'counts.{n}' for n in numbers)} with a "
                "whole number from 0"
            )
        counts[key] = number
    for name, value in options.items():
        default = parameters[name].default
        right = type(value) is type(default) or (
            isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool)
        )
        if isinstance(default, int | float) and not right:
            raise ValueError(f"{name}={value} must be a number like {default}")
        if name in ("text", "transformations"):
            some = [value] if isinstance(value, str) else value
            if some is not None and not (
                isinstance(some, list) and all(isinstance(n, str) for n in some)
            ):
                raise ValueError(f"{name}={value} is no list of names; write {name}=[a,b]")
            options[name] = some
    return options | ({"counts": Counts(**counts)} if counts else {})


def _value(word: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ValueError(f"{word!r} cannot be read; check its brackets and quotes") from None


def summary(made: MadePairs, out: str) -> str:
    """Say in a few lines what was made."""
    table = made.table
    lines = [f"{len(table)} pairs of {len(made.clips)} clips in {out}"]
    for split, rows in table.groupby("split", sort=False):
        cases = ", ".join(f"{n} {case}" for case, n in rows["case"].value_counts().items())
        lines.append(
            f"  {split}: {len(rows)} pairs, {int(rows['label'].sum())} of label 1 ({cases})"
        )
        if rows["label"].nunique() == 1 and split != "test":
            lines.append(
                f"  {split} has no pair of label {1 - int(rows['label'].iloc[0])}, and runs want "
                "both there: give more clips, or other transformations"
            )
    if made.skipped:
        lines.append(
            f"{len(made.skipped)} skipped (all are in {clips_folder(out) / SKIPPED_FILE}):"
        )
        lines += [f"  {bad.path}: {bad.reason}" for bad in made.skipped[:SHOWN]]
    return "\n".join(lines)


def _refusal(error: OSError) -> str:
    if error.errno in FULL:
        return f"no space left on the device ({error}); free some and give the same command again"
    where = f"{error.filename}: " if error.filename else ""
    return (
        f"out cannot be written there ({where}{error.strerror or error}); give another out, in a "
        "folder that is yours"
    )


def main(words: Sequence[str]) -> None:
    """Run the command; what a user can mend is one sentence and exit status 2."""
    if {"--help", "-h"} & set(words):
        print(f"{__doc__}\n{inspect.getdoc(make_pairs)}")
        return
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        options = read_options(words)
        print(summary(make_pairs(**options), options["out"]))
    except KeyboardInterrupt:
        print("\ncoefvq: stopped; the same command goes on where it was", file=sys.stderr)
        raise SystemExit(130) from None
    except (ValueError, OSError) as error:
        sentence = _refusal(error) if isinstance(error, OSError) else str(error)
        if os.environ.get("COEFVQ_DEBUG"):
            raise
        print(f"\ncoefvq: {sentence}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main(sys.argv[1:])
