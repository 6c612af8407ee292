import dataclasses
import json
import math
import shutil
import sys

import numpy as np
import pandas
import pytest
from hydra.core.global_hydra import GlobalHydra
from pyarrow import parquet

from coefvq import predict
from coefvq.cascade.calibrators import no_calibration
from coefvq.cascade.policy import Policy
from coefvq.serving import predict_cascade, prediction_parts
from coefvq.serving.cascade_inference import Answer, in_audit
from coefvq.serving.predict_cascade import answer_row
from coefvq.serving.watch import watch_folder
from coefvq.types import Clip, TaskSpec

COLUMNS = ["id", "path", "route", "reason", "probability", "prediction", "light_probability",
           "heavy_probability", "heavy_prediction", "uncertainty", "audited", "audit_probability",
           "seconds", "problem"]  # fmt: skip


@pytest.fixture
def manifest(cascade_clips, tmp_path):
    """The test clips with their titles, in another order, without labels."""
    rows = [
        {"id": clip.id, "path": str(clip.path), "title": clip.text["title"]}
        for clip in reversed(cascade_clips)
    ]
    pandas.DataFrame(rows).to_csv(tmp_path / "list.csv", index=False)
    return tmp_path / "list.csv"


@pytest.fixture
def score(cascade_clips, tmp_path):
    def call(model, clips, name="s.parquet", **options):
        root = cascade_clips[0].path.parent
        return predict_cascade.predict_cascade(
            model, clips, out=tmp_path / name, root=root, **options
        )

    return call


@pytest.fixture
def alone(manifest, cascade_clips, tmp_path):
    """A model's own scores of the same clips."""

    def call(folder, name):
        root = cascade_clips[0].path.parent
        own = shutil.copytree(folder, tmp_path / f"{name}-model")
        config = json.loads((own / "config.json").read_text())
        config["metadata"].setdefault("threshold", 0.5)  # a teacher has none
        (own / "config.json").write_text(json.dumps(config))
        return predict.predict(own, manifest, out=tmp_path / name, root=root)["probability"]

    return call


@pytest.fixture
def halved(changed_cascade, manifest, score):
    """A cascade that defers about half of the clips, and none within rounding."""
    table = score(changed_cascade(), manifest, "first.parquet")
    u = sorted(table["uncertainty"])
    return changed_cascade(threshold=(u[7] + u[8]) / 2)


