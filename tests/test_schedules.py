import csv
import math

import pytest

from coefvq import pipeline
from coefvq.schedules import Schedule, read_schedules


def values(schedule, steps, total_steps=100, epoch=0):
    return [schedule(step, total_steps, epoch) for step in steps]


def test_constant():
    assert values(Schedule("constant", end=0.3), [0, 50, 1000]) == [0.3] * 3


def test_linear_over_a_share_of_the_run():
    # 0.2 to 0.6 within 40 of 100 steps: a hundredth a step.
    warm_up = Schedule("linear", start=0.2, end=0.6, until=0.4)
    assert values(warm_up, [0, 10, 20, 40, 99]) == pytest.approx([0.2, 0.3, 0.4, 0.6, 0.6])
    assert values(warm_up, [0, 40, 99]) == [0.2, 0.6, 0.6]  # the ends to the bit
    assert warm_up(20, 50, 0) == 0.6  # half as long a run is there twice as soon


def test_linear_over_a_number_of_steps():
    warm_up = Schedule("linear", end=1.0, until=4)
    assert values(warm_up, range(6)) == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert values(warm_up, range(6), math.inf) == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]


def test_one_is_the_whole_run_however_it_is_written():
    for until in (1, 1.0, None):
        assert values(Schedule("linear", end=1.0, until=until), [0, 50, 100]) == [0.0, 0.5, 1.0]


def test_cosine():
    # (1 - cos(π/3)) / 2 = 1/4 after a third of the way, 1/2 in its middle.
    down = Schedule("cosine", start=4.0, end=2.0, until=60)
    assert values(down, [0, 20, 30, 60, 61]) == pytest.approx([4.0, 3.5, 3.0, 2.0, 2.0])


def test_step_at_an_epoch():
    late = Schedule("step", end=0.5, epoch=2)
    assert [late(0, 100, epoch) for epoch in range(4)] == [0.0, 0.0, 0.5, 0.5]


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_it_stays_between_its_ends(kind):
    """A weight that rounds to more than 1 would be refused in the middle of a run."""
    for start, end in ((0.1, 1.0), (1.0, 0.7), (0.3, 0.3)):
        schedule = Schedule(kind, start=start, end=end)
        for step in range(1001):
            assert min(start, end) <= schedule(step, 1000, 0) <= max(start, end)


def test_it_has_no_state():
    schedule = Schedule("cosine", end=1.0)
    forwards = values(schedule, range(100))
    assert values(schedule, reversed(range(100))) == forwards[::-1]
    with pytest.raises(AttributeError):
        schedule.end = 2.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "sine"}, "schedule kind 'sine' is unknown; choose one of constant, linear"),
        ({"kind": "constant", "start": 0.0}, "start is not read by .* 'constant', which reads end"),
        ({"kind": "linear", "epoch": 2}, "epoch is not read by .* which reads end, start, until"),
        ({"kind": "step", "epoch": 1, "until": 2}, "until is not read"),
        ({"kind": "step"}, "needs epoch, a whole number from 1 .* got None"),
        ({"kind": "step", "epoch": 0}, "needs epoch, .* got 0"),
        ({"kind": "step", "epoch": 1.5}, "needs epoch, .* got 1.5"),
        ({"kind": "linear", "until": 0}, r"a share of all steps in \(0, 1\] .* got 0"),
        ({"kind": "linear", "until": 1.5}, "a whole number of steps above 1, got 1.5"),
        ({"kind": "linear", "until": math.inf}, "got inf"),
        ({"kind": "linear", "until": True}, "got True"),
        ({"kind": "linear", "until": "half"}, "got 'half'"),
        ({"kind": "linear", "start": "low"}, "schedule start must be a finite number, got 'low'"),
        ({"kind": "cosine", "end": math.nan}, "schedule end must be a finite number, got nan"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        Schedule(**options)


def test_a_share_of_a_run_without_end_is_refused():
    with pytest.raises(ValueError, match=r"until=0.3 is a share of a run that has no last step"):
        Schedule("linear", end=1.0, until=0.3)(0, math.inf, 0)


def test_an_open_end_is_refused_outside_an_objective():
    for schedule in (Schedule("linear"), Schedule("constant")):
        with pytest.raises(ValueError, match="has no end; give one"):
            schedule(0, 10, 0)


def test_config_words_become_schedules():
    linear = {"kind": "linear", "until": 0.3}
    tree = {
        "distill_weight": linear,
        "cpfd": {"confidence": {"strength": {"kind": "constant", "end": 1}}},
        "weights.task": {"kind": "step", "start": 1, "end": 0.5, "epoch": 2},
        "temperature": None,  # what a recipe had, switched off
    }
    assert read_schedules(tree) == {
        "distill_weight": Schedule("linear", until=0.3),
        "cpfd.confidence.strength": Schedule("constant", end=1),
        "weights.task": Schedule("step", start=1, end=0.5, epoch=2),
    }


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"temperature": 2.0}, "objective.schedules.temperature must hold a schedule such .*2.0"),
        ({"a": {"until": 0.3}}, r"schedules.a.until must hold a schedule such as \{kind: linear"),
        ("linear", "objective.schedules must hold numbers' names, each with a sch.*got 'linear'"),
        ({"a": {"b": {"kind": "sine"}}}, "schedules.a.b: schedule kind 'sine' is unknown"),
        ({"a": {"kind": "linear", "stop": 1}}, "schedules.a has no option stop; .* kind, end, sta"),
    ],
)
def test_errors_name_the_place_in_the_config(tree, message):
    with pytest.raises(ValueError, match=message):
        read_schedules(tree)


