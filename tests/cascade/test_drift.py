import numpy as np
import pytest
from scipy.stats import beta, fisher_exact

from coefvq.cascade.drift import RateWatch, rate_drift
from coefvq.cascade.fitting import fit_policy
from coefvq.cascade.thresholds import by_budget


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
    ("k", "n", "x", "m"), [(50, 500, 1400, 9999), (3, 30, 0, 20), (0, 9, 3, 4)]
)
def test_with_calibration_clips_it_is_fishers_test(k, n, x, m):
    table = [[x, m - x], [k, n - k]]
    tails = [fisher_exact(table, alternative=a).pvalue for a in ("less", "greater")]
    found = rate_drift(x, m, k / n if k else 1e-9, calibration=n)
    assert found.p_value == pytest.approx(min(1, 2 * min(tails))) and found.calibration == n


WINDOWS = [(150, 1000), (150, 20_000), (500, 1000), (500, 10_000), (500, 50_000)]


def fitted(draw, clips):
    """A budget of 10 % on clips whose uncertainty is uniform: the true share is 1 − threshold."""
    u = draw.random(clips)
    threshold = by_budget(u, 0.1)
    return 1 - threshold, float((u >= threshold).mean())


@pytest.mark.parametrize(("clips", "window"), WINDOWS)
def test_unchanged_traffic_is_flagged_as_rarely_as_asked(clips, window):
    """The share of few calibration clips is not the traffic's; taken as exact, windows find that.

    The nominal level and 3 σ of 1 000 fits on top.
    """
    draw, rounds, level = np.random.default_rng(clips + window), 1000, 0.01
    alarms = exact = 0
    for _ in range(rounds):
        true, share = fitted(draw, clips)
        deferred = int(draw.binomial(window, true))
        alarms += rate_drift(deferred, window, share, calibration=clips, level=level).drifted
        exact += rate_drift(deferred, window, share, level=level).drifted
    assert alarms <= rounds * level + 3 * np.sqrt(rounds * level * (1 - level))
    assert exact > (2 if window == 1000 and clips == 500 else 4) * rounds * level


def test_fitted_calibrators_do_not_spoil_it(rare):
    """End to end: affine calibrators, a budget and its share from the same 400 clips."""
    far, level, alarms = rare(40_000, prevalence=0.2, seed=999), 0.05, 0
    for seed in range(100):
        c = rare(400, prevalence=0.2, seed=seed)
        policy = fit_policy(c.light, c.heavy, c.labels, task="binary", budget=0.1)
        assert policy.expected["clips"] == 400
        deferred = int(policy.decide(far.light).routes.sum())
        share = policy.expected["deferred"]
        found = rate_drift(deferred, 40_000, share, calibration=400, level=level)
        alarms += found.drifted
    assert alarms <= 100 * level + 3 * np.sqrt(100 * level * (1 - level))


@pytest.mark.parametrize(("clips", "window"), [(500, 1000), (500, 10_000), (2000, 1000)])
def test_a_doubled_share_is_still_found(clips, window):
    draw = np.random.default_rng(3)
    found = noticed = 0
    for _ in range(100):
        true, share = fitted(draw, clips)
        went = draw.random(max(window, 5000)) < true + 0.1
        deferred = int(went[:window].sum())
        found += rate_drift(deferred, window, share, calibration=clips).drifted
        watch = RateWatch(share, calibration=clips).update(went)
        noticed += watch.direction == "up"
    assert found >= 97 and noticed >= 95


@pytest.mark.parametrize("clips", [150, 500])
def test_a_watch_of_few_calibration_clips_stays_calm(clips):
    """One false alarm is allowed per 20 000 clips; in windows of 10 000 at most .39 of watches."""
    draw, alarms, exact = np.random.default_rng(4), 0, 0
    for _ in range(150):
        true, share = fitted(draw, clips)
        went = draw.random(10_000) < true
        words = {"false_alarm_every": 20_000}
        alarms += RateWatch(share, calibration=clips, **words).update(went).alarm is not None
        exact += RateWatch(share, **words).update(went).alarm is not None
    assert alarms <= 150 * 0.05 and exact > 150 * 0.2


def test_what_a_watch_tolerates_are_exact_limits():
    low, high = RateWatch(0.1, calibration=150).tolerated
    assert low == pytest.approx(beta.ppf(0.005, 15, 136))
    assert high == pytest.approx(beta.ppf(0.995, 16, 135))
    assert RateWatch(0.1).tolerated == (0.1, 0.1)
    # 0 of 9 clips were deferred: no rate is too low.
    nothing = RateWatch(0.01, calibration=9).update(np.zeros(10_000))
    assert nothing.alarm is None and nothing.tolerated[0] == 0 and nothing.down == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rate_drift(5, 4, 0.1), "0 <= deferred <= clips"),
        (lambda: rate_drift(1, 4, 0.0), "expected must be a share between"),
        (lambda: rate_drift(1, 4, 0.1, calibration=-3), "calibration is a number of clips, or 0"),
        (lambda: RateWatch(1.0), "expected must be a share between"),
        (lambda: RateWatch(0.1, ratio=1.0), "ratio must be above 1"),
        (lambda: RateWatch(0.1, calibration=2.5), "calibration is a number of clips"),
        (lambda: RateWatch(0.1).update([0.5]), "true and false"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
