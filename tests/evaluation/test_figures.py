import sys

from coefvq.evaluation.figures import empty_figure, legend, one_axes


def test_axes_carry_title_and_words():
    figure, axes = one_axes("Loss terms", "step", "loss")
    assert axes.get_title(loc="left") == "Loss terms"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "loss")
    assert figure.axes == [axes]


def test_a_legend_only_where_something_is_named():
    figure, axes = one_axes("", "x", "y")
    axes.plot([0, 1], [0, 1])
    legend(axes)
    assert figure.legends == []
    axes.plot([0, 1], [1, 0], label="a")
    legend(axes)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a"]


def test_a_legend_hides_no_curve_and_searches_for_no_place(tmp_path):
    figure, axes = one_axes("", "x", "y")
    axes.plot([0, 1], [0, 1], label="a")
    legend(axes)
    figure.savefig(tmp_path / "a.png")
    below = figure.legends[0].get_window_extent()
    assert below.y1 <= axes.get_window_extent().y0
    assert axes.get_legend() is None  # matplotlib's own search warns where drawing takes a second


def test_figures_stay_out_of_pyplot():
    figure = empty_figure(height=3)
    assert figure.get_figheight() == 3
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []
