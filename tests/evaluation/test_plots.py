import math
import sys

import pytest
import torch
from PIL import Image

from coefvq.evaluation.collect import Predictions
from coefvq.evaluation.plots import precision_recall_figure, reliability_figure, write_plots
from coefvq.types import TaskSpec

TASKS = {
    "binary": TaskSpec("degraded", "binary", ("clean", "degraded")),
    "multiclass": TaskSpec("type", "multiclass", ("none", "blur", "noise")),
    "multilabel": TaskSpec("faults", "multilabel", ("blur", "noise", "freeze")),
    "regression": TaskSpec("quality", "regression"),
}


@pytest.fixture
def predict():
    generator = torch.Generator().manual_seed(5)

    def make(task, n=60):
        if task.kind == "multiclass":
            labels = torch.randint(0, 3, (n,), generator=generator)
            clear = torch.nn.functional.one_hot(labels, 3).float()
        else:
            shape = (n, 3) if task.kind == "multilabel" else (n,)
            labels = (torch.rand(shape, generator=generator) < 0.4).float()
            clear = labels
        ids = tuple(map(str, range(n)))
        mask = torch.ones(n, dtype=torch.bool)
        return {
            name: Predictions(
                ids, strength * clear + torch.randn(clear.shape, generator=generator), labels, mask
            )
            for name, strength in (("teacher", 3.0), ("student", 1.0))
        }

    return make


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,train/loss,train/loss/task\n0,0,0.5,0.6\n0,10,0.4,0.5\n")
    return path


@pytest.mark.parametrize("kind", TASKS)
def test_pngs_are_pictures(kind, predict, log, tmp_path):
    task = TASKS[kind]
    thresholds = {"teacher": 0.5, "student": 0.3} if kind == "binary" else {}
    paths = write_plots(
        tmp_path / "plots",
        task=task,
        predictions=predict(task),
        metrics_csv=log,
        thresholds=thresholds,
    )
    expected = ["losses", "precision_recall", "reliability", "confidence"]
    expected = ["losses", "scores"] if kind == "regression" else expected
    assert [path.name for path in paths] == [f"{name}.png" for name in expected]
    for path in paths:
        with Image.open(path) as picture:
            picture.load()
            assert picture.format == "PNG" and min(picture.size) > 400
            assert len(picture.convert("RGB").getcolors(1 << 24)) > 20  # something is drawn


def test_pyplot_keeps_no_figure(predict, tmp_path):
    write_plots(tmp_path, task=TASKS["binary"], predictions=predict(TASKS["binary"]))
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_student_alone_and_no_log(predict, tmp_path):
    task = TASKS["binary"]
    student = {"student": predict(task)["student"]}
    paths = write_plots(tmp_path, task=task, predictions=student, metrics_csv=tmp_path / "none.csv")
    assert [p.stem for p in paths] == ["precision_recall", "reliability", "confidence"]


def test_nothing_labelled_draws_nothing(tmp_path):
    task, logits = TASKS["binary"], torch.zeros(2)
    bare = Predictions(("a", "b"), logits, None, None)
    masked = Predictions(
        ("a", "b"), logits, torch.tensor([math.nan, 0]), torch.zeros(2, dtype=torch.bool)
    )
    assert write_plots(tmp_path, task=task, predictions={"student": bare}) == []
    assert write_plots(tmp_path, task=task, predictions={"student": masked}) == []


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_one_class_still_draws(value, tmp_path):
    labels = torch.full((5,), value)
    lonely = Predictions(tuple("abcde"), torch.randn(5), labels, torch.ones(5, dtype=torch.bool))
    paths = write_plots(tmp_path, task=TASKS["binary"], predictions={"teacher": lonely})
    assert len(paths) == 3


def test_pictures_carry_their_words(predict):
    task = TASKS["multiclass"]
    models = {name: (p.logits, p.labels) for name, p in predict(task).items()}
    figure = precision_recall_figure(models, task, {})
    axes = figure.axes[0]
    assert "micro-average of 3 classes" in axes.get_title(loc="left")
    assert axes.get_xlabel() == "recall" and axes.get_ylabel() == "precision"
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert any(word.startswith("teacher, average precision 0.") for word in words)
    figure = reliability_figure(models, task)
    assert figure.axes[1].get_ylabel() == "clips"
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert any(word.startswith("student, ECE 0.") for word in words)
