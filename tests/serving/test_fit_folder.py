import itertools
import json
import shutil
import subprocess
import sys
from types import SimpleNamespace
from typing import get_args

import hydra
import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from coefvq import config
from coefvq.cascade import report
from coefvq.cascade.calibrate import Kind
from coefvq.cascade.cost import Cost
from coefvq.cascade.policy import Policy
from coefvq.cascade.routing import GateName
from coefvq.evaluation.collect import Predictions
from coefvq.serving import cascade_cost, fit_folder
from coefvq.serving.fit_folder import RULES, SETTINGS
from coefvq.types import TaskSpec


def compose(*words):
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(config.folder("conf")), version_base="1.3"):
        return hydra.compose("fit_cascade", overrides=["light=x", "heavy=y", *words])


def scored(task, clips=1200, models=1, seed=0):
    """A weak model (or several) and a strong one of the same clips."""
    draw = np.random.default_rng(seed)
    width = {"binary": (), "multiclass": (3,), "multilabel": (2,)}[task]
    truth = draw.normal(size=(clips, *width))
    labels = truth.argmax(1) if task == "multiclass" else (truth > 0.8).astype(np.int64)

    def model(noise):
        logits = torch.from_numpy(2 * truth + noise * draw.normal(size=truth.shape)).float()
        mask = torch.ones(clips, dtype=torch.bool)
        return Predictions(tuple(map(str, range(clips))), logits, torch.from_numpy(labels), mask)

    lights = [model(3.0) for _ in range(models)]
    return lights if models > 1 else lights[0], model(0.5)


@pytest.fixture
def save(finished_cascade, tmp_path, monkeypatch):
    """Fit on made-up scores: `save("binary", "gate=learned")`. Costs are made up, too."""
    cost = Cost(0.01, 1.0, 0.1)
    monkeypatch.setattr(cascade_cost, "measure_cost", lambda *given: cost)
    took = {"p50": 0.1, "p99": 0.2}
    latencies = {"kept": took, "deferred": took}
    monkeypatch.setattr(cascade_cost, "latencies", lambda *given: latencies)
    monkeypatch.setattr(fit_folder, "write_cascade", lambda *given: None)
    monkeypatch.setattr(report, "normalised_area", lambda *given, **words: 0.0)  # takes long
    light = finished_cascade / "student"
    heavy = json.loads((finished_cascade / "report.json").read_text())["paths"]["teacher"]
    second = tmp_path / "second"
    shutil.copytree(light, second)
    settings = second / "config.json"
    settings.write_text(settings.read_text() + " ")  # the same model, another fingerprint
    number = itertools.count()

    def call(task, *words):
        several = "gate=disagreement" in words
        cfg = compose(*words)
        classes = ("a", "b") if task != "multiclass" else ("a", "b", "c")
        data = SimpleNamespace(
            task=TaskSpec("made up", task, classes), fingerprint="made up",
            whole_split=lambda name: SimpleNamespace(clips=()),
        )  # fmt: skip
        folder = tmp_path / f"c{next(number)}"
        lights = [light, second] if several else light
        splits = (scored(task, models=2 if several else 1, seed=seed) for seed in (0, 1))
        figures = fit_folder.fit_and_save(
            folder, OmegaConf.masked_copy(cfg, SETTINGS), (lights, heavy), *splits, data
        )
        return Policy.load(folder / "policy.json"), figures, folder

    return call


WORDS = [
    ("binary", "gate=learned", "++gate_options={ridge: 0.1}", "deferred=stack", "budget=0.2"),
    ("binary", "gate=disagreement", "gate_options={measure: vote}", "budget=0.3"),
    ("binary", "gate=disagreement", "deferred=stack", "recall=0.9", "++recall_of=heavy",
     "calibrator=isotonic"),
    ("binary", "gate=band", "gate_options={high: 0.99}", "recall=0.95", "++recall_of=gate"),
    ("binary", "recall=0.6", "++false_alarms=0.1", "confidence=0.9"),
    ("binary", "expected_recall=0.85", "calibrator=temperature", "++heavy_calibrator=affine"),
    ("binary", "++miss_price=50", "++false_alarm_price=1", "calibrator=isotonic"),
    ("binary", "calibrator=prior_shift", "++train_prevalence=0.5", "serving_prevalence=0.05"),
    ("binary", "calibrator=none", "threshold=0.5", "precision=0.6"),
    ("multilabel", "gate_options={over: sum}", "budget=0.2"),
    ("multilabel", "gate_options={over: max}", "++miss_price=9", "deferred=stack"),
    ("multilabel", "gate=learned", "calibrator=isotonic", "budget=0.2"),
    ("multilabel", "gate=disagreement", "gate_options={measure: js, over: sum}", "budget=0.2"),
    ("multiclass", "gate=margin", "calibrator=vector", "budget=0.2"),
    ("multiclass", "gate=top_p_risk", "gate_options={p: 2}", "calibrator=matrix", "budget=0.2"),
    ("multiclass", "gate=learned", "calibrator=null", "++miss_price=20", "deferred=stack"),
    ("multiclass", "gate=disagreement", "calibrator=temperature", "budget=0.2"),
    ("multiclass", "calibrator=prior_shift", "++train_prevalence=[0.2,0.3,0.5]",
     "serving_prevalence=[0.4,0.3,0.3]", "budget=0.2"),
]  # fmt: skip

