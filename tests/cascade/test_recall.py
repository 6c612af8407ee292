import math

import numpy as np
import pytest
from scipy.stats import beta, binom

from coefvq.cascade.recall import (
    by_expected_recall,
    by_recall,
    check_alike,
    critical_values,
    positives_for_mean,
    positives_needed,
)

CALIBRATIONS = 2000


def test_positives_needed():
    # ln 0.05 / ln 0.95 = 58.4, ln 0.05 / ln 0.98 = 148.3, ln 0.05 / ln 0.99 = 298.1
    assert [positives_needed(r, 0.95) for r in (0.95, 0.98, 0.99)] == [59, 149, 299]
    for recall, confidence in ((0.9, 0.9), (0.95, 0.95), (0.7, 0.99)):
        n = positives_needed(recall, confidence)
        assert recall**n <= 1 - confidence < recall ** (n - 1)


def test_positives_for_a_mean():
    for recall in (0.7, 0.9, 0.95, 0.99):
        n = positives_for_mean(recall)
        assert 1 / (n + 1) <= 1 - recall + 1e-9 and 1 / n > 1 - recall
        assert by_expected_recall(np.arange(n), recall).tolerated == 0
        with pytest.raises(ValueError, match=f"needs at least {n} calibration positives"):
            by_expected_recall(np.arange(n - 1), recall)


def test_clips_that_are_counted_weigh_alike():
    check_alike([], "positive")
    check_alike(0.3 * np.ones(5) * (1 + 1e-12), "positive")
    with pytest.raises(ValueError, match="of the negative clips runs from 0 to 1, and a recall"):
        check_alike([0.0, 1.0], "negative")


def test_critical_values_are_where_a_clip_stops_being_found():
    """Every clip, every threshold, by the words of the module."""
    u = np.array([0.1, 0.5, 0.9])
    for light in (False, True):
        for heavy in (False, True):
            yes = np.full(3, light), np.full(3, heavy)
            for tau in (-math.inf, 0.1, 0.3, 0.5, 0.9, 1.0, math.inf):
                deferred = u >= tau
                caught = np.where(deferred, heavy, light)
                c = critical_values(u, *yes)
                system = (c >= tau) & (c > -math.inf)
                if light and not heavy:
                    assert not system.any()  # never counted, though it may be caught
                else:
                    np.testing.assert_array_equal(system, caught)
                gate = critical_values(u, yes[0], of="gate") >= tau
                np.testing.assert_array_equal(gate, deferred | light)
                kept = critical_values(u, *yes, of="heavy") >= tau
                np.testing.assert_array_equal(kept, caught if heavy else [])


def test_the_floor_is_an_order_statistic():
    c = np.random.default_rng(0).permutation(200) / 200
    floor = by_recall(c, 0.95)
    # The largest k with P(Binomial(200, 0.05) <= k − 1) <= 0.05
    k = max(k for k in range(1, 200) if binom.cdf(k - 1, 200, 0.05) <= 0.05)
    assert floor.threshold == np.sort(c)[k - 1]
    assert (floor.positives, floor.tolerated, floor.missed) == (200, k - 1, k - 1)
    least = np.random.default_rng(0).random(59)
    assert by_recall(least, 0.95).threshold == least.min()


def positives_of(draw, shape, decision=2.5):
    """Uncertainty (a floor on the light score) and both answers of simulated positives."""
    first, other = draw.standard_normal((2, *shape))
    light, heavy = first + 2.03, 0.37 * first + np.sqrt(1 - 0.37**2) * other + 3.21
    return light, light > 4.5, heavy > decision


