import json

import pytest
import torch
from small_models import FRAMES, random_batch, small_trunk

from coefvq.students.load import load_student
from coefvq.students.xvlm import XVLMStudent
from coefvq.teachers.df_xvlm import DFXVLM


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    student = XVLMStudent(1, small_trunk(), FRAMES).eval()
    student.save_pretrained(tmp_path / "student")
    return tmp_path / "student", student


def test_a_saved_student_answers_as_before(folder):
    path, student = folder
    loaded = load_student(path)
    assert isinstance(loaded, XVLMStudent) and not loaded.training
    batch = random_batch().public()
    with torch.no_grad():
        assert torch.equal(loaded(batch).logits, student(batch).logits)


def test_the_folder_cannot_choose_what_is_imported(folder):
    path, _ = folder
    content = json.loads((path / "config.json").read_text())
    content["class"] = "os.system"
    (path / "config.json").write_text(json.dumps(content))
    with pytest.raises(
        ValueError,
        match=r"os\.system, which is not a student \(BlindQuality, MatchLite, XVLMStudent\)",
    ):
        load_student(path)


def test_a_teacher_is_not_a_student(tmp_path):
    DFXVLM(1, 5).save_pretrained(tmp_path / "teacher")
    with pytest.raises(ValueError, match="holds a DFXVLM, which is not a student"):
        load_student(tmp_path / "teacher")


def test_an_empty_folder_holds_no_model(tmp_path):
    with pytest.raises(ValueError, match="holds no model"):
        load_student(tmp_path)
