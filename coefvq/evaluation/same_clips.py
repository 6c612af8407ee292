"""Whether the rows of a comparison were scored on the same clips, and trained on the same data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Runs = Mapping[tuple[str, str, int], Mapping[str, Any]]
"""Reports by label, task and seed."""


def different_data(task: str, seeds: Sequence[int], runs: Runs) -> list[str]:
    """Say which rows cannot be compared as they stand, and which differ only in what they learned.

    Scores on different test clips don't belong in one column. The same test clips with another
    training set, or with fewer frames or without sound, are what ablations are made of: they are
    named once, so that nobody takes them for methods on equal data.

    Args:
        task: a column of the table.
        seeds: of the table.
        runs: with `test_fingerprint` and `data_fingerprint` where they are known.
    """
    found: dict[tuple[str, str], list[int]] = {}
    for seed in seeds:
        here = {n: r for (n, t, s), r in runs.items() if (t, s) == (task, seed)}
        test = _groups(here, "test_fingerprint")
        if len(test) > 1:
            kind, groups = "different test clips", test
        elif len(groups := _groups(here, "data_fingerprint")) > 1:
            # Reports of before test clips had a fingerprint don't say where the difference is.
            told = all(report.get("test_fingerprint") for report in here.values())
            kind = "same test clips, other training data or reading" if told else "different data"
        else:
            continue
        found.setdefault((kind, " | ".join(", ".join(g) for g in groups)), []).append(seed)
    return [
        f"{kind} on {task}, {'seed' if len(at) == 1 else 'seeds'} {', '.join(map(str, at))}: {who}"
        for (kind, who), at in found.items()
    ]


def _groups(reports: Mapping[str, Mapping[str, Any]], key: str) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for label, report in reports.items():
        if report.get(key):
            groups.setdefault(str(report[key]), []).append(label)
    return list(groups.values())


__all__ = ["different_data"]
