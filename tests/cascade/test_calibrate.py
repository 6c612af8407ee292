import sys

import numpy as np
import pytest
import torch

from coefvq.cascade.arrays import sigmoid, softmax
from coefvq.cascade.calibrate import fit_calibrator
from coefvq.evaluation.calibration import fit_temperature
from coefvq.evaluation.operating_point import choose_operating_point
from coefvq.types import TaskSpec


def test_affine_is_the_librarys_platt(shaped):
    z, y = shaped("binary", n=500)
    point = choose_operating_point(torch.tensor(2 * z + 1), torch.tensor(y), 0.8)
    found = fit_calibrator("affine", 2 * z + 1, y, task="binary")
    assert (found.scale[0], found.bias[0]) == (point.scale, point.bias)


def test_temperature_is_the_librarys(shaped):
    for task in ("binary", "multiclass"):
        z, y = shaped(task, n=500)
        spec = TaskSpec("t", task, tuple("abcd"[: 2 if task == "binary" else 4]))
        slow = fit_temperature(torch.tensor(3 * z), torch.tensor(y), spec)
        found = fit_calibrator("temperature", 3 * z, y, task=task)
        assert 1 / found.scale[0] == pytest.approx(slow) and found.bias == (0.0,)


@pytest.mark.parametrize("kind", ["affine", "temperature"])
def test_weights_of_one_are_no_weights(kind, shaped):
    z, y = shaped("binary", n=500)
    plain = fit_calibrator(kind, 3 * z, y, task="binary")
    weighted = fit_calibrator(kind, 3 * z, y, task="binary", sample_weight=np.full(500, 7.0))
    np.testing.assert_allclose(weighted.scale + weighted.bias, plain.scale + plain.bias, atol=1e-4)


def test_weighted_affine_equals_scikit_learn(shaped):
    from sklearn.linear_model import LogisticRegression

    z, y = shaped("binary", n=4000)
    weight = np.where(y == 1, 0.1, 1.9)
    found = fit_calibrator("affine", z, y, task="binary", sample_weight=weight)
    slow = LogisticRegression(C=1e8, tol=1e-10).fit(z[:, None], y, sample_weight=weight)
    # Not equal: Platt's soft targets pull by about two counts.
    assert found.scale[0] == pytest.approx(slow.coef_.item(), abs=0.02)
    assert found.bias[0] == pytest.approx(slow.intercept_.item(), abs=0.02)


def test_multilabel_is_one_fit_per_label(shaped):
    z, y = shaped("multilabel", n=400)
    for kind in ("affine", "temperature", "isotonic"):
        found = fit_calibrator(kind, 2 * z, y, task="multilabel")(2 * z)
        for k in range(z.shape[1]):
            alone = fit_calibrator(kind, 2 * z[:, k], y[:, k], task="binary")(2 * z[:, k])
            np.testing.assert_array_equal(found[:, k], alone)


def test_vector_and_matrix_find_what_was_done_to_the_logits(shaped):
    z, y = shaped("multiclass", n=6000)
    bent = z * np.array([2.0, 1.0, 0.5, 1.5]) + np.array([1.0, -1.0, 0.0, 2.0])
    vector = fit_calibrator("vector", bent, y, task="multiclass", penalty=0.0)
    np.testing.assert_allclose(vector.scale, [0.5, 1.0, 2.0, 1 / 1.5], rtol=0.15)
    mix = np.eye(4) + 0.4 * np.eye(4)[[1, 2, 3, 0]]
    matrix = fit_calibrator("matrix", z @ mix, y, task="multiclass")
    truth = softmax(z)
    errors = {
        name: np.abs(softmax(made) - truth).mean()
        for name, made in (("raw", z @ mix), ("matrix", matrix(z @ mix)))
    }
    assert errors["matrix"] < 0.25 * errors["raw"]


def test_matrix_equals_scikit_learn(shaped):
    from sklearn.linear_model import LogisticRegression

    z, y = shaped("multiclass", n=1500)
    found = fit_calibrator("matrix", z, y, task="multiclass", penalty=0.0)
    slow = LogisticRegression(C=1e8, tol=1e-9, max_iter=5000).fit(z, y)
    np.testing.assert_allclose(softmax(found(z)), slow.predict_proba(z), atol=2e-3)


def test_isotonic_equals_scikit_learn_inside_its_ends(shaped):
    from sklearn.isotonic import IsotonicRegression

    z, y = shaped("binary", n=800)
    found = fit_calibrator("isotonic", z, y, task="binary")
    slow = IsotonicRegression(out_of_bounds="clip").fit(z, y).predict(z)
    at_knots = np.isin(z, found.knots[0])
    inside = at_knots & (slow > 0.01) & (slow < 0.99)
    np.testing.assert_allclose(sigmoid(found(z))[inside], slow[inside], atol=1e-9)
    up = y.sum()
    assert sigmoid(found(np.array([1e4])))[0] <= (up + 1) / (up + 2)
    assert np.isfinite(found(np.array([-np.inf, np.inf]))).all()


def test_serving_prevalence_moves_the_bias(rare):
    """Calibrated on half positives and moved to 2 %, as good as calibrated at 2 %."""
    half, served = rare(40_000, prevalence=0.5), rare(200_000, seed=1)
    moved = fit_calibrator(
        "affine", half.light, half.labels, task="binary", serving_prevalence=0.02
    )
    p = sigmoid(moved(served.light))
    assert p.mean() == pytest.approx(served.labels.mean(), rel=0.05)
    left = sigmoid(fit_calibrator("affine", half.light, half.labels, task="binary")(served.light))
    assert left.mean() > 5 * served.labels.mean()


def test_prior_shift_needs_no_labels(rare):
    served = rare(100_000)
    shift = fit_calibrator(
        "prior_shift", served.light, None, task="binary", train_prevalence=0.5,
        serving_prevalence=0.02,
    )  # fmt: skip
    assert sigmoid(shift(served.light)).mean() == pytest.approx(served.labels.mean(), rel=0.05)


def test_scikit_learn_is_only_needed_for_isotonic(monkeypatch, shaped):
    z, y = shaped("binary")
    monkeypatch.setitem(sys.modules, "sklearn.isotonic", None)
    fit_calibrator("affine", z, y, task="binary")
    with pytest.raises(ValueError, match=r"coefvq\[cascade\]"):
        fit_calibrator("isotonic", z, y, task="binary")


@pytest.mark.parametrize(
    ("kind", "task", "logits", "labels", "message"),
    [
        ("beta", "binary", [0.0, 1.0], [0, 1], "calibrator must be one of"),
        ("vector", "binary", [0.0, 1.0], [0, 1], "use affine, isotonic or temperature"),
        ("affine", "multiclass", [[0.0, 1.0]], [0], "use vector, matrix or temperature"),
        ("affine", "binary", [0.0, 1.0], None, "labels are missing"),
        ("affine", "binary", [0.0, 1.0], [1, 1], "2 of 2 labelled clips are positive"),
        ("affine", "multilabel", [[0.0, 1.0], [1.0, 1.0]], [[0, 1], [1, 1]], "for label 1"),
        ("affine", "binary", [0.0, np.inf], [0, 1], "finite logits"),
        ("temperature", "multiclass", [[0.0, 1.0]] * 2, [1, 1], "the same class"),
        ("affine", "binary", np.zeros(0), np.zeros(0), "no labelled clip"),
        ("prior_shift", "binary", [0.0], None, "needs train_prevalence and serving_prevalence"),
    ],
)
def test_errors(kind, task, logits, labels, message):
    with pytest.raises(ValueError, match=message):
        fit_calibrator(kind, logits, labels, task=task)
