import json

import numpy as np
import pytest

from coefvq.evaluation.score_calibration import ScoreCalibration, calibrate_scores


def made(n=200, noise=0.4, seed=0):
    """Scores of a strange unit, labels from 1 to 5 that follow them along an S."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(-40, 60, n)
    labels = 1 + 4 / (1 + np.exp(-scores / 15)) + noise * rng.normal(size=n)
    return scores, labels.clip(1, 5)


@pytest.fixture
def fitted():
    return calibrate_scores(*made(), (1, 5))


def test_scores_get_the_unit_of_the_labels(fitted):
    scores, labels = made(seed=1)
    assert fitted.kind == "logistic" and fitted.clips == 200
    assert np.abs(fitted.label_scale(scores) - labels).mean() < 0.4
    assert fitted.rmse == pytest.approx(0.37, abs=0.06)
    ends = fitted.percent(np.array([-1e9, 0.0, 1e9]))
    assert 0 <= ends[0] < 8 and ends[1] == pytest.approx(50, abs=4) and 92 < ends[2] <= 100


def test_the_map_rises(fitted):
    percent = fitted.percent(np.linspace(-200, 200, 500))
    assert (np.diff(percent) >= 0).all()


def test_intervals_hold_new_labels_as_often_as_they_say():
    held = []
    for seed in range(20):
        fit = calibrate_scores(*made(seed=seed), (1, 5))
        scores, labels = made(2000, seed=seed + 100)
        low, high = fit.interval(scores)
        percent = 25 * (labels - 1)
        held.append(((low <= percent + 1e-9) & (percent <= high + 1e-9)).mean())
    assert 0.88 < np.mean(held) < 0.94


def test_words_stand_beside_the_number(fitted):
    assert fitted.words(np.array([-60.0, 0.0, 60.0])) == ["bad", "fair", "excellent"]


def test_other_clips_measure_what_is_shown_of_them(fitted):
    scores, labels = made(300, seed=9)
    labels = (labels - 0.3).clip(1, 5)  # people who are stricter than those it was fitted to
    found = fitted.on(scores, labels)
    percent, (low, high) = fitted.percent(scores), fitted.interval(scores)
    truth = 25 * (labels - 1)
    assert found["n"] == 300
    assert found["coverage"] == pytest.approx(((low <= truth) & (truth <= high)).mean())
    assert found["rmse"] == pytest.approx(np.sqrt(((percent - truth) ** 2).mean()) / 25)
    assert found["mean_difference"] == pytest.approx((percent - truth).mean() / 25)
    assert 0.15 < found["mean_difference"] < 0.35
    fifths = ["bad", "poor", "fair", "good", "excellent"]
    right = [fifths[min(int(t // 20), 4)] == w
             for t, w in zip(truth, fitted.words(scores), strict=True)]  # fmt: skip
    assert found["words"] == pytest.approx(np.mean(right))


class TestBetter:
    def test_is_as_often_right_as_it_says(self, fitted):
        scores, labels = made(600, seed=5)
        order = np.random.default_rng(0).permutation(600)
        said, right = [], []
        for i, j in zip(range(600), order, strict=True):
            said.append(fitted.better(scores[i], scores[j]))
            right.append(labels[i] > labels[j])
        said, right = np.array(said), np.array(right)
        for low in (0.1, 0.3, 0.5, 0.7):
            inside = (said > low) & (said <= low + 0.2)
            assert right[inside].mean() == pytest.approx(said[inside].mean(), abs=0.17)

    def test_order_and_symmetry(self, fitted):
        assert fitted.better(3.0, 3.0) == pytest.approx(0.5)
        assert fitted.better(20.0, -20.0) + fitted.better(-20.0, 20.0) == pytest.approx(1)
        assert 0.5 < fitted.better(5.0, 0.0) < fitted.better(30.0, 0.0) < 1
        assert 0 < fitted.better(-1e9, 1e9) < fitted.better(1e9, -1e9) < 1


def test_it_survives_json(fitted):
    again = ScoreCalibration.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert again == fitted


def test_many_clips_are_kept_as_quantiles():
    fit = calibrate_scores(*made(3000), (1, 5))
    assert len(fit.residuals) == 199 and fit.clips == 3000
    assert np.std(fit.residuals) == pytest.approx(fit.rmse, rel=0.05)


def test_a_model_that_ranks_upside_down_says_nothing():
    scores, labels = made()
    fit = calibrate_scores(-scores, labels, (1, 5))
    assert fit.kind == "linear" and fit.parameters[0] == 0.0
    assert np.ptp(fit.percent(scores)) == 0 and fit.better(9.0, -9.0) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 19}, "19 labelled validation clips are fewer than the 20"),
        ({"constant": True}, "gives every validation clip the score 1;"),
        ({"coverage": 1.0}, "between 0 and 1, got 1.0"),
    ],
)
def test_what_cannot_be_calibrated_is_a_sentence(options, words):
    scores, labels = made(options.pop("n", 50))
    if options.pop("constant", False):
        scores = np.ones(50)
    with pytest.raises(ValueError, match=words):
        calibrate_scores(scores, labels, (1, 5), **options)
