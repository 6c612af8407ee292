"""How our pictures look. Figures are made without pyplot, so nothing global is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"teacher": "#d55e00", "student": "#0072b2"}
LINES = ("#222222", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
RIGHT, WRONG, GREY = "#009e73", "#d55e00", "#888888"


def empty_figure(height: float) -> Figure:
    """Make a figure of our width and this height, in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.8, height))
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.1)
    return figure


def one_axes(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    """Make a figure with one dressed pair of axes."""
    figure = empty_figure(height=4.4)
    axes = figure.subplots()
    dress(axes, title, x, y)
    return figure, axes


def dress(axes: Axes, title: str, x: str, y: str) -> None:
    """Give axes their words, a quiet grid and no box."""
    if title:
        axes.set_title(title, loc="left", fontsize=12)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def legend(axes: Axes) -> None:
    """Add a legend under the axes, where it hides no curve, if anything has a label.

    Matplotlib's own search for the best place inside the axes is slow with many points, and
    warns by the clock.
    """
    handles, labels = axes.get_legend_handles_labels()
    if handles and axes.figure is not None:
        axes.figure.legend(
            handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9
        )
