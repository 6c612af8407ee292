import dataclasses
import json
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from coefvq.cascade.calibrators import no_calibration
from coefvq.cascade.fitting import fit_policy
from coefvq.cascade.policy import Policy
from coefvq.cascade.routing import Gate

TASKS = ["binary", "multiclass", "multilabel"]
KIND = {"binary": "affine", "multiclass": "vector", "multilabel": "affine"}


def fitted(task, shaped, **options):
    light, labels = shaped(task, n=400)
    heavy = 1.7 * light + 0.3
    given = {"budget": 0.2, "calibrator": KIND[task], "light_fingerprint": "aa11",
             "heavy_fingerprint": "bb22", "data": "cc33"} | options  # fmt: skip
    return fit_policy(light, heavy, labels, task=task, **given), light, heavy


@pytest.mark.parametrize("task", TASKS)
def test_budget_0_is_the_light_model_and_1_the_heavy_to_the_bit(task, shaped):
    for calibrator in ("none", KIND[task]):
        for budget in (0, 1):
            policy, light, heavy = fitted(task, shaped, budget=budget, calibrator=calibrator)
            other, _ = shaped(task, n=300, seed=9)
            for z, h in ((light, heavy), (other, 1.3 * other)):
                routes = policy.decide(z).routes
                assert (routes == bool(budget)).all()
                alone = policy.heavy_calibrator(h) if budget else policy.light_calibrator(z)
                final = policy.combine(z, h, routes)
                np.testing.assert_array_equal(final, alone)
                if calibrator == "none":
                    np.testing.assert_array_equal(final, h if budget else z)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("gate", ["entropy", "learned"])
def test_a_clip_routed_twice_gives_the_same_answer_whatever_its_batch(task, gate, shaped):
    policy, light, heavy = fitted(task, shaped, gate=gate, deferred="stack")
    whole = policy.decide(light)
    final = policy.combine(light, heavy, whole.routes)
    order = np.random.default_rng(0).permutation(len(light))
    for size in (1, 3, 8, 50):
        for start in range(0, len(light), size):
            rows = order[start : start + size]
            part = policy.decide(light[rows])
            np.testing.assert_array_equal(part.routes, whole.routes[rows])
            np.testing.assert_array_equal(part.uncertainty, whole.uncertainty[rows])
            again = policy.combine(light[rows], heavy[rows], part.routes)
            np.testing.assert_array_equal(again, final[rows])


def test_tensors_of_any_dtype_and_arrays_give_one_answer(shaped):
    policy, light, heavy = fitted("binary", shaped)
    tensor = torch.tensor(light, dtype=torch.float32)
    found = policy.decide(tensor)
    np.testing.assert_array_equal(found.routes, policy.decide(tensor.numpy()).routes)
    final = policy.combine(tensor, torch.tensor(heavy), torch.from_numpy(found.routes))
    assert final.dtype == np.float64


def test_what_was_kept_is_never_read(shaped):
    policy, light, heavy = fitted("multilabel", shaped)
    routes = policy.decide(light).routes
    assert 0 < routes.sum() < len(routes)
    holes = np.where(routes[:, None], heavy, np.nan)
    np.testing.assert_array_equal(
        policy.combine(light, holes, routes), policy.combine(light, heavy, routes)
    )
    with pytest.raises(ValueError, match=r"heavy logits of 1 of .* NaN"):
        holes[np.flatnonzero(routes)[0]] = np.nan
        policy.combine(light, holes, routes)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("budget", [0, 0.2, 1])
def test_it_is_saved_as_one_json_and_comes_back(task, budget, shaped, tmp_path):
    policy, light, heavy = fitted(task, shaped, budget=budget, gate="learned", deferred="stack")
    path = tmp_path / "made" / "policy.json"
    policy.save(path)
    json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    again = Policy.load(path)
    assert again == policy and [p.name for p in path.parent.iterdir()] == ["policy.json"]
    a, b = policy.decide(light), again.decide(light)
    np.testing.assert_array_equal(a.routes, b.routes)
    np.testing.assert_array_equal(a.uncertainty, b.uncertainty)
    final = again.combine(light, heavy, b.routes)
    np.testing.assert_array_equal(final, policy.combine(light, heavy, a.routes))
    np.testing.assert_array_equal(again.answers(final), policy.answers(final))
    assert pickle.loads(pickle.dumps(policy)) == policy


