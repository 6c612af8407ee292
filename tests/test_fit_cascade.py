import json
import re
import shutil
import sys

import hydra
import numpy as np
import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra

from coefvq import config, fit_cascade, pipeline
from coefvq.cascade.gates import disagreement
from coefvq.cascade.policy import Policy
from coefvq.data import reader
from coefvq.fit_cascade import fit_cascade as fit
from coefvq.serving.cascade_folder import load_cascade
from coefvq.serving.cascade_inference import answer_clips
from coefvq.serving.fit_folder import RULES, SETTINGS

DATA = ("data.labelled=24", "data.unlabelled=4", "data.val=16", "data.test=16", "device=cpu")


def compose(*words):
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(config.folder("conf")), version_base="1.3"):
        return hydra.compose("fit_cascade", overrides=[*DATA, *words])


@pytest.fixture
def models(finished_cascade):
    report = json.loads((finished_cascade / "report.json").read_text())["paths"]
    return f"light={finished_cascade / 'student'}", f"heavy={report['teacher']}"


def said(text):
    said.lines.append(text)


said.lines = []


def test_a_run_fits_its_cascade_and_reports_it(finished_cascade):
    report = json.loads((finished_cascade / "report.json").read_text())
    folder = finished_cascade / "cascade"
    assert report["paths"]["cascade"] == str(folder)
    assert report["cascade"] == json.loads((folder / "cascade.json").read_text())
    assert {p.name for p in folder.iterdir()} == {
        "policy.json", "models.json", "cascade.json", "cascade.md", "deferral.png",
        "calibrators.md", "calibrators.csv",
    }  # fmt: skip
    # The page links what lies there.
    links = re.findall(r"\]\((\S+)\)", (finished_cascade / "report.md").read_text())
    assert {"cascade/cascade.md", "cascade/calibrators.md", "cascade/deferral.png"} < set(links)
    assert all((finished_cascade / link).is_file() for link in links)
    kinds = [row["calibrator"] for row in report["cascade"]["calibrators"]]
    assert kinds == ["none", "temperature", "affine", "isotonic"]
    # The light model of the cascade is the student of the report, the heavy one its teacher.
    for who, name in (("student", "light"), ("teacher", "heavy")):
        assert report["cascade"]["test"][name]["auroc"] == pytest.approx(
            report["test"][who]["auroc"]
        )
    assert report["cascade"]["policy"]["rule"] == "budget"
    assert set(report["cascade"]["latency"]) == {"kept", "deferred"}
    assert Policy.load(folder / "policy.json").data == report["data_fingerprint"]


def test_two_saved_models_give_the_same_cascade_as_the_run(finished_cascade, models, tmp_path):
    said.lines.clear()
    figures = fit(compose(*models, f"out={tmp_path / 'c'}"), said)
    assert said.lines[-1] == f"cascade  {tmp_path / 'c'}"
    report = json.loads((finished_cascade / "report.json").read_text())["cascade"]
    for who in ("light", "cascade", "heavy"):
        assert figures["test"][who] == pytest.approx(report["test"][who], abs=1e-5, nan_ok=True)
    ours, its = (
        Policy.load(f / "policy.json") for f in (tmp_path / "c", finished_cascade / "cascade")
    )
    assert ours.threshold == pytest.approx(its.threshold, abs=1e-5)
    assert ours.light_fingerprint == its.light_fingerprint
    assert ours.data == its.data
    assert load_cascade(tmp_path / "c").light.folder == finished_cascade / "student"


def test_budget_0_and_1_keep_and_defer_everything(models, tmp_path):
    for budget, who in ((0.0, "light"), (1.0, "heavy")):
        out = tmp_path / f"{budget}"
        figures = fit(compose(*models, f"out={out}", f"budget={budget}"), said)
        assert figures["deferred"] == budget
        assert figures["test"]["cascade"] == figures["test"][who]
        price = figures["seconds_per_1000"]
        assert price["light"] < price["cascade"] or budget == 0


