"""A manifest: all clips of a run with what is known about them, and what may be wrong with one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from coefvq.data.content import file_content
from coefvq.types import Clip, TaskSpec

SHOWN_PROBLEMS = 20
"""How many problems an error message spells out; all are in `ManifestError.problems`."""

SHOWN_ALIKE = 3
"""Of problems that differ in the row and the value alone."""

_VALUE = re.compile(r"'[^']*'|\"[^\"]*\"|(?<!\w)[-+]?\d[\w.]*")


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a manifest.

    Args:
        file: the manifest file.
        row: number of the row, counted from 1 without the header; None for the file as a whole.
        text: what was found and what to do, as a phrase.
    """

    file: Path
    row: int | None
    text: str

    def __str__(self) -> str:
        where = str(self.file) if self.row is None else f"{self.file} row {self.row}"
        return f"{where}: {self.text}"


class ManifestError(ValueError):
    """A manifest that cannot be used; the message lists what is wrong, `problems` lists all."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        alike: dict[str, list[Problem]] = {}
        for problem in self.problems:
            value = "" if problem.row is None else _VALUE.sub("", problem.text)
            kind = f"{problem.file} {value or problem.text}"
            alike.setdefault(kind, []).append(problem)
        lines, shown = [], 0
        for some in alike.values():
            if len(lines) >= SHOWN_PROBLEMS:
                lines.append(f"  ... and {count - shown} more")
                break
            lines += [f"  {problem}" for problem in some[:SHOWN_ALIKE]]
            if len(some) > SHOWN_ALIKE:
                lines.append(f"  ... and {len(some) - SHOWN_ALIKE} more rows like these")
            shown += len(some)
        noun = "problem" if count == 1 else "problems"
        head = f"the manifest has {count} {noun} (rows are counted from 1, without the header):"
        super().__init__("\n".join([head, *lines]))

    def __reduce__(self) -> tuple[Any, ...]:
        return ManifestError, (self.problems,)


@dataclass(frozen=True)
class Manifest:
    """All clips of a run.

    Args:
        clips: every clip of every split.
        task: what their labels mean.
        privileged_names: P privileged features, in the order of the tensors.
        log1p: those that are put through log(1 + x) before they are standardised.
        fingerprint: identity of the content, as hex; made by `fingerprint_of` when empty.
        public_fingerprint: the same without the privileged features, for whoever never reads them.
    """

    clips: tuple[Clip, ...]
    task: TaskSpec
    privileged_names: tuple[str, ...] = ()
    log1p: tuple[str, ...] = ()
    fingerprint: str = ""
    public_fingerprint: str = ""

    def __post_init__(self) -> None:
        for name in ("clips", "privileged_names", "log1p"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.fingerprint:
            object.__setattr__(self, "fingerprint", fingerprint_of(self))
        if not self.public_fingerprint:
            object.__setattr__(self, "public_fingerprint", _public(self))

    def split(self, name: str) -> list[Clip]:
        """Clips of one split, in the manifest's order."""
        return [clip for clip in self.clips if clip.split == name]


class ClipSource(Protocol):
    """Anything that can come up with a manifest; it may make the clips first."""

    def load(self) -> Manifest:
        """Return the manifest; called once, before training."""
        ...


def fingerprint_of(
    manifest: Manifest, root: str | Path | None = None, *, contents: bool = False
) -> str:
    """Hash what a manifest says.

    Args:
        manifest: its clips, task and privileged features count; its own fingerprint does not.
        root: paths count relative to this folder, so that a moved data set stays the same one;
            without it, only file names count.
        contents: count what is in the files as well (`coefvq.data.content.file_content`), so that a
            replaced file is noticed.

    Returns:
        32 hex digits, the same for the same clips in any order.
    """
    rows = []
    for clip in sorted(manifest.clips, key=lambda clip: clip.id):
        path = os.path.relpath(clip.path, root) if root is not None else clip.path.name
        content = file_content(clip.path) if contents else None
        privileged = [repr(float(clip.privileged.get(n, "nan"))) for n in manifest.privileged_names]
        text = sorted(clip.text.items())
        label = None if clip.label is None else repr(clip.label)
        row = [clip.id, path, content, text, label, clip.split, clip.group, privileged]
        rows.append(row if clip.label_std is None else [*row, repr(clip.label_std)])
    whole = [manifest.task.to_dict(), manifest.privileged_names, manifest.log1p, rows]
    return hashlib.blake2b(json.dumps(whole).encode(), digest_size=16).hexdigest()


def identified(manifest: Manifest, root: str | Path) -> Manifest:
    """The same manifest with fingerprints that count what is in the files, see `fingerprint_of`."""
    digest = fingerprint_of(manifest, root, contents=True)
    manifest = dataclasses.replace(manifest, fingerprint=digest)
    public = _public(manifest, root, contents=True)
    return dataclasses.replace(manifest, public_fingerprint=public)


def _public(manifest: Manifest, root: str | Path | None = None, *, contents: bool = False) -> str:
    if not manifest.privileged_names:
        return manifest.fingerprint
    unset = {"fingerprint": "unset", "public_fingerprint": "unset"}
    public = dataclasses.replace(manifest, privileged_names=(), log1p=(), **unset)
    return fingerprint_of(public, root, contents=contents)


__all__ = [
    "SHOWN_PROBLEMS",
    "ClipSource",
    "Manifest",
    "ManifestError",
    "Problem",
    "fingerprint_of",
    "identified",
]
