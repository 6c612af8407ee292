import math

import numpy as np
import pytest

from coefvq.evaluation.quality import regression_metrics
from coefvq.evaluation.quality_splits import (
    content_subsets,
    metrics_by_group,
    metrics_over_subsets,
    summarise,
)

GROUPS = [f"scene{i // 4}" for i in range(48)]


@pytest.fixture
def made():
    rng = np.random.default_rng(0)
    labels = rng.uniform(1, 5, 48)
    return labels + rng.normal(size=48), labels


def test_medians_and_intervals_by_hand():
    rows = [{"srcc": value, "plcc": math.nan} for value in (0.1, 0.2, 0.3, 0.4, 0.9)]
    found = summarise([*rows, {"srcc": math.nan}])
    assert found["srcc"].median == pytest.approx(0.3) and found["srcc"].n == 5
    assert found["srcc"].low == pytest.approx(0.11) and found["srcc"].high == pytest.approx(0.85)
    assert math.isnan(found["plcc"].median) and found["plcc"].n == 0


def test_raw_numbers_do_not_enter_medians_of_fitted_ones():
    fitted = {"plcc": 0.9, "rmse": 9.0, "rmse_raw": 180.0, "logistic_fit": 1.0}
    raw = {"plcc": 0.7, "rmse": 187.5, "rmse_raw": 187.5, "logistic_fit": 0.0}
    found = summarise([fitted, raw, raw])
    assert (found["rmse"].median, found["rmse"].n) == (9.0, 1)
    assert (found["plcc"].median, found["plcc"].n) == (0.9, 1)
    assert found["rmse_raw"].n == found["logistic_fit"].n == 3
    assert summarise([raw])["rmse"].n == 0 and math.isnan(summarise([raw])["rmse"].median)


def test_subsets_hold_whole_contents():
    for subset in content_subsets(GROUPS, 10):
        inside = {GROUPS[i] for i in subset}
        assert len(inside) == 6
        assert [i for i, group in enumerate(GROUPS) if group in inside] == subset.tolist()


def test_subsets_follow_the_seed_and_not_the_order():
    def names(groups, seed):
        return [{groups[i] for i in s} for s in content_subsets(groups, 5, seed=seed)]

    assert names(GROUPS, 1) == names(GROUPS[::-1], 1) != names(GROUPS, 2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"groups": ["a", "a"], "count": 3}, "at least two contents, got 1"),
        ({"groups": GROUPS, "count": 0}, "a whole number from 1 to 10000, got 0"),
        ({"groups": GROUPS, "count": 10_001}, "from 1 to 10000, got 10001"),
        ({"groups": GROUPS, "count": "many"}, "from 1 to 10000, got 'many'"),
        ({"groups": GROUPS, "count": 1.5}, "from 1 to 10000, got 1.5"),
        ({"groups": GROUPS, "count": 3, "share": 1.0}, "share between 0 and 1"),
    ],
)
def test_bad_subsets_are_a_sentence(options, words):
    with pytest.raises(ValueError, match=words):
        content_subsets(**options)


def test_metrics_over_subsets_surround_those_of_all_clips(made):
    whole = regression_metrics(*made)
    found = metrics_over_subsets(*made, GROUPS, 40)
    assert found["srcc"].n == 40 and found["srcc"].low < whole["srcc"] < found["srcc"].high
    assert "level_accuracy" in metrics_over_subsets(*made, GROUPS, 2, label_range=(1.0, 5.0))


def test_each_content_by_itself(made):
    scores, labels = made
    scores = scores + np.array([10.0 if group == "scene0" else 0.0 for group in GROUPS])
    found = metrics_by_group(scores, labels, GROUPS)
    assert len(found) == 12 and found["scene0"]["n"] == 4
    assert found["scene0"]["bias"] > 8 > abs(found["scene1"]["bias"])
    assert metrics_by_group(scores, labels, GROUPS, least=5) == {}
