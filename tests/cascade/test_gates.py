import math

import numpy as np
import pytest

from coefvq.cascade import gates

EVERY = [
    ("binary", lambda z: gates.entropy(z, "binary")),
    ("binary", lambda z: gates.band(z, "binary", low=0.1, high=0.8)),
    ("multiclass", lambda z: gates.entropy(z, "multiclass")),
    ("multiclass", lambda z: gates.top_p_risk(z, "multiclass", p=2)),
    ("multiclass", lambda z: gates.margin(z, "multiclass")),
    ("multilabel", lambda z: gates.entropy(z, "multilabel")),
    ("multilabel", lambda z: gates.entropy(z, "multilabel", over="sum")),
    ("multilabel", lambda z: gates.band(z, "multilabel", low=0.1)),
]


def slow_entropy(p):
    return -sum(v * math.log(v) for v in p if v > 0)


def test_closed_forms():
    # uniform over 4: log 4; p = (0.8, 0.2): 0.8·log 1.25 + 0.2·log 5 = 0.5004
    assert gates.entropy(np.zeros((1, 4)), "multiclass")[0] == pytest.approx(math.log(4))
    assert gates.entropy([math.log(4)], "binary")[0] == pytest.approx(0.500402, abs=1e-6)
    assert gates.entropy([[math.log(4), 0.0]], "multiclass")[0] == pytest.approx(0.500402, abs=1e-6)
    # p = (0.5, 0.3, 0.2): risk 0.5 and 0.2, margin 1 − 0.2
    z = np.log([[0.3, 0.5, 0.2]])
    assert gates.top_p_risk(z, "multiclass")[0] == pytest.approx(0.5)
    assert gates.top_p_risk(z, "multiclass", p=2)[0] == pytest.approx(0.2)
    assert gates.margin(z, "multiclass")[0] == pytest.approx(0.8)


def test_entropy_equals_plain_loops():
    z = 3 * np.random.default_rng(0).standard_normal((50, 5))
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    slow = [slow_entropy(row) for row in p.tolist()]
    np.testing.assert_allclose(gates.entropy(z, "multiclass"), slow, rtol=1e-12)
    q = 1 / (1 + np.exp(-z))
    slow = np.array([[slow_entropy((v, 1 - v)) for v in row] for row in q.tolist()])
    np.testing.assert_allclose(gates.entropy(z, "multilabel"), slow.max(1), rtol=1e-9)
    np.testing.assert_allclose(gates.entropy(z, "multilabel", over="sum"), slow.sum(1), rtol=1e-9)


def test_two_classes_are_the_binary_task():
    z = np.linspace(-30, 30, 121)
    two = np.stack([np.zeros_like(z), z], axis=1)
    np.testing.assert_allclose(
        gates.entropy(two, "multiclass"), gates.entropy(z, "binary"), rtol=1e-12
    )


@pytest.mark.parametrize(("task", "gate"), EVERY)
def test_huge_and_masked_logits_stay_finite(task, gate):
    rows = [[1e4, -1e4, 0.0], [1e4, 1e4, -1e4], [-np.inf, 0.0, 1.0], [-1e4, -1e4, -1e4]]
    if task != "multiclass":
        rows.append([np.inf, -np.inf, np.inf])
    z = np.array(rows)
    for given in z.T if task == "binary" else [z]:
        assert np.isfinite(gate(given)).all()


def test_certain_clips_keep_their_order():
    z = np.array([20.0, 60.0, 100.0, 500.0])
    assert (np.diff(gates.entropy(z, "binary")) < 0).all()
    wide = np.stack([z, np.zeros(4), np.zeros(4)], axis=1)
    for gate in (gates.entropy, gates.top_p_risk, gates.margin):
        assert (np.diff(gate(wide, "multiclass")) < 0).all()


def test_a_masked_class_is_no_class():
    z = np.random.default_rng(1).standard_normal((9, 3))
    more = np.concatenate([z, np.full((9, 1), -np.inf)], axis=1)
    for gate in (gates.entropy, gates.margin, gates.top_p_risk):
        np.testing.assert_array_equal(gate(more, "multiclass"), gate(z, "multiclass"))


