import json
import shutil

import pytest
import torch
from small_lmm_vqa import moving_clips, small_lmm_vqa

from coefvq.data.reader import collate
from coefvq.serving.served_model import MODELS, load_served, model_fingerprint
from coefvq.students.load import load_student
from coefvq.types import InputSpec, TaskSpec


@pytest.fixture
def student(finished_cascade):
    return finished_cascade / "student"


@pytest.fixture
def copy(student, tmp_path):
    return shutil.copytree(student, tmp_path / "copy")


def edit(folder, change):
    path = folder / "config.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_it_answers_as_the_student_does(student, cascade_clips):
    served = load_served(student)
    batch = collate([served.reader().read(clip) for clip in cascade_clips[:3]])
    logits = served.logits(batch)
    assert logits.shape == (3,) and logits.dtype == torch.float32 and not logits.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(logits, load_student(student).eval()(batch.public()).logits)
    assert served.folder.is_absolute() and not served.module.training
    assert served.task.kind == "binary" and 0 <= served.threshold <= 1
    assert served.to("cpu") is served


def test_the_teacher_of_a_run_is_served_too(finished_cascade, cascade_clips):
    report = json.loads((finished_cascade / "report.json").read_text())
    served = load_served(report["paths"]["teacher"])
    assert served.task == load_served(finished_cascade / "student").task
    assert served.logits(collate([served.reader().read(cascade_clips[0])])).shape == (1,)


def test_a_fingerprint_is_of_config_and_weights_not_of_the_place(student, copy):
    print_ = model_fingerprint(student)
    assert len(print_) == 16 and int(print_, 16) >= 0
    assert model_fingerprint(copy) == print_ == load_served(copy).fingerprint
    (copy / "notes.txt").write_text("something beside the model")
    assert model_fingerprint(copy) == print_
    edit(copy, lambda content: content["metadata"].update(threshold=0.123))
    assert model_fingerprint(copy) != print_


def test_one_changed_weight_is_another_fingerprint(student, copy):
    model = load_student(student)
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1e-3
    weights = copy / "model.safetensors"
    model.save_pretrained(copy / "new")
    shutil.copy(copy / "new" / "model.safetensors", weights)
    shutil.rmtree(copy / "new")
    assert model_fingerprint(copy) != model_fingerprint(student)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: c.update({"class": "MatchLite"}), "judges pairs"),
        (
            lambda c: c.update({"class": "DFXVLMTeacher"}),
            "cannot be served: it is not one of",
        ),
        (lambda c: c["metadata"].pop("inputs"), "does not say how it reads a clip"),
        (lambda c: c["metadata"].pop("task"), "does not say how it reads a clip"),
    ],
)
def test_what_cannot_be_served_is_said(copy, change, sentence):
    edit(copy, change)
    with pytest.raises(ValueError, match=sentence):
        load_served(copy)


def test_a_folder_without_a_model_is_said(tmp_path):
    for call in (load_served, model_fingerprint):
        with pytest.raises(ValueError, match="holds no model"):
            call(tmp_path)


def test_a_multimodal_language_model_can_be_the_heavy_one():
    assert "ClipMLLM" in {c.__name__ for c in MODELS}
    assert "MatchLite" not in {c.__name__ for c in MODELS}


@pytest.mark.parametrize("read_out", ["number", "level", "head"])
def test_a_language_model_that_scores_quality_is_served_as_well(read_out, tmp_path):
    """Whatever is read out of it: saved, loaded, and asked about clips."""
    task = TaskSpec("quality", "regression", (), (0.0, 100.0))
    inputs = InputSpec(
        num_frames=2, frame_size=24, audio=False, text_fields=(), motion_frames=4, motion_size=20
    )
    teacher = small_lmm_vqa(read_out=read_out)
    metadata = {"task": task.to_dict(), "inputs": inputs.to_dict()}
    teacher.save_pretrained(tmp_path / "teacher", metadata=metadata)
    served = load_served(tmp_path / "teacher")
    assert served.reader().inputs == inputs
    batch = moving_clips(3)
    scores = served.logits(batch)
    with torch.no_grad():
        assert torch.equal(scores, teacher(batch).logits)
    assert scores.shape == (3,) and scores.isfinite().all()
