import json

import numpy as np
import pytest

from coefvq.cascade.calibrators import (
    Affine,
    Isotonic,
    Matrix,
    calibrator_from_dict,
    no_calibration,
    prior_shift,
    shift_of_prior,
    temperature,
)

EVERY = [
    (no_calibration(), 0),
    (temperature(2.5), 0),
    (Affine("affine", (0.7,), (-3.1,)), 0),
    (Isotonic(((-1.0, 0.3, 2.0),), ((-4.0, -1.0, 1.7),)), 0),
    (temperature(2.5, 1.0, 0.3), 3),
    (Affine("vector", (0.7, 1.1, 2.0), (0.1, -0.2, 0.1)), 3),
    (Matrix(((1.0, 0.1, 0.0), (0.2, 0.9, 0.0), (0.0, 0.3, 1.1)), (0.1, 0.0, -0.1)), 3),
    (Isotonic(((-1.0, 0.3), (0.0, 1.0), (0.5,)), ((-1.0, 1.0), (0.0, 0.0), (2.0,))), 3),
]


def given(width, n=60):
    z = 4 * np.random.default_rng(0).standard_normal((n, max(width, 1)))
    return z if width else z[:, 0]


@pytest.mark.parametrize(("calibrator", "width"), EVERY)
def test_plain_values_are_the_way_back_to_the_bit(calibrator, width):
    again = calibrator_from_dict(json.loads(json.dumps(calibrator.to_dict())))
    assert again == calibrator
    np.testing.assert_array_equal(again(given(width)), calibrator(given(width)))


@pytest.mark.parametrize(("calibrator", "width"), EVERY)
def test_a_clip_alone_has_what_it_has_in_a_batch(calibrator, width):
    z = given(width)
    alone = np.concatenate([calibrator(z[i : i + 1]) for i in range(len(z))])
    np.testing.assert_array_equal(alone, calibrator(z))


@pytest.mark.parametrize(("calibrator", "width"), EVERY)
def test_shifted_adds_a_bias(calibrator, width):
    bias = [0.5, -1.0, 2.0][: max(width, 1)]
    made = calibrator.shifted(bias)(given(width))
    np.testing.assert_allclose(made, calibrator(given(width)) + (bias if width else bias[0]))


def test_none_changes_no_bit():
    z = given(0)
    np.testing.assert_array_equal(no_calibration()(z), z)


def test_matrix_is_a_matrix_product():
    matrix = EVERY[6][0]
    slow = given(3) @ np.array(matrix.weights).T + np.array(matrix.bias)
    np.testing.assert_allclose(matrix(given(3)), slow)


def test_prior_shift_is_bayes_rule():
    # Balanced posterior 0.7 means a likelihood ratio of 7/3; at 2 %: odds 7/3 · 2/98.
    made = prior_shift([np.log(7 / 3)], "binary", 0.5, 0.02)
    assert np.exp(made[0]) == pytest.approx(7 / 3 * 2 / 98)
    p, old, new = np.array([0.2, 0.5, 0.3]), np.array([0.3, 0.3, 0.4]), np.array([0.8, 0.1, 0.1])
    made = np.exp(prior_shift([np.log(p)], "multiclass", old, new)[0])
    np.testing.assert_allclose(made / made.sum(), p / old * new / (p / old * new).sum())
    made = prior_shift([[0.0, 0.0]], "multilabel", [0.5, 0.5], [0.2, 0.5])
    np.testing.assert_allclose(np.exp(made[0]), [0.25, 1.0])
    made = prior_shift([[0.0, 0.0]], "multilabel", 0.5, 0.2)
    np.testing.assert_allclose(np.exp(made[0]), [0.25, 0.25])


def test_the_same_prevalence_changes_nothing():
    np.testing.assert_array_equal(prior_shift(given(0), "binary", 0.1, 0.1), given(0))


def test_masked_classes_stay_masked():
    assert Affine("vector", (2.0, 1.0), (1.0, 0.0))([[-np.inf, 1.0]]).tolist() == [[-np.inf, 1.0]]
    with pytest.raises(ValueError, match="cannot take masked"):
        Matrix(((1.0, 0.0), (0.0, 1.0)), (0.0, 0.0))([[-np.inf, 1.0]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: temperature(0.0), "above 0"),
        (lambda: temperature(), "above 0"),
        (lambda: Affine("affine", (-1.0,), (0.0,)), "above 0"),
        (lambda: Affine("affine", (1.0,), (np.nan,)), "biases are finite"),
        (lambda: Affine("affine", (1.0,), (0.0, 1.0)), "as many as scales"),
        (lambda: Matrix(((1.0,),), (0.0, 1.0)), "2 rows of 2"),
        (lambda: Isotonic(((1.0, 0.0),), ((0.0, 1.0),)), "knots that rise"),
        (lambda: Isotonic(((0.0, 1.0),), ((1.0, 0.0),)), "don't fall"),
        (lambda: calibrator_from_dict({"kind": "beta"}), "'beta' is unknown"),
        (lambda: shift_of_prior("binary", 0.5, 0.0), "serving_prevalence must be one share"),
        (lambda: shift_of_prior("binary", [0.5, 0.5], 0.1), "train_prevalence must be one share"),
        (lambda: shift_of_prior("multiclass", [0.5, 0.6], [0.5, 0.5]), "summing to 1"),
        (lambda: Affine("vector", (1.0, 1.0), (0.0, 0.0))(np.zeros((2, 3))), "of 2 columns"),
        (lambda: Affine("vector", (1.0, 1.0), (0.0, 0.0)).shifted([1.0] * 3), "2 numbers for 3"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
