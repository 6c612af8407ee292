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
    # One of two audited clips, of six that were kept: counted, not 2 / 0.5.
    assert (found.misses.rate, found.misses.total, found.misses.kept) == (0.5, 3.0, 6.0)
    assert found.misses.audited == 2
    assert found.rate.rate == found.rate.expected == 0.25 and not found.rate.drifted
    first, second = found.lines()
    assert first == "deferred 2 of 8 clips (25.0%), fitted 25.0%: no drift (p = 1)"
    assert "missed (the heavy model says bad): 50.00% of the kept clips [" in second
    assert "about 3 of 6, from 2 audited" in second


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


def test_the_share_is_compared_with_the_clips_that_it_was_fitted_on(policy):
    route = np.where(np.arange(4000) % 10 < 3, "heavy", "light")  # 30 % where 25 % were fitted
    table = answers(4000, route=route, audited=False)
    assert watch(table, policy, TASK).rate.drifted  # an older file: the share is taken as exact
    some = dataclasses.replace(policy, expected={"deferred": 0.25, "clips": 100})
    found = watch(table, some, TASK)
    assert not found.rate.drifted and found.rate.calibration == 100
    assert "fitted 25.0% on 100 clips: no drift (p = 0.3" in found.lines()[0]
    calm = answers(4000, route=np.random.default_rng(0).permutation(route), time=np.arange(4000.0))
    assert watch(calm, policy, TASK).direction == "up" and watch(calm, some, TASK).alarm is None


def test_a_file_that_comes_again_is_evidence_once(policy):
    files = list("aabbccdeffff")
    table = pandas.DataFrame(
        {
            "route": ["heavy"] * 4 + ["light"] * 8,
            "prediction": ["bad"] * 4 + ["fine"] * 8,
            "audited": [False] * 4 + [True] * 4 + [False] * 4,
            "audit_probability": [1.0] * 4 + [0.5] * 8,
            "heavy_prediction": [None] * 4 + ["bad", "bad", "fine", "fine"] + [None] * 4,
            "time": np.arange(12.0),
            "content": files,
        }
    )
    found = watch(table, policy, TASK)
    assert found.repeats == 6 and found.unhashed == 0
    # Kept: c twice (missed), d and e, and f four times that nobody looked at.
    assert (found.misses.rate, found.misses.kept, found.misses.total) == (0.5, 8.0, 4.0)
    assert (found.misses.audited, found.misses.distinct) == (4, 3)
    assert found.rate.rate == pytest.approx(2 / 6) and found.deferred == 4
    told = found.lines()
    assert "6 clips repeat a file; as evidence each file counts once" in told
    assert "from 4 audited (3 different files)" in told[-1]
    old = watch(table.drop(columns="content"), policy, TASK)
    assert old.misses.distinct == 4 and old.repeats is None and old.unhashed == 12
    assert old.misses.high - old.misses.low < found.misses.high - found.misses.low
    assert "12 lines have no hash of their file, so that repeats among them" in old.lines()[1]
    mixed = watch(table.assign(content=[None, *files[1:]]), policy, TASK)
    assert mixed.unhashed == 1 and mixed.repeats == 5
    # A table of clips with ids of their own has no log's lines.
    assert watch(table.drop(columns=["content", "time"]), policy, TASK).unhashed == 0


def test_one_popular_file_is_no_drift(policy):
    route = ["heavy"] * 25 + ["light"] * 75
    table = answers(1100, route=route + ["heavy"] * 1000, audited=False, time=np.arange(1100.0))
    content = [f"c{i}" for i in range(100)] + ["c0"] * 1000
    found = watch(table.assign(content=content), policy, TASK)
    assert not found.rate.drifted and found.alarm is None and found.rate.rate == 0.25
    assert watch(table, policy, TASK).rate.drifted
    # A change among different files is dated in lines of the log.
    later = [*content[:100], *["c0"] * 500, *[f"d{i}" for i in range(500)]]
    assert watch(table.assign(content=later), policy, TASK).alarm > 600


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