@pytest.mark.parametrize("of", ["system", "heavy", "gate"])
def test_promised_recall_is_broken_in_at_most_delta_of_2000_calibrations(of):
    draw = np.random.default_rng(7)
    recall, confidence, decision = 0.95, 0.95, 0.3  # the heavy model alone finds 99.8 %
    light, light_yes, heavy_yes = positives_of(draw, (100_000,), decision)
    population = np.sort(critical_values(light, light_yes, heavy_yes, of=of))
    calibrations = positives_of(draw, (CALIBRATIONS, 300), decision)
    broken = actually = 0
    for u, a, b in zip(*calibrations, strict=True):
        tau = by_recall(critical_values(u, a, b, of=of), recall, confidence=confidence).threshold
        true = 1 - np.searchsorted(population, tau) / len(population)
        broken += true < recall
        if of == "system":  # what the system really does, the uncounted case included
            actually += np.where(light >= tau, heavy_yes, light_yes).mean() < recall
    print(f"\nPAC {of}: {broken / CALIBRATIONS:.4f} of {CALIBRATIONS} below {recall}")
    assert broken / CALIBRATIONS <= 1 - confidence
    assert broken > 0.005 * CALIBRATIONS  # and it gives no more away than it must
    assert actually <= broken


def test_expected_recall_equals_its_closed_form():
    draw = np.random.default_rng(8)
    for n, recall in ((19, 0.95), (120, 0.95), (200, 0.9), (333, 0.97)):
        c = draw.random(n)
        floor = by_expected_recall(c, recall)
        # The highest candidate with (missed + 1) / (n + 1) <= 1 − recall, by trying them all.
        good = [t for t in c if ((c < t).sum() + 1) / (n + 1) <= 1 - recall + 1e-12]
        assert floor.threshold == max(good)
        assert floor.missed == floor.tolerated == math.floor((1 - recall) * (n + 1) + 1e-9) - 1


def test_expected_recall_holds_on_average_and_is_exceeded_in_nearly_half():
    n, recall = 200, 0.9
    calibrations = np.random.default_rng(9).random((CALIBRATIONS, n))
    missed = np.array([by_expected_recall(c, recall).threshold for c in calibrations])
    exceeding = (missed > 1 - recall).mean()
    print(f"\nCRC: mean recall {1 - missed.mean():.4f}, {exceeding:.3f} of calibrations below")
    k = math.floor(0.1 * 201)  # the k-th smallest of uniforms is Beta(k, n − k + 1)
    assert missed.mean() == pytest.approx(k / (n + 1), abs=0.002)
    assert exceeding == pytest.approx(beta(k, n - k + 1).sf(1 - recall), abs=0.035)
    assert 0.4 < exceeding < 0.5


@pytest.mark.parametrize("recall", [0.95, 0.98, 0.99])
def test_too_few_positives_are_refused_with_the_number(recall):
    needed = positives_needed(recall, 0.95)
    by_recall(np.arange(needed), recall)
    with pytest.raises(ValueError, match=f"at least {needed} calibration positives, got"):
        by_recall(np.arange(needed - 1), recall)
    fewest = round(1 / (1 - recall)) - 1
    by_expected_recall(np.arange(fewest), recall)
    with pytest.raises(ValueError, match=f"at least {fewest} calibration positives, got"):
        by_expected_recall(np.arange(fewest - 1), recall)


def test_a_recall_that_the_heavy_model_cannot_give_is_refused():
    c = np.concatenate([np.full(40, -np.inf), np.arange(160.0)])
    for choose in (by_recall, by_expected_recall):
        with pytest.raises(ValueError, match="out of reach: 40 of 200"):
            choose(c, 0.9)


def test_nothing_needs_deferring_where_the_light_model_finds_all():
    assert by_recall(np.full(100, np.inf), 0.95).threshold == math.inf


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: by_recall([1.0], 1.0), "recall must be a share between 0 and 1"),
        (lambda: by_recall([1.0], 0.9, confidence=95), "for 95 % write 0.95"),
        (lambda: by_recall([np.nan], 0.9), "critical is NaN"),
        (lambda: by_expected_recall([1.0], 0.0), "recall must be a share between"),
        (lambda: critical_values([1.0], [True]), "needs heavy_yes"),
        (
            lambda: critical_values([1.0], [True], [True, False]),
            r"heavy_yes must have shape \(1,\)",
        ),
        (lambda: critical_values([1.0], [True], of="both"), "got 'both'"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
