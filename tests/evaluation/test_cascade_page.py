import copy
import io
import json

import pytest
from rich.console import Console

from coefvq.evaluation.cascade_page import cascade_table, deferral_figure, write_cascade


@pytest.fixture
def figures(cascade_numbers):
    return copy.deepcopy(cascade_numbers)


def test_json_page_and_picture_are_written(figures, tmp_path):
    figures["curve"][0]["metrics"]["f1"] = float("nan")
    write_cascade(tmp_path, figures)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "cascade.json", "cascade.md", "deferral.png",
    ]  # fmt: skip
    stored = json.loads((tmp_path / "cascade.json").read_text())
    assert stored["curve"][0]["metrics"]["f1"] is None
    assert stored["test"] == figures["test"]
    page = (tmp_path / "cascade.md").read_text()
    assert page.startswith("# Cascade\n\nGate entropy") and page.endswith(".\n")
    assert (tmp_path / "deferral.png").read_bytes().startswith(b"\x89PNG")


def lines_of(axes):
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
        for line in axes.get_lines()
    }


def test_the_picture_shows_metrics_against_share_and_price(figures):
    share, price = deferral_figure(figures).axes
    assert "share" in share.get_xlabel() and "GPU-seconds" in price.get_xlabel()
    x, y = lines_of(share)["F1"]
    assert x == [0.0, 0.094, 1.0] and y == [0.5, 0.6, 0.7]
    assert lines_of(price)["F1"][0] == [11.0, 21.0, 111.0]
    assert lines_of(share)["this policy"][0] == [0.172, 0.172]
    assert lines_of(price)["this policy"][0] == [21.0, 21.0]


def test_without_prices_there_is_one_panel(figures):
    for point in figures["curve"]:
        point["seconds_per_1000"] = None
    assert len(deferral_figure(figures).axes) == 1


def test_the_last_screen(figures):
    out = io.StringIO()
    Console(file=out, width=120).print(cascade_table(figures))
    text = out.getvalue()
    assert "cascade, defers 17.2% of the test clips" in text and "note" not in text
    assert "undefined" in text and "0.6000" in text and "21.0" in text
    figures["notes"] = ["first", "second"]
    Console(file=out, width=120).print(cascade_table(figures))
    assert out.getvalue().endswith("note: first\nnote: second\n")
