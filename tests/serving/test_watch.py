import dataclasses
import json

import numpy as np
import pandas
import pytest

from coefvq.cascade.policy import Policy
from coefvq.serving.answer_log import AnswerLog
from coefvq.serving.watch import read_log, watch, watch_folder
from coefvq.types import TaskSpec

TASK = TaskSpec("t", "binary", ("fine", "bad"))


@pytest.fixture
def policy(finished_cascade):
    found = Policy.load(finished_cascade / "cascade" / "policy.json")
    return dataclasses.replace(found, threshold=0.5, expected={"deferred": 0.25})


def answers(clips=8, **columns):
    """Two deferred clips; the next two are kept and audited, the first of them missed."""
    table = pandas.DataFrame(
        {
            "route": ["heavy"] * 2 + ["light"] * (clips - 2),
            "prediction": ["bad"] * 2 + ["fine"] * (clips - 2),
            "audited": [True, False, True, True] + [False] * (clips - 4),
            "audit_probability": [1.0, 1.0] + [0.5] * (clips - 2),
            "heavy_prediction": ["bad", "bad", "bad", "fine"] + [None] * (clips - 4),
        }
    )
    return table.assign(**columns)


def test_misses_are_counted_among_audited_kept_clips(policy):
    found = watch(answers(), policy, TASK)
    assert (found.clips, found.deferred, found.failed) == (8, 2, 0)
    # One of two audited kept clips, each standing for two.
    assert (found.misses.rate, found.misses.total, found.misses.kept) == (0.5, 2.0, 4.0)
    assert found.misses.audited == 2
    assert found.rate.rate == found.rate.expected == 0.25 and not found.rate.drifted
    first, second = found.lines()
    assert first == "deferred 2 of 8 clips (25.0%), fitted 25.0%: no drift (p = 1)"
    assert "missed (the heavy model says bad): 50.00% of the kept clips [" in second


def test_probabilities_weigh(policy):
    unequal = [1.0, 1.0, 0.25, 0.75, *[0.5] * 4]
    found = watch(answers(audit_probability=unequal), policy, TASK)
    assert found.misses.rate == pytest.approx(4 / (4 + 4 / 3))


def test_an_alarm_of_the_heavy_model_is_what_a_miss_is_not(policy):
    """A light yes that the heavy model denies is an error of the other kind."""
    kept = answers(heavy_prediction=["bad", "bad", "fine", "fine"] + [None] * 4)
    kept.loc[2, "prediction"] = "bad"
    assert watch(kept, policy, TASK).misses.rate == 0
    other = watch(kept, policy, TaskSpec("t", "multiclass", ("fine", "bad", "worse")))
    assert other.misses.rate == 0.5 and "answers otherwise" in other.lines()[-1]


def test_what_was_not_answered_or_judged_is_left_out(policy):
    table = answers(audit_failed=[False, False, True, *[False] * 5])
    found = watch(table, policy, TASK)
    assert found.failed == 1 and found.misses.audited == 1 and found.misses.rate == 0
    assert found.lines()[-1] == "1 drawn for the audit and not judged"
    table = answers()
    table.loc[2, "route"] = None  # unreadable
    assert watch(table, policy, TASK).clips == 7
    table["audited"] = False
    found = watch(table, policy, TASK)
    assert found.misses is None and "no kept clip was audited" in found.lines()[-1]


def test_a_share_that_moved_is_flagged(policy):
    route = np.where(np.arange(400) % 2, "heavy", "light")
    table = answers(400, route=route, time=np.arange(400.0), audited=False)
    found = watch(table.sample(frac=1, random_state=0), policy, TASK)
    assert found.rate.drifted and found.direction == "up" and 0 < found.alarm < 400
    assert f"the share deferred went up by clip {found.alarm}" in found.lines()
    without = watch(table.drop(columns="time"), policy, TASK)
    assert without.rate.drifted and without.alarm is None  # nobody knows the order


def test_nothing_can_drift_where_everything_is_deferred(policy):
    everything = dataclasses.replace(policy, threshold=-np.inf, expected={"deferred": 1.0})
    assert watch(answers(), everything, TASK).rate is None


def test_it_is_written_as_json(policy, tmp_path):
    found = watch(answers(), policy, TASK)
    found.write(tmp_path / "a.json")
    stored = json.loads((tmp_path / "a.json").read_text())
    assert stored["misses"]["rate"] == 0.5 and stored["rate"]["expected"] == 0.25


def test_a_log_of_several_processes(finished_cascade, tmp_path):
    logs = [AnswerLog(tmp_path / "log") for _ in range(2)]
    assert logs[0].path != logs[1].path
    for number, row in enumerate(answers().to_dict("records")):
        logs[number % 2].add(row | {"id": "secret", "audited": bool(row["audited"])})
    with logs[0].path.open("a") as out:
        out.write('{"time": 3, "rou')  # still being written
    table = read_log(tmp_path / "log")
    assert len(table) == 8 and "secret" not in logs[0].path.read_text()
    found = watch_folder(finished_cascade / "cascade", table)
    assert found.misses is not None and found.misses.audited == 2


def test_what_is_no_log_is_said(policy, tmp_path):
    with pytest.raises(ValueError, match=r"holds no log \(\*\.jsonl\)"):
        read_log(tmp_path)
    (tmp_path / "a.jsonl").touch()
    with pytest.raises(ValueError, match="no answer yet"):
        read_log(tmp_path)
    with pytest.raises(ValueError, match="have no column heavy_prediction"):
        watch(answers().drop(columns="heavy_prediction"), policy, TASK)
    with pytest.raises(ValueError, match="no answered clip"):
        watch(answers(route=None), policy, TASK)
