import numpy as np
import pytest
from scipy.stats import binomtest

from coefvq.cascade.effective import effective_clips, weighted_interval
from coefvq.evaluation.intervals import wilson


def test_equal_weights_are_worth_what_they_count_and_give_wilsons_interval():
    for hits, n in ((0, 30), (1, 4), (7, 50), (50, 50)):
        values = np.arange(n) < hits
        weight = np.full(n, 3.0)
        assert effective_clips(weight, values.astype(float)) == pytest.approx(n)
        theirs = binomtest(hits, n).proportion_ci(method="wilson")
        assert wilson(hits / n, n, 0.95) == pytest.approx((theirs.low, theirs.high))
        found = weighted_interval(weight, values.astype(float), 0.95)
        assert found == pytest.approx((theirs.low, theirs.high))


def test_heavy_clips_that_differ_count_for_less_and_never_for_more():
    weight = np.r_[np.full(10, 10.0), np.ones(100)]
    kish = 200**2 / (10 * 100 + 100)
    hit = np.arange(110) < 2  # both among the heavy ones
    # p = 20/200; variance by hand: 2·100·.9² + 8·100·.1² + 100·.1² = 171, over 200².
    assert effective_clips(weight, hit.astype(float)) == pytest.approx(0.09 * 200**2 / 171)
    light = np.arange(110) >= 100
    assert effective_clips(weight, light.astype(float)) == pytest.approx(kish)
    # Without any the weights alone speak.
    assert effective_clips(weight, np.zeros(110)) == pytest.approx(kish)


def test_the_upper_end_knows_what_one_more_heavy_clip_would_do():
    weight = np.r_[np.full(10, 10.0), np.ones(100)]
    values = (np.arange(110) >= 108).astype(float)
    low, high = weighted_interval(weight, values, 0.95)
    plain = wilson(2 / 200, effective_clips(weight, values), 0.95)
    assert low == pytest.approx(plain[0]) and high > 1.2 * plain[1]
    wider = weighted_interval(weight, values, 0.95, unseen=0.05)
    assert wider[0] < low and wider[1] > high