def objective_of(small, tmp_path, *words):
    """What a command line makes of the objective."""
    cfg = small(*words, folder=tmp_path / "run")
    cfg.runtime.task = "binary"
    return pipeline.make_objective(cfg)


def test_a_command_line_sets_schedules(small, tmp_path):
    objective = objective_of(
        small,
        tmp_path,
        "+recipe=cpfd",
        "objective.temperature=3.0",  # the sweep's path: an open end is there
        "+objective.schedules.temperature={kind: cosine, start: 1.0, until: 0.5}",
        "+objective.schedules.weights.task={kind: step, end: 0.5, epoch: 2}",
        "+objective.schedules.cpfd.confidence.strength={kind:linear,until:200}",
    )
    objective.set_step(50, 100, 1)
    assert [objective.terms[name].temperature for name in ("cpfd", "distill")] == [3.0, 3.0]
    assert objective.weights == {"cpfd": 1.0, "task": 0.0, "distill": 0.0}
    assert objective.terms["cpfd"].confidence.strength == 0.25
    objective.set_step(50, 100, 2)
    assert objective.weights["task"] == 0.5


def test_without_schedules_the_paths_of_sweeps_work_as_ever(small, tmp_path):
    objective = objective_of(small, tmp_path, "+recipe=cpfd", "objective.temperature=3.0")
    assert objective.schedules == {}
    assert [objective.terms[name].temperature for name in ("cpfd", "distill")] == [3.0, 3.0]


def test_a_bad_schedule_is_refused_before_a_run_begins(small, tmp_path):
    words = "+recipe=cpfd", "+objective.schedules.distill_weight={kind: linear, end: 1.5}"
    with pytest.raises(ValueError, match=r"cpfd.distill_weight to 1.5: distill_weight must be"):
        pipeline.run(small(*words, folder=tmp_path / "run"), show=False)
    assert not (tmp_path / "run" / "logs").exists()


def test_a_run_logs_its_schedules(small, tmp_path):
    words = (
        "+recipe=label_smoothing",
        "+objective.schedules.label_smoothing={kind: linear, start: 0.2, end: 0.0, until: 2}",
    )
    pipeline.run(small(*words, folder=tmp_path / "run"), show=False)
    with (tmp_path / "run" / "logs" / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["train/schedule/label_smoothing"]]
    logged = {row["step"]: float(row["train/schedule/label_smoothing"]) for row in rows}
    assert logged == pytest.approx({"0": 0.2, "1": 0.1})
    assert all(row["train/loss"] for row in rows)
