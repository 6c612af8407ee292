import math
import re

import numpy as np
import pytest
from scipy import stats

from coefvq.evaluation.gap import (
    gap_closed,
    gap_closed_over_seeds,
    gap_reason,
    mean_interval,
    paired_difference,
    student_t_quantile,
)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 9, 10, 29, 100, 1001])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
def test_t_quantile_against_scipy(degrees, confidence):
    theirs = stats.t.ppf((1 + confidence) / 2, degrees)
    assert student_t_quantile(confidence, degrees) == pytest.approx(theirs, rel=1e-9)


def test_mean_interval_against_scipy():
    values = [0.52, 0.55, 0.49, 0.61, 0.53]
    mean, half = mean_interval(values)
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert (mean - half, mean + half) == pytest.approx((low, high))


def test_mean_interval_of_little():
    assert mean_interval([0.5]).mean == 0.5 and math.isnan(mean_interval([0.5]).half_width)
    assert math.isnan(mean_interval([]).mean)
    assert mean_interval([0.3, 0.3, 0.3]) == pytest.approx((0.3, 0.0))
    with pytest.raises(ValueError, match="NaN"):
        mean_interval([0.5, math.nan])
    with pytest.raises(ValueError, match="confidence"):
        mean_interval([0.5], confidence=95)


def test_paired_difference_uses_common_seeds_only():
    a = {1: 0.6, 2: 0.7, 3: 0.9, 5: math.nan}
    b = {3: 0.5, 2: 0.6, 4: 0.1, 5: 0.2}
    mean, half, seeds = paired_difference(a, b)
    assert seeds == (2, 3)
    assert mean == pytest.approx(0.25)
    assert half == pytest.approx(stats.t.ppf(0.975, 1) * stats.sem([0.1, 0.4]))
    assert paired_difference({1: 1.0}, {2: 1.0}).seeds == ()


def test_pairing_removes_what_seeds_share():
    shift = {1: 0.1, 2: -0.2, 3: 0.3, 4: 0.0}
    a = {s: 0.5 + v for s, v in shift.items()}
    b = {s: 0.4 + v for s, v in shift.items()}
    assert paired_difference(a, b).half_width == pytest.approx(0, abs=1e-12)
    assert mean_interval(list(a.values())).half_width > 0.1


def test_gap_closed():
    assert gap_closed(0.4, 0.5, 0.8) == pytest.approx(0.25)
    assert gap_closed(0.4, 0.3, 0.8) == pytest.approx(-0.25)
    assert gap_closed(0.4, 0.9, 0.8) == pytest.approx(1.25)
    assert gap_closed(0.2, 0.15, 0.1, higher_is_better=False) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("baseline", "teacher", "up", "said"),
    [
        (0.5, 0.5, True, "not better"),
        (0.5, 0.4, True, r"teacher \(0.4\) is not better than the baseline \(0.5\)"),
        (0.1, 0.2, False, "not better"),
        (math.nan, 0.4, True, "undefined"),
    ],
)
def test_no_gap_is_nan_with_a_reason(baseline, teacher, up, said):
    assert math.isnan(gap_closed(baseline, 0.6, teacher, higher_is_better=up))
    assert re.search(said, gap_reason(baseline, teacher, higher_is_better=up))


def test_an_undefined_student_closes_nothing_known():
    assert gap_reason(0.4, 0.5) == ""
    assert math.isnan(gap_closed(0.4, math.nan, 0.5))


def test_ratio_of_means_not_mean_of_ratios():
    # Seed 2's teacher is hardly better: its own ratio is 10, the ratio of means 0.6 / 0.51.
    result = gap_closed_over_seeds({1: 0.4, 2: 0.5}, {1: 0.9, 2: 0.6}, {1: 0.9, 2: 0.51})
    assert result.value == pytest.approx(0.6 / 0.51)


def fieller_by_search(gain, lead):
    """Accepted ratios, by testing mean(gain − r · lead) = 0 for each r of a grid."""
    grid = np.linspace(-3, 3, 60001)
    residual = gain[:, None] - grid * lead[:, None]
    t = residual.mean(0) / (residual.std(0, ddof=1) / math.sqrt(len(gain)))
    kept = grid[np.abs(t) <= stats.t.ppf(0.975, len(gain) - 1)]
    return kept.min(), kept.max()


def test_interval_is_fiellers():
    rng = np.random.default_rng(0)
    base = 0.45 + 0.02 * rng.standard_normal(6)
    student, teacher = base + 0.1 + 0.02 * rng.standard_normal(6), base + 0.25
    teacher = teacher + 0.03 * rng.standard_normal(6)
    ours = gap_closed_over_seeds(*(dict(enumerate(x.tolist())) for x in (base, student, teacher)))
    low, high = fieller_by_search(student - base, teacher - base)
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=2e-4)
    assert ours.low < ours.value < ours.high and ours.reason == ""


def test_interval_covers_at_its_rate():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        gain, lead = 0.1 + 0.03 * rng.standard_normal(5), 0.3 + 0.05 * rng.standard_normal(5)
        zeros = dict.fromkeys(range(5), 0.0)
        sides = (dict(enumerate(x.tolist())) for x in (gain, lead))
        result = gap_closed_over_seeds(zeros, *sides)
        covered += result.low <= 1 / 3 <= result.high
    assert 0.92 < covered / 400 < 0.98


def test_an_unclear_lead_has_a_value_and_no_interval():
    base = dict.fromkeys((1, 2, 3), 0.5)
    result = gap_closed_over_seeds(base, {1: 0.6, 2: 0.6, 3: 0.6}, {1: 1.0, 2: 0.2, 3: 0.5})
    assert result.value == pytest.approx(0.1 / (0.2 / 3))
    assert math.isnan(result.low) and "varies too much" in result.reason


def test_lower_is_better_over_seeds():
    sides = (
        {1: 0.20, 2: 0.22, 3: 0.21},
        {1: 0.15, 2: 0.16, 3: 0.17},
        {1: 0.10, 2: 0.10, 3: 0.11},
    )
    up = gap_closed_over_seeds(*({s: -v for s, v in side.items()} for side in sides))
    down = gap_closed_over_seeds(*sides, higher_is_better=False)
    assert down[:3] == pytest.approx(up[:3])
    assert math.isnan(gap_closed_over_seeds(*sides).value)


def test_seeds_are_those_all_three_have():
    base, student = {1: 0.4, 2: 0.5, 3: 0.4}, {1: 0.5, 2: 0.6}
    result = gap_closed_over_seeds(base, student, {2: 0.9, 3: 0.9})
    assert result.seeds == (2,) and result.value == pytest.approx(0.25)
    assert math.isnan(result.low) and "one seed" in result.reason
    assert "no seed" in gap_closed_over_seeds(base, student, {}).reason
