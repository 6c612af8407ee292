import numpy as np
import pytest
from scipy.stats import binomtest

from coefvq.cascade.monitor import RateWatch, miss_rate, rate_drift, recall_from_audit


def test_equal_probabilities_are_a_plain_share():
    found = miss_rate([1, 0, 0, 0], [0.5] * 4)
    assert (found.rate, found.total, found.kept, found.effective) == (0.25, 2.0, 8.0, 4.0)
    theirs = binomtest(1, 4).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))


def audits(n, rounds, seed=0):
    """Kept traffic where suspicious clips are audited more often and missed more often."""
    draw = np.random.default_rng(seed)
    for _ in range(rounds):
        risk = draw.random(n)
        missed = draw.random(n) < 0.06 * risk**2
        chance = 0.05 + 0.25 * risk
        taken = draw.random(n) < chance
        yield missed, chance, taken


def test_weighting_undoes_that_suspicious_clips_are_audited_more():
    weighted, plain, totals, truth = [], [], [], []
    covered = 0
    for missed, chance, taken in audits(20_000, 200):
        found = miss_rate(missed[taken], chance[taken])
        weighted.append(found.rate)
        totals.append(found.total - missed.sum())
        plain.append(missed[taken].mean())
        truth.append(missed.mean())
        covered += found.low <= 0.02 <= found.high
    assert np.mean(weighted) == pytest.approx(0.02, rel=0.03)
    assert abs(np.mean(totals)) < 12  # of 400
    assert np.mean(plain) > 1.3 * np.mean(truth)
    assert 0.92 <= covered / 200 <= 1


def test_no_miss_is_not_no_doubt():
    found = miss_rate(np.zeros(200), np.full(200, 0.1))
    assert found.rate == found.low == 0 and 0.015 < found.high < 0.025


def test_recall_from_an_audit():
    # 1 % of 1000 kept clips missed: 10; found 90
    found = miss_rate([1] + [0] * 99, [0.1] * 100)
    recall, low, high = recall_from_audit(found, 90)
    assert recall == pytest.approx(0.9) and low < recall < high
    assert np.isnan(recall_from_audit(miss_rate([0], [1.0]), 0)[0])


@pytest.mark.parametrize(
    ("k", "n", "p"), [(10, 100, 0.1), (40, 100, 0.1), (0, 50, 0.2), (7, 9, 0.5)]
)
def test_drift_is_the_exact_test(k, n, p):
    from scipy.stats import binom

    slow = min(1, 2 * min(binom.cdf(k, n, p), binom.sf(k - 1, n, p)))
    found = rate_drift(k, n, p, level=0.01)
    assert found.p_value == pytest.approx(slow) and found.drifted == (slow < 0.01)
    assert found.rate == k / n


def slow_cusum(routes, p, q):
    s, path = 0.0, []
    for went in routes:
        s = max(0.0, s + np.log(q / p if went else (1 - q) / (1 - p)))
        path.append(s)
    return path


def test_the_watch_equals_a_loop_however_it_is_fed():
    routes = np.random.default_rng(0).random(3000) < 0.12
    up, down = slow_cusum(routes, 0.1, 0.15), slow_cusum(routes, 0.1, 0.1 / 1.5)
    whole = RateWatch(0.1).update(routes)
    pieces = RateWatch(0.1)
    for part in np.array_split(routes, 37):
        pieces = pieces.update(part)
    for watch in (whole, pieces):
        assert (watch.up, watch.down) == pytest.approx((up[-1], down[-1]))
        assert watch.clips == 3000
    over = [k + 1 for k, s in enumerate(up) if s >= whole.limit]
    assert whole.alarm == pieces.alarm == (over[0] if over else None)


@pytest.mark.parametrize(("rate", "direction"), [(0.2, "up"), (0.05, "down")])
def test_a_changed_rate_is_found_soon(rate, direction):
    draw = np.random.default_rng(1)
    calm = RateWatch(0.1).update(draw.random(5000) < 0.1)
    assert calm.alarm is None
    moved = calm.update(draw.random(2000) < rate)
    assert moved.direction == direction and 5000 < moved.alarm < 6500
    assert moved.update(draw.random(2000) < 0.1).alarm == moved.alarm  # the first one stays


def test_false_alarms_are_as_rare_as_promised():
    """With one allowed per 2 000 clips, 300 watches of 2 000 clips alarm less than 300 times."""
    draw = np.random.default_rng(2)
    alarms = 0
    for _ in range(300):
        watch = RateWatch(0.1, false_alarm_every=2000).update(draw.random(2000) < 0.1)
        alarms += watch.alarm is not None
    assert 0 < alarms < 300 * (1 - np.exp(-1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: miss_rate([], []), "no audited clip"),
        (lambda: miss_rate([1], [0.0]), r"probability must be in \(0, 1\]"),
        (lambda: miss_rate([1], [0.5, 0.5]), "missed must have shape"),
        (lambda: miss_rate([1], [0.5], confidence=95), "for 95 % write 0.95"),
        (lambda: recall_from_audit(miss_rate([1], [1.0]), -1), "found must be at least 0"),
        (lambda: rate_drift(5, 4, 0.1), "0 <= deferred <= clips"),
        (lambda: rate_drift(1, 4, 0.0), "expected must be a share between"),
        (lambda: RateWatch(1.0), "expected must be a share between"),
        (lambda: RateWatch(0.1, ratio=1.0), "ratio must be above 1"),
        (lambda: RateWatch(0.1).update([0.5]), "true and false"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