def test_words_reach_the_policy(models, tmp_path):
    words = ("gate=band", "gate_options={low: 0.2, high: 0.6}", "calibrator=none",
             "threshold=0", "deferred=stack", "precision=0.3")  # fmt: skip
    fit(compose(*models, f"out={tmp_path / 'c'}", *words), said)
    policy = Policy.load(tmp_path / "c" / "policy.json")
    assert policy.gate.name == "band" and policy.gate.options == {"low": 0.2, "high": 0.6}
    assert policy.threshold == 0 and policy.deferred == "stack"
    assert set(RULES) < set(SETTINGS)
    # No word of the config is passed over.
    assert set(yaml.safe_load((config.folder("conf") / "cascade/entropy.yaml").read_text())) <= set(
        SETTINGS
    )


def test_a_promise_that_the_clips_cannot_keep_is_refused(models, tmp_path, monkeypatch):
    def collect(*given, **words):
        raise AssertionError("scored clips whose labels are too few")

    monkeypatch.setattr("coefvq.evaluation.collect.collect", collect)
    words = ("recall=0.98", f"out={tmp_path / 'c'}")
    with pytest.raises(ValueError, match=r"needs at least 297 labelled positives .*, got \d+;"):
        fit(compose(*models, *words), said)
    assert not (tmp_path / "c").exists()


def test_a_model_is_no_heavy_one_for_itself(finished_cascade, models, tmp_path, monkeypatch):
    light, _ = models
    monkeypatch.setattr("coefvq.prepare.prepared_data", None)  # said before a clip is read
    copied = shutil.copytree(finished_cascade / "student", tmp_path / "copied")
    for heavy in (light.partition("=")[2], copied):
        with pytest.raises(ValueError, match="are the same, config and weights, so that one cann"):
            fit(compose(light, f"heavy={heavy}", f"out={tmp_path / 'c'}"), said)
    with pytest.raises(ValueError, match="are the same, config and weights"):
        both = f"light=[{models[1].partition('=')[2]},{copied}]"
        fit(compose(both, light.replace("light", "heavy", 1), "gate=disagreement",
                    f"out={tmp_path / 'c'}"), said)  # fmt: skip


