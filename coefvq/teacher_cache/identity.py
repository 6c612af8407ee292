"""What decides a teacher's outputs: two caches with one identity hold the same numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coefvq.files import write_json

IDENTITY = "_identity.json"
"""The file of a cache's folder that says whose outputs it holds."""

READING_VERSION = 4
"""Part of every identity that this library makes; raised when a row under an unchanged name would
hold something else. 2: frames of a numbered random view no longer depend on the seed of the run.
3: a file carries a checksum of its rows. 4: the clips of a pair share frames by their durations."""


@dataclass(frozen=True)
class CacheIdentity:
    """Everything that a cached output depends on, but for the clip and the view.

    Args:
        parts: plain values for JSON, nested by topic: teacher, weights, inputs, data, temperature,
            dtype, versions.
        about: what a reader may want to know of how it was made, such as the words of the data; no
            part of the identity, for the parts hold its hashes.
    """

    parts: Mapping[str, Any]
    about: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the parts, in hex."""
        text = json.dumps(self.parts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def differences(self, other: CacheIdentity) -> list[str]:
        """Name every dotted key that differs as `key: ours -> theirs`.

        >>> a = CacheIdentity({"weights": "ab", "inputs": {"num_frames": 2}})
        >>> a.differences(CacheIdentity({"weights": "ab", "inputs": {"num_frames": 4}}))
        ['inputs.num_frames: 2 -> 4']
        """
        ours, theirs = _flat(self._plain()), _flat(other._plain())
        absent = object()
        return [
            f"{key}: {ours.get(key)!r} -> {theirs.get(key)!r}"
            for key in sorted(ours.keys() | theirs.keys())
            if ours.get(key, absent) != theirs.get(key, absent)
        ]

    def _plain(self) -> Any:
        return json.loads(json.dumps(self.parts))  # tuples compare as the lists they are saved as


def write_identity(folder: Path, identity: CacheIdentity) -> None:
    """Say in a folder whose outputs it holds, unless it says so already."""
    if not (folder / IDENTITY).exists():
        parts = json.loads(json.dumps(identity.parts))
        content = {"fingerprint": identity.fingerprint, "parts": parts, "about": identity.about}
        write_json(folder / IDENTITY, content)


def read_identity(folder: Path) -> CacheIdentity | None:
    """What a folder says of its outputs; None where it says nothing.

    Raises:
        ValueError: the file is damaged, or was changed after it was written.
    """
    path = folder / IDENTITY
    way = "restore it from a copy, or write another cache with python -m coefvq.cache_teacher"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = CacheIdentity(dict(content["parts"]), dict(content.get("about", {})))
        recorded = content["fingerprint"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read ({error}); {way}") from None
    if found.fingerprint != recorded:
        raise ValueError(
            f"{path} was changed after it was written: what it says has the fingerprint "
            f"{found.fingerprint[:16]}…, and it records {str(recorded)[:16]}…; {way}"
        )
    return found


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


__all__ = ["IDENTITY", "READING_VERSION", "CacheIdentity", "read_identity", "write_identity"]
