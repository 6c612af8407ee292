import itertools
import json

import pytest

from coefvq.cascade.cost import Cost


def test_every_clip_pays_the_first_stage_and_the_deferred_both():
    cost = Cost(0.01, 2.0, decode_seconds=0.05, heavy_decode_seconds=0.1)
    # 1000 · (0.05 + 0.01 + 0.1 · (0.1 + 2.0))
    assert cost.per_1000(0.1) == pytest.approx(270)
    assert cost.per_1000(0.0) == pytest.approx(60)
    # Alone, the heavy model decodes once: its own way, or as both do.
    assert cost.heavy_alone_per_1000 == pytest.approx(2100)
    assert Cost(0.01, 2.0, decode_seconds=0.05).heavy_alone_per_1000 == pytest.approx(2050)


def test_cost_rises_with_the_budget():
    cost = Cost(0.01, 2.0, 0.05)
    seconds = [cost.per_clip(k / 50) for k in range(51)]
    assert all(a < b for a, b in itertools.pairwise(seconds))


def test_plain_values_are_the_way_back():
    cost = Cost(0.01, 2.0, 0.05, unit="GPU-seconds")
    assert Cost.from_dict(json.loads(json.dumps(cost.to_dict()))) == cost


def test_errors():
    with pytest.raises(ValueError, match="heavy_seconds must be a finite number"):
        Cost(0.01, -1.0)
    with pytest.raises(ValueError, match="light_seconds must be a finite number"):
        Cost(float("nan"), 1.0)
    with pytest.raises(ValueError, match="deferred must be a share"):
        Cost(0.01, 1.0).per_1000(1.5)