def test_what_must_be_known_reaches_page_and_screen(models, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    GlobalHydra.instance().clear()
    words = ("calibrator=temperature", "serving_prevalence=0.05", "budget=1", "out=c")
    monkeypatch.setattr(sys, "argv", ["fit_cascade", *models, *DATA, *words])
    fit_cascade._main()
    screen = " ".join(capsys.readouterr().out.split())
    page = (tmp_path / "c" / "cascade.md").read_text()
    for part in (
        "the policy serves 5.0%: all figures are weighted to that",
        "does not move the probabilities of the light and the heavy model: calibrator temperature",
        "validation clips are positive: what is fitted on fewer than 30",
        "the cascade saves nothing",  # a budget of 1 pays for both models
    ):
        assert part in screen and part in page
    assert "of 16 test clips one at a time; of fewer than 100" in page
    assert "weighted to the serving prevalence" in (tmp_path / "c" / "calibrators.md").read_text()


def test_two_rules_are_refused(models, tmp_path):
    with pytest.raises(ValueError, match="give exactly one of budget"):
        fit(compose(*models, "budget=0.1", "recall=0.5", f"out={tmp_path / 'c'}"), said)


def test_a_cascade_is_not_overwritten_unasked(finished_cascade, models, tmp_path):
    before = (finished_cascade / "cascade" / "policy.json").read_text()
    with pytest.raises(ValueError, match=r"holds a cascade; add overwrite=true or give another"):
        fit(compose(*models), said)  # out is beside the student, where the run wrote its own
    assert (finished_cascade / "cascade" / "policy.json").read_text() == before
    out = f"out={tmp_path / 'c'}"
    fit(compose(*models, out, "budget=0"), said)
    fit(compose(*models, out, "budget=1", "overwrite=true"), said)
    assert json.loads((tmp_path / "c" / "cascade.json").read_text())["deferred"] == 1


def test_data_of_another_task_are_refused(models, tmp_path):
    with pytest.raises(ValueError, match=r"answers binary .*, but the data are multiclass"):
        fit(compose(*models, "data.task=level", f"out={tmp_path / 'c'}"), said)


def test_models_that_read_differently_share_their_clips(finished_cascade, models, small, tmp_path):
    words = ("+recipe=supervised", "data.num_frames=1", "data.audio=false")
    pipeline.run(small(*words, folder=tmp_path / "run"), show=False)
    light = f"light={tmp_path / 'run' / 'student'}"
    figures = fit(compose(light, models[1]), said)
    found = load_cascade(tmp_path / "run" / "cascade")
    assert found.light.inputs.num_frames == 1 and found.heavy.inputs.num_frames == 2
    assert not found.one_reading
    assert figures["cost"]["heavy_decode_seconds"] > 0
    report = json.loads((finished_cascade / "report.json").read_text())
    assert figures["test"]["heavy"]["auroc"] == pytest.approx(report["test"]["teacher"]["auroc"])
    assert (
        json.loads((tmp_path / "run" / "cascade" / "models.json").read_text())["light"]
        == "../student"
    )


def test_from_the_command_line(models, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def call(*words):
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["fit_cascade", *words])
        fit_cascade._main()

    call(*models, *DATA, "out=mine", "budget=0.25")
    printed = capsys.readouterr()
    assert "cascade, defers" in printed.out and "cascade  mine" in printed.err
    assert json.loads((tmp_path / "mine" / "cascade.json").read_text())["policy"]["level"] == 0.25
    with pytest.raises(SystemExit) as caught:
        call(*models, *DATA, "out=mine")
    assert caught.value.code == 2
    assert "out=mine holds a cascade" in capsys.readouterr().err


def test_several_light_models_answer_as_one(models, small, tmp_path, cascade_clips):
    words = ("+recipe=supervised", "seed=2", "data.split_seed=1")  # or it would know test clips
    pipeline.run(small(*words, folder=tmp_path / "run"), show=False)
    light, heavy = models
    other = tmp_path / "run" / "student"
    both = f"light=[{light.partition('=')[2]},{other}]"
    figures = fit(compose(both, heavy, "gate=disagreement", f"out={tmp_path / 'c'}"), said)
    cascade = load_cascade(tmp_path / "c")
    assert [m.folder for m in cascade.light.members][1] == other
    assert cascade.policy.light_fingerprint == cascade.light.fingerprint
    assert figures["gate"]["name"] == "disagreement"
    asked = list(answer_clips(cascade, cascade_clips, batch_size=5))
    for answer in asked:
        z = [
            float(m.logits(reader.collate([m.reader().read(answer.clip)])))
            for m in cascade.light.members
        ]
        assert float(answer.light_logits) == pytest.approx(np.mean(z), abs=1e-5)
        z = [cascade.policy.light_calibrator([value]) for value in z]
        assert answer.uncertainty == pytest.approx(disagreement(z, "binary")[0], abs=1e-5)
        assert answer.deferred == (answer.uncertainty >= cascade.policy.threshold)
    with pytest.raises(ValueError, match=r"reads one, got 2; use gate=disagreement"):
        fit(compose(both, heavy, f"out={tmp_path / 'd'}"), said)
    places = json.loads((tmp_path / "c" / "models.json").read_text())
    turned = places | {"light": places["light"][::-1]}
    (tmp_path / "c" / "models.json").write_text(json.dumps(turned))
    with pytest.raises(ValueError, match="fitted for the light model"):
        load_cascade(tmp_path / "c")


def test_models_that_are_not_there_are_named(models, tmp_path):
    light, heavy = models
    with pytest.raises(ValueError, match="heavy is not given; give heavy=, the folder of a model"):
        fit(compose(light), said)
    for words, sentence in (
        ((f"light={tmp_path / 'none'}", heavy), "none holds no model"),
        ((light, f"heavy={tmp_path}"), "holds no model"),
        ((f"light=[{light.partition('=')[2]},{light.partition('=')[2]}]", heavy), "twice"),
        (("light=[]", heavy), "light names no model"),
    ):
        with pytest.raises(ValueError, match=sentence):
            fit(compose(*words, f"out={tmp_path / 'c'}"), said)
