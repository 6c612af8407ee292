"""A line per answer, for `coefvq.serving.watch`: what a served cascade leaves behind."""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLUMNS = (
    "route", "prediction", "heavy_prediction", "uncertainty", "audited", "audit_probability",
    "audit_failed", "content",
)  # fmt: skip


class AnswerLog:
    """A file of this process in a folder that all processes of a server share.

    Neither the clip nor its text is in it, only the first 16 hexadecimal digits of the SHA-256 of
    the video (`content`), by which a file that comes again is known.

    Args:
        folder: made if missing.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
        self.path = folder / name

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a line: the time (seconds since 1970) and some of the answer's columns."""
        line = {"time": time.time()} | {name: row.get(name) for name in COLUMNS}
        with self.path.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")


__all__ = ["AnswerLog"]