def test_budget_0_is_the_light_model_and_1_the_heavy_one(changed_cascade, manifest, score, alone):
    none = no_calibration()
    for threshold, who in ((math.inf, "light"), (-math.inf, "heavy")):
        folder = changed_cascade(threshold=threshold, light_calibrator=none, heavy_calibrator=none)
        places = json.loads((folder / "models.json").read_text())
        table = score(folder, manifest, f"{who}.parquet")
        expected = alone(places[who], f"{who}-alone.parquet")
        np.testing.assert_allclose(table["probability"], expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(table[f"{who}_probability"], expected, rtol=0, atol=1e-6)
        assert set(table["route"]) == {who}
        assert table["heavy_probability"].isna().all() == (who == "light")


def test_every_clip_has_a_row_with_route_reason_score_and_cost(halved, manifest, score, tmp_path):
    table = score(halved, manifest)
    assert list(table.columns) == COLUMNS
    assert list(table["id"]) == list(pandas.read_csv(manifest)["id"])
    deferred = table["route"] == "heavy"
    assert deferred.sum() == 8
    policy = Policy.load(halved / "policy.json")
    assert ((table["uncertainty"] >= policy.threshold) == deferred).all()
    assert (table["heavy_probability"].notna() == deferred).all()
    assert [r.split(":")[0] for r in table["reason"]] == [
        "deferred" if d else "kept" for d in deferred
    ]
    yes = table["probability"] >= policy.decision_threshold
    assert list(table["prediction"]) == ["degraded" if y else "fine" for y in yes]
    assert (table["seconds"] > 0).all() and (table["problem"] == "").all()
    assert (table["audit_probability"] == deferred.astype(float)).all()
    pandas.testing.assert_frame_equal(pandas.read_parquet(tmp_path / "s.parquet"), table)


def test_scores_and_routes_do_not_depend_on_the_batch(halved, manifest, score):
    tables = [
        score(halved, manifest, f"{size}.parquet", batch_size=size, audit=0.3)
        for size in (1, 4, 16)
    ]
    for table in tables[1:]:
        for name in ("id", "route", "prediction", "audited", "audit_probability"):
            assert list(table[name]) == list(tables[0][name])
        for name in ("probability", "light_probability", "heavy_probability", "uncertainty"):
            np.testing.assert_allclose(table[name], tables[0][name], rtol=0, atol=1e-5)


def test_the_audit_is_in_the_table(halved, manifest, score):
    table = score(halved, manifest, audit=0.5, audit_seed=2)
    assert list(table["audited"]) == [in_audit(name, 0.5, 2) for name in table["id"]]
    both = (table["route"] == "heavy") | table["audited"].astype(bool)
    assert (table["heavy_probability"].notna() == both).all()
    assert (table["heavy_prediction"].notna() == both).all()
    deferred = table["route"] == "heavy"
    assert (table["heavy_prediction"] == table["prediction"])[deferred].all()
    policy = Policy.load(halved / "policy.json")
    z = np.log(table["heavy_probability"]) - np.log1p(-table["heavy_probability"])
    yes = 1 / (1 + np.exp(-policy.heavy_calibrator(z.to_numpy()))) >= policy.decision_threshold
    named = pandas.Series(np.where(yes, "degraded", "fine"), index=table.index)
    assert (named == table["heavy_prediction"])[both].all()
    kept = both & ~deferred
    misses = watch_folder(halved, table).misses
    assert misses.audited == kept.sum() > 0
    wrong = (table["prediction"] == "fine") & (table["heavy_prediction"] == "degraded")
    assert misses.total == pytest.approx((wrong & kept).sum() / kept.sum() * (~deferred).sum())
    assert misses.kept == (~deferred).sum()
    again = score(halved, manifest, "again.parquet", audit=0.5, audit_seed=2)
    assert list(again["audited"]) == list(table["audited"])


@pytest.fixture
def folder(cascade_clips, tmp_path):
    """Two good clips, a truncated one and one that is no video."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for number, clip in enumerate(cascade_clips[:2]):
        shutil.copy(clip.path, folder / f"{number}.mp4")
    (folder / "half.mp4").write_bytes(cascade_clips[3].path.read_bytes()[:900])
    (folder / "words.mp4").write_text("no video")
    return folder


@pytest.mark.parametrize("part", [1, 256])
def test_a_clip_that_cannot_be_read_gets_a_row_with_the_reason(
    halved, folder, score, tmp_path, monkeypatch, part
):
    monkeypatch.setattr(predict_cascade, "PART", part)  # some parts have no readable clip
    table = score(halved, folder, batch_size=3).set_index("id")
    assert table["audited"].dtype == "boolean" and table["audited"].isna().sum() == 2
    schema = parquet.read_schema(tmp_path / "s.parquet")
    assert str(schema.field("audited").type) == "bool"
    assert list(table.index) == ["0.mp4", "1.mp4", "half.mp4", "words.mp4"]
    for name in ("half.mp4", "words.mp4"):
        assert name in table.loc[name, "problem"]
        assert table.loc[name].drop(["path", "problem"]).isna().all()
    assert (table.loc[["0.mp4", "1.mp4"], "problem"] == "").all()
    assert list(pandas.read_parquet(tmp_path / "s.parquet").columns) == COLUMNS
    for name in ("0.mp4", "1.mp4"):
        (folder / name).unlink()
    table = score(halved, folder, "none.parquet")
    assert list(table.columns) == COLUMNS and table["route"].isna().all()
    with pytest.raises(ValueError, match=r"half\.mp4"):
        score(halved, folder, "error.parquet", on_bad_clip="error")


class Killed(BaseException):
    """What no handler for errors catches."""


def test_a_killed_call_goes_on_where_it_was(halved, manifest, score, tmp_path, monkeypatch):
    whole = score(halved, manifest, "whole.parquet", audit=0.5)
    monkeypatch.setattr(predict_cascade, "PART", 5)
    write, scored = prediction_parts.write_table, []

    def killed_after_two(table, path):
        if len(scored) == 2:
            raise Killed
        scored.append(len(table))
        write(table, path)

    monkeypatch.setattr(prediction_parts, "write_table", killed_after_two)
    with pytest.raises(Killed):
        score(halved, manifest, "killed.parquet", audit=0.5)
    assert scored == [5, 5] and not (tmp_path / "killed.parquet").exists()

    parts = []

    def count(table, path):
        parts.append(len(table))
        write(table, path)

    monkeypatch.setattr(prediction_parts, "write_table", count)
    # Another audit is another question: what was answered before must not be mixed with it.
    with pytest.raises(ValueError, match="parts of another model or other clips"):
        score(halved, manifest, "killed.parquet", audit=0.2)
    table = score(halved, manifest, "killed.parquet", audit=0.5)
    assert parts == [5, 1, 16]  # what was missing, then the whole table
    inexact = ["probability", "light_probability", "heavy_probability", "uncertainty", "seconds"]
    for name in inexact[:-1]:
        np.testing.assert_allclose(table[name], whole[name], rtol=0, atol=1e-5)
    inexact.append("reason")
    pandas.testing.assert_frame_equal(table.drop(columns=inexact), whole.drop(columns=inexact))


def test_another_policy_does_not_go_on_with_the_parts(halved, manifest, score, monkeypatch):
    def killed(table, path):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(prediction_parts, "write_table", killed)
        score(halved, manifest)
    policy = Policy.load(halved / "policy.json")
    dataclasses.replace(policy, threshold=policy.threshold / 2).save(halved / "policy.json")
    with pytest.raises(ValueError, match="parts of another model or other clips"):
        score(halved, manifest)


def test_wrong_words_leave_nothing_behind(halved, manifest, score, tmp_path):
    for options in ({"audit": 3}, {"batch_size": 0}, {"on_bad_clip": "ignore"}):
        with pytest.raises(ValueError):
            score(halved, manifest, **options)
    assert not (tmp_path / "s.parquet.parts").exists()


def test_rows_of_several_classes_and_labels(finished_cascade):
    policy = Policy.load(finished_cascade / "cascade" / "policy.json")
    gate = policy.gate
    clip = Clip("x", finished_cascade)

    def row(kind, classes, light, heavy, cut=None):
        changed = dataclasses.replace(
            policy, task=kind, gate=dataclasses.replace(gate, task=kind), outputs=len(classes),
            light_calibrator=no_calibration(), heavy_calibrator=no_calibration(),
            decision_threshold=cut,
        )  # fmt: skip
        z = np.array(light)
        h = None if heavy is None else np.array(heavy)
        final = z if h is None else h
        answer = Answer(clip, final, z, h, h is not None, "why", 0.5, False, 0.0, 0.25)
        return answer_row(answer, changed, TaskSpec("t", kind, classes))

    found = row("multiclass", ("a", "b"), [0.0, 0.0], [0.0, math.log(3)])
    assert found["route"] == "heavy" and found["prediction"] == "b"
    assert found["p_b"] == pytest.approx(0.75) == found["heavy_p_b"]
    assert found["light_p_a"] == pytest.approx(0.5)
    found = row("multilabel", ("a", "b"), [math.log(3), -5.0], None, cut=(0.8, 0.1))
    assert found["prediction"] == "" and found["light_p_a"] == pytest.approx(0.75)
    assert "heavy_p_a" not in found
    assert row("multilabel", ("a", "b"), [math.log(3), 0.0], None)["prediction"] == "a|b"


def test_from_the_command_line(halved, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def call(*words):
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["predict", *words])
        predict._main()

    call(f"model={halved}", f"clips={folder}", "audit=1")
    table = pandas.read_parquet("scores.parquet")
    assert list(table.columns) == COLUMNS
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == "4 clips in scores.parquet, 2 of them unreadable"
    watched = watch_folder(halved, table)
    assert lines == watched.lines() and watched.clips == 2
    assert json.loads((tmp_path / "scores.audit.json").read_text())["clips"] == 2
    call(f"model={halved}", f"clips={folder}", "out=c.parquet")
    unaudited = watch_folder(halved, pandas.read_parquet("c.parquet")).share_lines()
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines == unaudited and "of 2 clips" in lines[0] and "drift" in lines[0]
    assert last.startswith("4 clips in c.parquet")
    assert not (tmp_path / "c.audit.json").exists()
    light = json.loads((halved / "models.json").read_text())["light"]
    with pytest.raises(SystemExit):
        call(f"model={light}", f"clips={folder}", "audit=0.3", "out=b.parquet")
    assert "audit=0.3 is for a cascade" in capsys.readouterr().err
