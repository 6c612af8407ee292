import sys

import numpy as np
import pytest

from coefvq.cascade.learn_then_test import Risk, learn_then_test


def losses(*shares, n=400):
    """The first `share` of n clips go wrong, one row per candidate."""
    return np.stack([np.arange(n) < round(share * n) for share in shares])


def test_the_cheapest_proven_candidate_is_taken():
    pytest.importorskip("mapie", reason="MAPIE is an optional extra")
    risk = Risk("missed positives", losses(0.0, 0.02, 0.045, 0.2), 0.05)
    best, accepted = learn_then_test([risk], [0.9, 0.4, 0.2, 0.1])
    assert accepted == (0, 1) and best == 1  # 18 of 400 is no proof of 5 %
    second = Risk("false alarms", losses(0.0, 0.3, 0.0, 0.0), 0.1)
    assert learn_then_test([risk, second], [0.9, 0.4, 0.2, 0.1]) == (0, (0,))


def test_a_tolerance_is_broken_in_at_most_delta_of_calibrations():
    pytest.importorskip("mapie", reason="MAPIE is an optional extra")
    draw = np.random.default_rng(0)
    truth = np.array([0.02, 0.051, 0.06, 0.08, 0.1])  # all but the first break 5 %
    broken = 0
    for _ in range(1000):
        risk = Risk("missed", draw.random((5, 500)) < truth[:, None], 0.05)
        try:
            best, _ = learn_then_test([risk], [5, 4, 3, 2, 1], confidence=0.9)
        except ValueError:
            continue  # nothing proven, nothing promised
        broken += truth[best] > 0.05
    assert 0 < broken / 1000 <= 0.1


def test_no_candidate_is_proven():
    pytest.importorskip("mapie", reason="MAPIE is an optional extra")
    with pytest.raises(ValueError, match="none of 2 candidates is proven"):
        learn_then_test([Risk("missed", losses(0.1, 0.2), 0.05)], [1, 2])


def test_without_mapie_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mapie.risk_control", None)
    with pytest.raises(ValueError, match=r"coefvq\[cascade\]"):
        learn_then_test([Risk("missed", losses(0.0), 0.05)], [1])


@pytest.mark.parametrize(
    ("risks", "prices", "message"),
    [
        ([], [1.0], "no risk to control"),
        ([Risk("missed", losses(0.0, 0.1), 0.05)], [1.0], "2 candidates and prices 1"),
        ([Risk("missed", [[0.5]], 0.05)], [1.0], "of 0 and 1"),
        ([Risk("missed", [[1]], 5)], [1.0], "tolerance of 'missed' must be a share"),
    ],
)
def test_errors(risks, prices, message):
    with pytest.raises(ValueError, match=message):
        learn_then_test(risks, prices)
