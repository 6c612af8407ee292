"""Which teacher stands behind which cell of a comparison."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class _Entry:
    name: str
    label: str
    task: str
    seed: int
    fingerprint: str
    data: str
    value: float


class TeacherIndex:
    """The teachers of many reports, each counted once however many students it taught.

    A teacher is known by name, task, seed and fingerprint. Where two of one name stand behind one
    task and seed (a comparison that mixes data sets), a row is held against the teacher of its own
    runs, and otherwise against the one trained on the same data; if that is not one teacher either,
    the seed has no teacher there, and `notes` says so.

    Args:
        reports: with `test.teacher`, `teacher_name`, `teacher_fingerprint`, `data_fingerprint`.
        metrics: the metric's name by task.
    """

    def __init__(self, reports: Sequence[Mapping[str, Any]], metrics: Mapping[str, str]) -> None:
        self._data: dict[tuple[str, str, int], str] = {}
        self._entries: list[_Entry] = []
        for report in reports:
            label = str(report.get("label") or report.get("recipe"))
            task, seed = str(report["task"]), int(report["seed"])
            data = str(report.get("data_fingerprint") or "")
            self._data[label, task, seed] = data
            scores = (report.get("test") or {}).get("teacher") or {}
            value = scores.get(metrics.get(task, ""))
            if value is None or math.isnan(value):
                continue
            name = str(report.get("teacher_name") or "teacher")
            fingerprint = str(report.get("teacher_fingerprint") or "")
            self._entries.append(_Entry(name, label, task, seed, fingerprint, data, float(value)))

    def values_for(
        self, name: str, label: str, task: str, seeds: Sequence[int]
    ) -> dict[int, float]:
        """Return by seed the score of the teacher that this row is to be held against."""
        values = {}
        for seed in seeds:
            here = [e for e in self._entries if (e.name, e.task, e.seed) == (name, task, seed)]
            own = [e for e in here if e.label == label]
            data = self._data.get((label, task, seed))
            for candidates in (own, [e for e in here if e.data == data], here):
                if len({e.fingerprint for e in candidates}) == 1:
                    values[seed] = candidates[0].value
                if candidates:
                    break
        return values

    def rows(self, tasks: Sequence[str]) -> Iterator[tuple[str, dict[str, dict[int, float]]]]:
        """Yield a label and the values by task and seed for each teacher.

        One row per name; where a name stands for several teachers, one row per group of methods
        that share theirs.
        """
        for name in dict.fromkeys(e.name for e in self._entries):
            entries = [e for e in self._entries if e.name == name and e.task in tasks]
            if not self._ambiguous(name):
                yield f"teacher {name}", _by_task(entries, tasks)
                continue
            groups: dict[tuple[tuple[str, int, str], ...], list[_Entry]] = {}
            for label in dict.fromkeys(e.label for e in entries):
                own = [e for e in entries if e.label == label]
                key = tuple(sorted((e.task, e.seed, e.fingerprint) for e in own))
                groups.setdefault(key, []).extend(own)
            for group in groups.values():
                whose = ", ".join(dict.fromkeys(e.label for e in group))
                yield f"teacher {name} (of {whose})", _by_task(group, tasks)

    def notes(self, name: str) -> list[str]:
        """Say where this name stands for several teachers."""
        return [
            f"several teachers {name!r} on {task}, seed {seed}: each row is held against its own, "
            "or the one trained on the same data; if that is not one, the seed is left out"
            for task, seed in self._ambiguous(name)
        ]

    def _ambiguous(self, name: str) -> list[tuple[str, int]]:
        prints: dict[tuple[str, int], set[str]] = {}
        for e in self._entries:
            if e.name == name:
                prints.setdefault((e.task, e.seed), set()).add(e.fingerprint)
        return [key for key, found in prints.items() if len(found) > 1]


def _by_task(entries: Sequence[_Entry], tasks: Sequence[str]) -> dict[str, dict[int, float]]:
    return {task: {e.seed: e.value for e in entries if e.task == task} for task in tasks}
