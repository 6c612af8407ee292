import math

import numpy as np
import pytest
import torch

from coefvq.cascade.decision_cut import answer_figures, best_cut, decide
from coefvq.evaluation.metrics import compute_metrics
from coefvq.evaluation.threshold import choose_threshold
from coefvq.types import TaskSpec

BINARY = TaskSpec("t", "binary", ("no", "yes"))


def test_f1_is_the_librarys_best(shaped):
    z, y = shaped("binary", n=400)
    p = 1 / (1 + np.exp(-z))
    logits, labels = torch.tensor(z), torch.tensor(y)
    theirs = choose_threshold(logits, labels, BINARY)
    ours = best_cut(p, y == 1)
    f1 = [compute_metrics(logits, labels, BINARY, threshold=t)["f1"] for t in (ours, theirs)]
    assert f1[0] == pytest.approx(f1[1])


def test_precision_has_the_most_recall(shaped):
    z, y = shaped("binary", n=400)
    p, truth = 1 / (1 + np.exp(-z)), y == 1
    taken = p >= best_cut(p, truth, precision=0.9)
    assert truth[taken].mean() >= 0.9
    best = max((truth & (p >= t)).sum() for t in p if truth[p >= t].mean() >= 0.9)
    assert (truth & taken).sum() == best


def test_a_weight_of_three_is_the_clip_three_times(shaped):
    z, y = shaped("binary", n=100)
    p, weight = 1 / (1 + np.exp(-z)), np.where(y == 1, 1, 3)
    rows = np.repeat(np.arange(100), weight)
    for precision in (None, 0.7):
        one = best_cut(p, y == 1, precision=precision, sample_weight=weight)
        assert one == best_cut(p[rows], y[rows] == 1, precision=precision)


def test_figures_equal_the_librarys(shaped):
    for task, names in (("binary", "01"), ("multiclass", "0123"), ("multilabel", "0123")):
        z, y = shaped(task)
        answers = decide(z, task, None)
        found = answer_figures(answers, y, task, np.ones(len(y)))
        theirs = compute_metrics(
            torch.tensor(z), torch.tensor(y), TaskSpec("t", task, tuple(names))
        )
        assert found["accuracy"] == pytest.approx(theirs["accuracy"])
        if task == "binary":
            assert found["f1"] == pytest.approx(theirs["f1"])


def test_undefined_figures_are_nan():
    found = answer_figures(np.array([0]), np.array([0]), "binary", np.ones(1))
    assert found["accuracy"] == 1 and math.isnan(found["recall"])


def test_thresholds_per_label():
    assert decide(np.zeros((1, 2)), "multilabel", (0.4, 0.6)).tolist() == [[1, 0]]


def test_errors():
    with pytest.raises(ValueError, match="no labelled clip is positive"):
        best_cut([0.5], [False])
    with pytest.raises(ValueError, match=r"no threshold reaches a precision of 0.9 .*best 0\.5"):
        best_cut([0.5, 0.5], [True, False], precision=0.9)
