"""A cascade's figures as JSON, as a picture, and as pages for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coefvq.evaluation.cascade_lines import (
    FIRST,
    cascade_lines,
    curve_header,
    curve_rows,
    judged_on,
)
from coefvq.evaluation.figures import GREY, LINES, dress, empty_figure, legend
from coefvq.evaluation.markdown import METRIC_LABELS
from coefvq.evaluation.report import plain
from coefvq.files import write_json, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import RenderableType


def write_cascade(folder: str | Path, figures: Mapping[str, Any]) -> None:
    """Write `cascade.json`, `cascade.md` and `deferral.png` into a cascade's folder."""
    folder = Path(folder)
    content = plain(figures)
    deferral_figure(content).savefig(folder / "deferral.png", dpi=130, facecolor="white")
    write_text(folder / "cascade.md", "\n\n".join(["# Cascade", *cascade_lines(content)]) + "\n")
    write_json(folder / "cascade.json", content)


def cascade_table(figures: Mapping[str, Any]) -> RenderableType:
    """The last screen: every budget with its metrics and its price, and what to know of them."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    content = plain(figures)
    shown_table = Table(
        title=f"cascade, defers {content['deferred']:.1%} of {judged_on(content)}",
        title_justify="left", title_style="bold",
    )  # fmt: skip
    for name in curve_header(content):
        shown_table.add_column(name, justify="right")
    for row in curve_rows(content):
        shown_table.add_row(*row)
    return Group(shown_table, *(Text(f"note: {note}") for note in content.get("notes") or ()))


def deferral_figure(figures: Mapping[str, Any]) -> Figure:
    """Draw the system's metrics against the share deferred and, where known, against seconds."""
    curve = figures["curve"]
    names = [n for n in FIRST if n in curve[0]["metrics"]]
    priced = curve[0]["seconds_per_1000"] is not None
    figure = empty_figure(height=7.6 if priced else 4.4)
    panels = figure.subplots(2 if priced else 1, squeeze=False)[:, 0]
    axes_words = [("share of clips deferred", [p["deferred"] for p in curve])]
    if priced:
        unit = figures["cost"]["unit"]
        axes_words += [(f"{unit} per 1 000 clips", [p["seconds_per_1000"] for p in curve])]
    for axes, (word, x) in zip(panels, axes_words, strict=True):
        dress(axes, "", word, "test metric")
        for colour, name in zip(LINES[1:], names, strict=False):
            y = [p["metrics"][name] for p in curve]
            label = METRIC_LABELS.get(name, name)
            axes.plot(x, y, "o-", color=colour, linewidth=1.8, markersize=4, label=label)
        axes.axvline(
            figures["deferred"] if word.startswith("share")
            else figures["seconds_per_1000"]["cascade"],
            color=GREY, linestyle="--", linewidth=1, label="this policy",
        )  # fmt: skip
    legend(panels[0])
    return figure


__all__ = ["cascade_table", "deferral_figure", "write_cascade"]
