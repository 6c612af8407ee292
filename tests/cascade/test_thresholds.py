import itertools
import math

import numpy as np
import pytest

from coefvq.cascade.cost import Cost
from coefvq.cascade.thresholds import by_budget, by_cost

EASY = Cost(1.0, 10.0)


def test_budget_is_the_quantile():
    u = np.random.default_rng(0).permutation(1000) / 1000
    for budget in (0.01, 0.025, 0.05, 0.1, 0.4, 0.999):
        assert (u >= by_budget(u, budget)).mean() == pytest.approx(budget)


def test_budget_0_defers_nothing_and_1_everything_even_on_other_clips():
    u = [0.1, 0.2]
    other = np.array([-1e300, 0.0, 1e300])
    assert not (other >= by_budget(u, 0)).any() and not (other >= by_budget(u, 0.0)).any()
    assert (other >= by_budget(u, 1)).all() and (other >= by_budget(u, 1.0)).all()


@pytest.mark.parametrize("levels", [1, 2, 3, 7])
def test_ties_never_exceed_the_budget(levels):
    u = np.random.default_rng(1).integers(0, levels, 200).astype(float)
    for budget in np.linspace(0, 1, 41):
        routes = u >= by_budget(u, float(budget))
        assert routes.mean() <= budget + 1e-12
        lower = u[~routes]
        if len(lower):  # and no further level would have fitted
            assert routes.mean() + (u == lower.max()).mean() > budget - 1e-12


def test_neighbouring_numbers_are_told_apart():
    u = np.array([1.0, np.nextafter(1.0, 2.0)])
    assert (u >= by_budget(u, 0.5)).tolist() == [False, True]


def test_a_budget_of_less_than_a_clip():
    tau = by_budget([0.1, 0.5], 0.1)
    assert tau > 0.5 and tau == pytest.approx(0.5)


def test_more_budget_never_keeps_a_deferred_clip():
    u = np.random.default_rng(2).standard_normal(77).round(1)
    taus = [by_budget(u, b) for b in np.linspace(0, 1, 101)]
    assert all(a >= b for a, b in itertools.pairwise(taus))


def test_a_weight_of_three_is_the_clip_three_times():
    u = np.arange(10.0)
    weight = np.array([1, 1, 1, 1, 1, 1, 1, 1, 1, 3.0])
    repeated = np.repeat(u, weight.astype(int))
    for budget in (0.1, 0.25, 0.3, 0.5):
        assert by_budget(u, budget, sample_weight=weight) == by_budget(repeated, budget)


def test_cost_is_the_smallest_of_all_thresholds():
    draw = np.random.default_rng(3)
    for _ in range(30):
        u = draw.integers(0, 12, 40) / 10
        kept, asked = draw.random(40) * 30, draw.random(40) * 10
        found = by_cost(u, kept, asked, EASY)

        def mean(tau, u=u, kept=kept, asked=asked):
            return np.where(u >= tau, asked + EASY.second, kept).mean()

        assert mean(found) == pytest.approx(min(mean(t) for t in [*np.unique(u), math.inf]))


def test_cost_at_its_ends():
    u, zero = np.arange(5.0), np.zeros(5)
    assert by_cost(u, zero, zero, EASY) == math.inf  # nothing to gain
    assert by_cost(u, zero + 99, zero, EASY) == -math.inf
    # Gain 10 at a price of 10: equal, and the one that defers least.
    assert by_cost(u, zero + 10, zero, EASY) == math.inf


def test_a_dearer_miss_defers_more():
    draw = np.random.default_rng(4)
    u = draw.random(300)
    wrong = (draw.random(300) < u * 0.5).astype(float)
    shares = [
        (u >= by_cost(u, price * wrong, np.zeros(300), EASY)).mean() for price in (1, 20, 40, 200)
    ]
    assert shares == sorted(shares) and shares[0] < shares[-1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: by_budget([0.1], 1.5), "budget must be a share from 0 to 1"),
        (lambda: by_budget([0.1], -0.1), "budget must be a share from 0 to 1"),
        (lambda: by_budget([0.1, np.nan], 0.5), "uncertainty is NaN at row 1"),
        (lambda: by_budget([[0.1]], 0.5), r"uncertainty must have shape \(N,\)"),
        (lambda: by_budget([], 0.5), "no clip to choose"),
        (lambda: by_cost([], [], [], EASY), "no clip to choose"),
        (lambda: by_cost([0.1], [0.0, 1.0], [0.0], EASY), r"kept_loss must have shape \(1,\)"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
