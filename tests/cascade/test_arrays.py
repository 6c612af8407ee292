import numpy as np
import pytest
import torch

from coefvq.cascade import arrays


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_tensors_and_lists_become_float64(dtype):
    given = torch.tensor([0.5, -2.0], dtype=dtype, requires_grad=True)
    for values in (given, [0.5, -2.0], np.array([0.5, -2.0], dtype=np.float32)):
        found = arrays.check_logits(values, "binary")
        assert found.dtype == np.float64 and found.tolist() == [0.5, -2.0]


def test_sigmoid_and_softmax_of_huge_logits():
    assert arrays.sigmoid(np.array([-1e4, 0.0, 1e4, np.inf, -np.inf])).tolist() == [0, 0.5, 1, 1, 0]
    assert arrays.softmax(np.array([[-1e4, 1e4, -np.inf]])).tolist() == [[0, 1, 0]]
    # 1 / (1 + e²) and its mirror
    assert arrays.sigmoid(np.array([-2.0]))[0] == pytest.approx(1 / (1 + np.exp(2)), rel=1e-15)


def test_log_odds_is_the_inverse_of_sigmoid():
    z = np.linspace(-20, 15, 71)
    np.testing.assert_allclose(arrays.log_odds(arrays.sigmoid(z)), z, rtol=1e-7, atol=1e-12)
    assert arrays.log_odds(np.array([0.0, 1.0])).tolist() == [-np.inf, np.inf]


@pytest.mark.parametrize(
    ("logits", "task", "message"),
    [
        ([[0.0]], "binary", r"logits of shape \(1, 1\) do not fit a binary task"),
        ([0.0], "multiclass", r"expects \(N, C\)"),
        ([[0.0]], "multiclass", r"expects \(N, C\)"),
        ([0.0], "multilabel", r"expects \(N, L\)"),
        ([0.0, np.nan], "binary", "1 of 2 clips are NaN .* row 1"),
        ([[0.0, np.inf]], "multiclass", "leave no class possible"),
        ([[-np.inf, -np.inf]], "multiclass", "leave no class possible"),
        ([0.0], "regression", "a regression has no probability"),
        ([0.0], "ranking", "got 'ranking'"),
        ("word", "binary", "must be numbers"),
        ([[1.0], [1.0, 2.0]], "multilabel", "must be numbers"),
    ],
)
def test_logits_that_are_refused(logits, task, message):
    with pytest.raises(ValueError, match=message):
        arrays.check_logits(logits, task)


def test_another_width_is_refused():
    with pytest.raises(ValueError, match=r"expects \(N, 5\)"):
        arrays.check_logits(np.zeros((2, 3)), "multilabel", outputs=5)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "labels are missing"),
        ([0, 1, 1], r"labels of shape \(3,\)"),
        ([0, 2], "label 2.0 at row 1 .* from 0 to 1"),
        ([0.5, 1], "label 0.5 at row 0"),
        ([np.nan, 1], "label nan at row 0"),
    ],
)
def test_labels_that_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        arrays.check_labels(labels, np.zeros(2), "binary")


@pytest.mark.parametrize("weight", [[1.0], [1.0, -1.0], [1.0, np.nan], [1.0, np.inf], [0.0, 0.0]])
def test_weights_that_are_refused(weight):
    with pytest.raises(ValueError, match="sample_weight"):
        arrays.check_weight(weight, 2)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), "0.1", None])
def test_shares_that_are_refused(value):
    with pytest.raises(ValueError, match="budget must be a share from 0 to 1"):
        arrays.check_share("budget", value, ends=True)


def test_a_percentage_is_explained():
    with pytest.raises(ValueError, match=r"for 10 % write 0\.1"):
        arrays.check_share("budget", 10, ends=True)


def test_columns_and_flags():
    with pytest.raises(ValueError, match=r"must have shape \(2,\)"):
        arrays.check_column([1.0], "uncertainty", 2)
    with pytest.raises(ValueError, match="NaN at row 1"):
        arrays.check_column([1.0, np.nan], "uncertainty")
    with pytest.raises(ValueError, match="true and false"):
        arrays.check_flags([0.0, 0.5], "routes", 2)
    assert arrays.check_flags(torch.tensor([True, False]), "routes", 2).tolist() == [True, False]