def test_binary_entropy_margin_and_largest_probability_are_one_order():
    z = 4 * np.random.default_rng(2).standard_normal(500)
    p = 1 / (1 + np.exp(-z))
    order = np.argsort(gates.entropy(z, "binary"))
    for other in (1 - np.maximum(p, 1 - p), 1 - np.abs(2 * p - 1)):
        np.testing.assert_array_equal(order, np.argsort(other))


@pytest.mark.parametrize(("task", "gate"), EVERY)
def test_a_clip_alone_has_what_it_has_in_a_batch(task, gate):
    z = 5 * np.random.default_rng(3).standard_normal((301, 7))
    z = z[:, 0].copy() if task == "binary" else z
    together = gate(z)
    for size in (1, 2, 3, 8, 17):
        for start in range(0, 301 - size, 29):
            np.testing.assert_array_equal(gate(z[start : start + size]), together[start:][:size])


def test_order_of_classes_and_a_constant_do_not_matter():
    z = 3 * np.random.default_rng(4).standard_normal((40, 6))
    shuffled = z[:, [3, 1, 5, 0, 2, 4]]
    np.testing.assert_array_equal(
        gates.entropy(z, "multiclass"), gates.entropy(shuffled, "multiclass")
    )
    np.testing.assert_allclose(
        gates.entropy(z + 7, "multiclass"), gates.entropy(z, "multiclass"), rtol=1e-9
    )


def test_band_is_inside_at_zero():
    p = np.array([0.05, 0.2, 0.5, 0.9, 0.95])
    inside = gates.band(np.log(p / (1 - p)), "binary", low=0.1, high=0.92) >= 0
    assert inside.tolist() == [False, True, True, True, False]
    floor = gates.band([-3.0, 5.0, 1e4], "binary", low=0.5)
    assert floor.tolist() == [-3.0, 5.0, 1e4]  # logit(0.5) = 0 and no upper end


def test_disagreement():
    same = np.random.default_rng(5).standard_normal((1, 20))
    assert gates.disagreement(np.repeat(same, 3, 0), "binary").max() < 1e-12
    # Two models certain of opposite answers: log 2.
    assert gates.disagreement([[1e4], [-1e4]], "binary")[0] == pytest.approx(math.log(2))
    three = np.array([[[9.0, 0, 0]], [[0, 9.0, 0]], [[0, 0, 9.0]]])
    assert gates.disagreement(three, "multiclass", measure="vote")[0] == pytest.approx(2 / 3)
    # p = 0.9 and 0.5: H(0.7) − (H(0.9) + H(0.5)) / 2 = 0.610864 − 0.509115
    found = gates.disagreement([[math.log(9)], [0.0]], "binary")[0]
    assert found == pytest.approx(0.101749, abs=1e-6)
    two = np.stack([[[0.0, math.log(9)]], [[0.0, 0.0]]])
    assert gates.disagreement(two, "multiclass")[0] == pytest.approx(found)
    labels = np.stack([[[math.log(9), 0.0]], [[0.0, 0.0]]])
    assert gates.disagreement(labels, "multilabel", over="sum")[0] == pytest.approx(found)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gates.margin([0.0], "binary"), "one and the same order, so use entropy"),
        (lambda: gates.top_p_risk([[0.0]], "multilabel"), "so use entropy"),
        (lambda: gates.top_p_risk([[0.0, 1.0]], "multiclass", p=2), "from 1 to 1 for 2 classes"),
        (lambda: gates.top_p_risk([[0.0, 1.0]], "multiclass", p=0.9), "number of top classes"),
        (lambda: gates.band([[0.0, 1.0]], "multiclass", low=0.1), "has no yes"),
        (lambda: gates.band([0.0], "binary"), "at least one end inside"),
        (lambda: gates.band([0.0], "binary", low=0.6, high=0.2), "low=0.6"),
        (lambda: gates.entropy([[0.0]], "multilabel", over="mean"), "max or sum, got 'mean'"),
        (lambda: gates.disagreement([[0.0]], "binary"), "at least two light models"),
        (lambda: gates.disagreement([[0.0]] * 2, "binary", measure="kl"), "js or vote"),
        (lambda: gates.entropy([np.nan], "binary"), "NaN"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
