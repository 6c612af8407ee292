import dataclasses
import json
import shutil

import pytest
import torch

from coefvq.cascade.policy import Policy
from coefvq.modules.pretrained import load_metadata
from coefvq.serving.cascade_folder import is_cascade, load_cascade, save_cascade
from coefvq.students.load import load_student


@pytest.fixture
def cascade(finished_cascade):
    return finished_cascade / "cascade"


@pytest.fixture
def moved(finished_cascade, tmp_path):
    """The whole run, in another place."""
    return shutil.copytree(finished_cascade, tmp_path / "elsewhere" / "run")


def test_a_run_leaves_a_cascade_that_loads(cascade):
    assert is_cascade(cascade) and not is_cascade(cascade.parent)
    found = load_cascade(cascade)
    assert found.policy.light_fingerprint == found.light.fingerprint
    assert found.policy.heavy_fingerprint == found.heavy.fingerprint
    assert found.light.fingerprint != found.heavy.fingerprint
    assert found.one_reading  # a self-distilled student reads as its teacher does


def test_a_run_can_be_moved(moved, finished_cascade):
    places = json.loads((moved / "cascade" / "models.json").read_text())
    assert places["light"] == "../student"
    found = load_cascade(moved / "cascade")
    assert found.light.folder == (moved / "student").resolve()
    assert found.policy.to_dict() == load_cascade(finished_cascade / "cascade").policy.to_dict()


def test_models_elsewhere_are_named_by_their_whole_path(cascade, tmp_path):
    found = load_cascade(cascade)
    folder = save_cascade(tmp_path / "mine", found.policy, found.light.folder, found.heavy.folder)
    places = json.loads((folder / "models.json").read_text())
    assert places == {"light": str(found.light.folder), "heavy": str(found.heavy.folder)}
    assert load_cascade(folder).policy.to_dict() == found.policy.to_dict()


def test_a_cascade_is_not_overwritten_unasked(cascade, tmp_path):
    found = load_cascade(cascade)
    models = found.light.folder, found.heavy.folder
    folder = save_cascade(tmp_path / "mine", found.policy, *models)
    other = dataclasses.replace(found.policy, threshold=0.125)
    with pytest.raises(ValueError, match="already holds a cascade; give another out= or overwr"):
        save_cascade(folder, other, *models)
    assert Policy.load(folder / "policy.json").threshold == found.policy.threshold
    save_cascade(folder, other, *models, overwrite=True)
    assert Policy.load(folder / "policy.json").threshold == 0.125


@pytest.mark.parametrize("who", ["light", "heavy"])
def test_a_model_that_was_changed_is_refused(changed_cascade, who):
    folder = changed_cascade()
    places = json.loads((folder / "models.json").read_text())
    other = folder / "other"
    shutil.copytree(places[who], other)
    model = load_student(other)
    with torch.no_grad():
        next(model.parameters()).add_(0.01)
    metadata = load_metadata(other)
    tokenizer = {p.name: p.read_bytes() for p in other.glob("tokenizer*")}
    model.save_pretrained(other, metadata=metadata, overwrite=True)
    for name, content in tokenizer.items():
        (other / name).write_bytes(content)
    (folder / "models.json").write_text(json.dumps(places | {who: "other"}))
    with pytest.raises(ValueError, match=rf"fitted for the {who} model .* or fit the policy again"):
        load_cascade(folder)


def test_exchanged_models_are_refused(changed_cascade):
    folder = changed_cascade()
    places = json.loads((folder / "models.json").read_text())
    exchanged = {"light": places["heavy"], "heavy": places["light"]}
    (folder / "models.json").write_text(json.dumps(exchanged))
    with pytest.raises(ValueError, match="the policy was fitted for the light model"):
        load_cascade(folder)


def test_models_of_two_tasks_are_refused(changed_cascade):
    folder = changed_cascade()
    places = json.loads((folder / "models.json").read_text())
    other = folder / "other"
    shutil.copytree(places["heavy"], other)
    config = json.loads((other / "config.json").read_text())
    config["metadata"]["task"]["classes"] = ["quiet", "loud"]
    (other / "config.json").write_text(json.dumps(config))
    (folder / "models.json").write_text(json.dumps(places | {"heavy": "other"}))
    with pytest.raises(ValueError, match=r"\['quiet', 'loud'\]; give two models of one task"):
        load_cascade(folder)


def test_a_model_that_is_gone_is_said(changed_cascade):
    folder = changed_cascade()
    places = json.loads((folder / "models.json").read_text())
    (folder / "models.json").write_text(json.dumps(places | {"heavy": "gone"}))
    with pytest.raises(ValueError, match=r"heavy model .*gone; write its new place into"):
        load_cascade(folder)


@pytest.mark.parametrize("content", ["{", "[]", '{"light": "x"}', "null"])
def test_a_damaged_list_of_models_is_said(changed_cascade, content):
    folder = changed_cascade()
    (folder / "models.json").write_text(content)
    with pytest.raises(ValueError, match=r"models\.json does not name both models"):
        load_cascade(folder)


def test_no_cascade_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"holds no cascade \(no policy\.json\)"):
        load_cascade(tmp_path)


def test_one_reading_is_what_serving_reads_not_what_training_drew(cascade):
    found = load_cascade(cascade)

    def with_inputs(**changes):
        heavy = dataclasses.replace(
            found.heavy, inputs=dataclasses.replace(found.heavy.inputs, **changes)
        )
        return dataclasses.replace(found, heavy=heavy).one_reading

    assert with_inputs()
    assert with_inputs(train_sampling="random_segments")
    assert not with_inputs(num_frames=4)
    assert not with_inputs(text_fields=())
    assert not dataclasses.replace(
        found, heavy=dataclasses.replace(found.heavy, tokenizer=None)
    ).one_reading