DECIDE = """
import json, sys
import numpy as np
from coefvq.cascade.policy import Policy
found = {}
for number, path in enumerate(sys.argv[1:]):
    policy = Policy.load(path)
    shape = {"binary": (50,)}.get(policy.task, (50, policy.outputs))
    draw = np.random.default_rng(number)
    light = draw.normal(size=(2, *shape) if policy.gate.several_models else shape)
    heavy = draw.normal(size=shape)
    routes = policy.decide(light).routes
    found[path] = [routes.tolist(), policy.combine(light, heavy, routes).tolist()]
there = [n for n in ("torch", "lightning", "hydra", "transformers") if n in sys.modules]
print(json.dumps([there, found]))
"""


def test_every_gate_calibrator_and_rule_is_saved_and_loads_without_lightning(save):
    policies = {}
    for task, *words in WORDS:
        policy, figures, folder = save(task, *words)
        given = dict(word.lstrip("+").split("=", 1) for word in words)
        assert policy.gate.name == given.get("gate", "entropy"), words
        rule = next((name for name in RULES if name in given), "budget")
        assert policy.fitted["rule"] == ("cost" if rule == "miss_price" else rule), words
        kind = given.get("calibrator", "affine").replace("null", "vector")
        assert policy.light_calibrator.to_dict()["kind"] == kind, words
        assert (policy.stack is not None) == (given.get("deferred") == "stack"), words
        assert len(policy.light_fingerprint.split("+")) == 1 + policy.gate.several_models
        assert 0 <= figures["deferred"] <= 1, words
        assert len(figures["calibrators"]) == 4
        policies[str(folder / "policy.json")] = policy
    assert {policy.gate.name for policy in policies.values()} == set(get_args(GateName))
    kinds = {policy.light_calibrator.to_dict()["kind"] for policy in policies.values()}
    assert kinds == set(get_args(Kind))
    done = subprocess.run(
        [sys.executable, "-c", DECIDE, *policies], capture_output=True, text=True, check=True
    )
    there, found = json.loads(done.stdout)
    assert there == []
    for number, (path, policy) in enumerate(policies.items()):
        shape = (50,) if policy.task == "binary" else (50, policy.outputs)
        draw = np.random.default_rng(number)
        light = draw.normal(size=(2, *shape) if policy.gate.several_models else shape)
        heavy = draw.normal(size=shape)
        routes = policy.decide(light).routes
        assert found[path] == [routes.tolist(), policy.combine(light, heavy, routes).tolist()]


@pytest.mark.parametrize(
    ("task", "words", "sentence"),
    [
        ("binary", ["budget=1.5"], r"budget must be a share from 0 to 1, got 1\.5; for 1\.5 %"),
        ("binary", ["budget=-1"], "budget must be a share from 0 to 1, got -1"),
        ("binary", ["budget=nan"], "budget must be a share from 0 to 1, got nan"),
        ("binary", ["budget=much"], "budget must be a share from 0 to 1, got 'much'"),
        ("binary", ["budget=0.1", "recall=0.9"], "got budget and recall"),
        ("binary", ["budget=0.1", "++miss_price=3"], "got budget and miss_price"),
        ("binary", ["recall=1"], "recall must be a share between 0 and 1"),
        ("binary", ["recall=0.9", "confidence=95"], "confidence must be .* for 95 % write 0.95"),
        ("binary", ["recall=0.9", "++recall_of=all"], "recall is of system, heavy, gate, got"),
        ("binary", ["budget=0.1", "++false_alarms=0.1"], "beside recall="),
        ("binary", ["recall=0.9", "++false_alarms=0.1", "precision=0.5"], "leave precision"),
        ("binary", ["++miss_price=-1"], "miss_price must be a finite number of at least 0, got -1"),
        ("binary", ["++false_alarm_price=1"], "goes with miss_price"),
        ("binary", ["threshold=nan"], "threshold must be a number"),
        ("binary", ["gate=margin"], "so use entropy"),
        ("binary", ["gate=sure"], "gate must be one of entropy, margin"),
        ("binary", ["gate=band"], "a band needs 0 <= low < high <= 1"),
        ("binary", ["gate=band", "gate_options=[1]"], "gate_options are names and values"),
        ("binary", ["gate=entropy", "gate_options={low: 1}"], "has no option 'low'"),
        ("binary", ["gate=learned", "gate_options={ridge: 0}"], "ridge must be above 0"),
        ("binary", ["gate=learned", "gate_options={low: 0}"], "one option, ridge"),
        ("binary", ["gate=disagreement"], r"reads several light models, got 1; give light=\["),
        ("binary", ["calibrator=vector"], "use affine, isotonic or temperature"),
        ("binary", ["calibrator=platt"], "calibrator must be one of none"),
        ("binary", ["++heavy_calibrator=matrix"], "use affine, isotonic or temperature"),
        ("binary", ["calibrator=prior_shift"], "needs train_prevalence and serving_prevalence"),
        ("binary", ["serving_prevalence=2"], "serving_prevalence must be one share between"),
        ("binary", ["deferred=mix"], "deferred must be replace or stack, got 'mix'"),
        ("multiclass", ["calibrator=affine"], "use vector, matrix or temperature"),
        ("multiclass", ["recall=0.9", "calibrator=null"], "one question with a yes"),
        ("multilabel", ["gate_options={over: mean}"], "over must be max or sum"),
    ],
)
def test_wrong_words_are_said_before_a_clip_is_scored(task, words, sentence):
    cfg = compose(*words)
    with pytest.raises(ValueError, match=sentence):
        fit_folder.fit_words(OmegaConf.masked_copy(cfg, SETTINGS), task)
