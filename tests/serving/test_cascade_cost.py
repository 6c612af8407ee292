import dataclasses
import time
from types import SimpleNamespace

import pytest
from torch import nn

from coefvq.data import reader
from coefvq.serving import cascade_cost
from coefvq.serving.cascade_cost import latencies, measure_cost
from coefvq.serving.cascade_folder import load_cascade


@pytest.fixture
def cascade(finished_cascade):
    return load_cascade(finished_cascade / "cascade")


def both(cascade):
    return cascade.light, cascade.heavy


class Ticking(nn.Module):
    """A model that takes a fixed time on the test's clock."""

    def __init__(self, module, clock, seconds):
        super().__init__()
        self.module, self.clock, self.seconds = module, clock, seconds

    def forward(self, batch):
        self.clock.now += self.seconds * len(batch)
        return self.module(batch)


@pytest.fixture
def timed(cascade, monkeypatch):
    """The cascade on a clock where reading takes 5, the light model 1, the heavy one 100."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(cascade_cost, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    read = reader.read_file

    def slow(path, inputs, *words):
        clock.now += 5.0 * inputs.num_frames / 2
        return read(path, inputs, *words)

    monkeypatch.setattr(reader, "read_file", slow)

    def made(num_frames=2):
        inputs = dataclasses.replace(cascade.heavy.inputs, num_frames=num_frames)
        slow = Ticking(cascade.heavy.module, clock, 100.0)
        return dataclasses.replace(
            cascade,
            light=dataclasses.replace(
                cascade.light, module=Ticking(cascade.light.module, clock, 1.0)
            ),
            heavy=dataclasses.replace(cascade.heavy, module=slow, inputs=inputs),
        )

    return made


def test_each_step_has_its_own_price(timed, cascade_clips):
    cost = measure_cost(*both(timed()), cascade_clips[:3], turns=2)
    assert (cost.light_seconds, cost.heavy_seconds, cost.decode_seconds) == (1, 100, 5)
    assert cost.heavy_decode_seconds == 0 and cost.unit == "seconds"
    assert cost.per_clip(0.5) == 5 + 1 + 50
    assert cost.heavy_alone_per_1000 == 105_000


def test_a_second_reading_is_paid_by_deferred_clips_only(timed, cascade_clips):
    cost = measure_cost(*both(timed(num_frames=1)), cascade_clips[:3], turns=2)
    assert cost.decode_seconds == 5 and cost.heavy_decode_seconds == 2.5
    assert cost.per_clip(0.0) == 6 and cost.per_clip(1.0) == 6 + 2.5 + 100
    # Alone, the heavy model reads a clip once, in its own way.
    assert cost.heavy_alone_per_1000 == 102_500


def test_latencies_of_both_paths(timed, cascade_clips):
    found = latencies(timed(), cascade_clips[:2])
    assert found == {
        "kept": {"p50": 6.0, "p99": 6.0, "clips": 2},
        "deferred": {"p50": 106.0, "p99": 106.0, "clips": 2},
    }
    found = latencies(timed(num_frames=1), cascade_clips[:1])
    assert found["deferred"]["p50"] == 108.5


def test_the_median_hides_one_bad_turn(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(cascade_cost, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    steps = iter([50.0, 1.0, 90.0, 1.0])  # the first is not counted

    def work():
        clock.now += next(steps)

    assert cascade_cost._median(work, 3) == 1.0


def test_on_a_real_clock(cascade, cascade_clips):
    start = time.perf_counter()
    cost = measure_cost(*both(cascade), cascade_clips[:1], turns=1)
    spent = time.perf_counter() - start
    for name in ("light_seconds", "heavy_seconds", "decode_seconds"):
        assert 0 < getattr(cost, name) < spent


def test_no_clip_is_said(cascade):
    with pytest.raises(ValueError, match="no clip to measure the cost with"):
        measure_cost(*both(cascade), [])