def test_it_loads_without_torch_lightning_or_hydra(shaped, tmp_path):
    policy, light, _ = fitted("binary", shaped)
    policy.save(tmp_path / "p.json")
    code = (
        "import sys; from coefvq.cascade.policy import Policy;"
        f"p = Policy.load({str(tmp_path / 'p.json')!r});"
        f"print(p.decide({light[:50].tolist()}).routes.tolist());"
        "bad = {'torch', 'lightning', 'hydra', 'transformers', 'sklearn'} & set(sys.modules);"
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(policy.decide(light[:50]).routes.tolist())


def test_it_cannot_be_changed(shaped):
    policy, _, _ = fitted("binary", shaped)
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.threshold = 0.0


def test_models_that_do_not_match_are_refused(shaped):
    policy, _, _ = fitted("binary", shaped)
    policy.check_models("aa11", "bb22")
    with pytest.raises(ValueError, match="for the light model aa11, got bb22; use that model"):
        policy.check_models("bb22", "bb22")
    with pytest.raises(ValueError, match=r"for the heavy model bb22, got \(unknown\)"):
        policy.check_models("aa11", "")
    unknown, _, _ = fitted("binary", shaped, light_fingerprint="")
    with pytest.raises(ValueError, match=r"for the light model \(unknown\), got aa11"):
        unknown.check_models("aa11", "bb22")


def test_disagreement_reads_several_models(shaped):
    light, labels = shaped("binary", n=300)
    members = np.stack([light, light[::-1]])
    policy = fit_policy(members, light, labels, task="binary", gate="disagreement", budget=0.3,
                        gate_options={"measure": "js"})  # fmt: skip
    decision = policy.decide(members)
    assert decision.routes.mean() == pytest.approx(0.3, abs=0.01)
    kept = policy.combine(members, light, np.zeros(300, dtype=bool))
    np.testing.assert_array_equal(kept, policy.light_calibrator((light + light[::-1]) / 2))
    with pytest.raises(ValueError, match="reads"):
        policy.decide(light)


def plain(**changes):
    raw = no_calibration()
    parts = {"task": "binary", "outputs": 1, "gate": Gate("entropy", "binary"), "threshold": 0.5}
    return Policy(**(parts | {"light_calibrator": raw, "heavy_calibrator": raw} | changes))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plain(threshold=math.nan), "threshold is NaN"),
        (lambda: plain(gate=Gate("entropy", "multilabel")), "gate is for a multilabel task"),
        (lambda: plain(deferred="stack"), "fitted stack if, and only if"),
        (lambda: plain(decision_threshold=1.2), "in .0, 1."),
        (lambda: plain(decision_threshold=(0.5,)), "1 decision thresholds for a binary"),
        (lambda: plain().decide([[0.0]]), r"light logits of shape \(1, 1\)"),
        (lambda: plain().decide([np.nan]), "light logits of 1 of 1 clips are NaN"),
        (lambda: plain().combine([0.0], [0.0, 1.0], [True]), "heavy_logits of shape"),
        (lambda: plain().combine([0.0], [0.0], [True, False]), "routes must have shape"),
        (lambda: Policy.from_dict({"version": 7}), "version 7, expected 1"),
        (lambda: Policy.from_dict({"version": 1}), "damaged or incomplete"),
        (lambda: Policy.from_dict(plain().to_dict() | {"new": 1}), "damaged or incomplete"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_files_that_are_no_policy(tmp_path):
    with pytest.raises(ValueError, match="no policy at"):
        Policy.load(tmp_path / "missing.json")
    for content, message in (("{", "not JSON"), ("[]", "expected a JSON object")):
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            Policy.load(tmp_path / "x.json")


def leaves(value, path=()):
    """Every place in a nest of dicts and lists."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items if isinstance(value, dict | list) else ():
        yield from leaves(inner, (*path, key)) if isinstance(inner, dict | list) else [(*path, key)]


@pytest.mark.parametrize("gate", ["learned", "disagreement"])
def test_a_policy_edited_by_hand_is_refused_in_one_sentence_or_still_decides(gate, shaped):
    """Whatever stands in any place: a ValueError when loading, never another error later."""
    light, labels = shaped("binary", n=400)
    several = np.stack([light, light[::-1]])
    given = several if gate == "disagreement" else light
    policy = fit_policy(given, 1.7 * light, labels, task="binary", gate=gate, budget=0.2,
                        deferred="stack", calibrator="isotonic")  # fmt: skip
    stored = json.dumps(policy.to_dict())
    refused = 0
    for path in list(leaves(json.loads(stored)))[1:]:
        if path[0] in ("fitted", "expected", "data"):
            continue
        for wrong in (None, math.nan, "x", -1, [], {}, [None], {"a": 1}, True, 1e400):
            values = json.loads(stored)
            place = values
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = wrong
            try:
                found = Policy.from_dict(values)
            except ValueError as error:
                refused += 1
                assert "\n" not in str(error) and len(str(error)) < 300, (path, wrong)
                continue
            try:
                routes = found.decide(given).routes
                final = found.combine(given, 1.7 * light, routes)
                assert not np.isnan(final).any(), (path, wrong)
                found.answers(final)
            except ValueError as error:
                raise AssertionError((path, wrong, str(error))) from error
    assert refused > 100
