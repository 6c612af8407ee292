import pytest

from coefvq.evaluation.loss_curves import loss_figure, read_history

LOG = """epoch,step,train/loss,train/loss/task,train/loss/distill,val/f1,val/loss
0,0,0.5,0.6,0.4,,
0,5,0.4,0.5,0.3,,
0,9,,,,0.7,0.45
1,10,nan,0.4,0.2,,
"""


@pytest.fixture
def rows(tmp_path):
    (tmp_path / "metrics.csv").write_text(LOG)
    return read_history(tmp_path / "metrics.csv")


def test_history_skips_blanks(rows, tmp_path):
    assert rows[0] == {"step": 0, "name": "train/loss", "value": 0.5}
    assert {"step": 9, "name": "val/f1", "value": 0.7} in rows
    assert len(rows) == 11
    assert read_history(tmp_path / "absent.csv") == []


def test_every_term_has_a_curve(rows):
    axes = loss_figure(rows).axes[0]
    words = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert words == [
        "weighted sum, training",
        "weighted sum, validation",
        "distill, training",
        "task, training",
    ]
    total = next(line for line in axes.lines if line.get_label() == words[0])
    assert list(total.get_ydata()) == [0.5, 0.4]  # the NaN is not drawn
    assert axes.get_xlabel() == "step" and "loss" in axes.get_ylabel()


def test_a_single_term_is_not_drawn_twice():
    rows = [
        {"step": s, "name": name, "value": 1.0 / (s + 1)}
        for s in range(5)
        for name in ("train/loss", "train/loss/task")
    ]
    words = [text.get_text() for text in loss_figure(rows).legends[0].get_texts()]
    assert words == ["task, training"]


def test_a_sum_of_one_term_that_tells_its_parts_is_not_drawn_either():
    parts = {"train/loss": 1.0, "train/loss/cpfd": 1.0, "train/loss/task": 0.4}
    rows = [
        {"step": s, "name": name, "value": value * (s + 1)}
        for s in range(5)
        for name, value in parts.items()
    ]
    words = [text.get_text() for text in loss_figure(rows).legends[0].get_texts()]
    assert words == ["cpfd, training", "task, training"]


def test_long_curves_are_smoothed_over_their_raw_values():
    rows = [{"step": s, "name": "train/loss", "value": float(s % 2)} for s in range(200)]
    raw, smooth = loss_figure(rows).axes[0].lines
    assert set(raw.get_ydata()) == {0.0, 1.0}
    assert all(0.3 < value < 0.7 for value in list(smooth.get_ydata())[10:-10])
