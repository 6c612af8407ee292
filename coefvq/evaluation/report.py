"""What a run leaves behind: `report.json` for programs, `report.md` and a last screen for people.

All three are made from one dict:

    recipe, label, task, task_kind, seed, command   what was run
    test.teacher, test.student, test.agreement      metrics by name; test.gap_closed where known
    test.first_stage                                the student before it was taught, where kept
    threshold                                       a number, or by model
    data, data_fingerprint, skipped_clips           what it was run on
    score_calibration, calibrated_scores            the unit of scores, and how well it holds there
    test_fingerprint                                which clips, with which labels, it was scored on
    teacher_name, teacher_fingerprint               who taught
    seconds, peak_memory_mb, versions, paths        what it cost and where everything lies
    plots, notes                                    pictures relative to the report; sentences

Every key is optional: what is missing is left out of the pages.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coefvq.evaluation.markdown import shown
from coefvq.evaluation.report_page import by_chance, page, rows_of, unit_of
from coefvq.evaluation.score_page import score_line
from coefvq.files import write_text

if TYPE_CHECKING:
    from rich.console import RenderableType


def write_report(folder: str | Path, report: Mapping[str, Any]) -> tuple[Path, Path]:
    """Write `report.json` and `report.md`, each in one move, so that neither is ever half there.

    Args:
        folder: where to; made if missing.
        report: see the module's docstring. Tensors and NumPy scalars of one element become numbers,
            paths strings, NaN and infinities `null`; each `null` among the test's metrics gets a
            sentence in `notes`.

    Returns:
        The two files.
    """
    folder = Path(folder)
    content = plain(report)
    missing = _undefined(content.get("test") or {}, "test")
    if missing:
        said = content.get("notes") or []
        sentence = f"undefined on this test split (null): {', '.join(missing)}"
        content["notes"] = [*said, *([] if sentence in said else [sentence])]
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
    paths = folder / "report.json", folder / "report.md"
    # The JSON comes last: where it is, a run is finished.
    write_text(paths[1], page(content))
    write_text(paths[0], text + "\n")
    return paths


def read_report(folder: str | Path) -> dict[str, Any]:
    """Read a `report.json` back, given its folder or the file.

    Raises:
        ValueError: there is none, or it is not a JSON object.
    """
    path = Path(folder)
    path = path / "report.json" if path.is_dir() else path
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no readable report ({error}); run it again") from error
    if not isinstance(report, dict):
        raise ValueError(
            f"{path} holds a {type(report).__name__}, expected an object; run it again"
        )
    return report


def plain(value: Any) -> Any:
    """Turn a tree of values into what JSON can hold; NaN and infinities become None.

    >>> plain({"f1": float("nan"), 3: (Path("a"),)})
    {'f1': None, '3': ['a']}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain({f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "tolist"):  # a tensor, or an array or scalar of NumPy
        return plain(value.tolist())
    return str(value)


def terminal_table(report: Mapping[str, Any]) -> RenderableType:
    """Return the last screen: teacher and student per metric, notes, and where everything lies.

    Print it with `rich.console.Console().print(...)`.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    content = plain(report)
    title = " · ".join(
        str(word)
        for word in (
            content.get("label") or content.get("recipe"),
            content.get("task"),
            None if content.get("seed") is None else f"seed {content['seed']}",
        )
        if word
    )
    names, rows = rows_of(content.get("test") or {})
    table = Table(title=title or None, title_justify="left", title_style="bold")
    table.add_column(f"{content.get('split', 'test')} metric")
    for name in names:
        table.add_column(name, justify="right")
    for label, cells in rows:
        table.add_row(label, *cells)
    lines: list[RenderableType] = [table]
    if chance := by_chance(content):
        lines.append(Text(chance))
    if unit := score_line(content):
        lines.append(Text(unit))
    agreement = (content.get("test") or {}).get("agreement") or {}
    if agreement.get("equal_decisions") is not None:
        lines.append(
            Text(
                f"student and teacher decide alike on {agreement['equal_decisions']:.1%} of "
                f"{unit_of(content)}"
            )
        )
    closed = (content.get("test") or {}).get("gap_closed")
    if closed is not None:
        lines.append(Text(f"share of the teacher–student gap closed: {shown(closed)}"))
    lines += [Text(f"note: {note}") for note in content.get("notes") or []]
    paths = {name: path for name, path in (content.get("paths") or {}).items() if path}
    width = max(map(len, paths), default=0)
    lines += [
        Text(f"{name:<{width}}  {_short(path)}", overflow="fold") for name, path in paths.items()
    ]
    return Group(*lines)


def _short(path: str) -> str:
    """The shorter of the path and the same seen from here."""
    try:
        relative = os.path.relpath(path)
    except ValueError:  # another drive
        return path
    return min(path, relative, key=len)


def _undefined(tree: Mapping[str, Any], prefix: str) -> list[str]:
    found: list[str] = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found += _undefined(value, f"{prefix}.{key}")
        elif value is None:
            found.append(f"{prefix}.{key}")
    return found
