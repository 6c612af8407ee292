"""Terms that read what nobody answers are refused before the teacher's work."""

import pytest

from coefvq import pipeline
from coefvq.teacher_supply.answers import check_answers
from coefvq.types import TaskSpec

SCORES = TaskSpec("quality", "regression", (), (1.0, 5.0))
CPFD, LEVELS = "objective=score_cpfd", "objective=level_kd"
BOTH = ("teacher=ensemble", "teacher.members=[dense,lmm_vqa]")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["pfd_quality", CPFD], r"confidence=std, .* and teacher=dense does not .*folds=5"),
        (
            ["pfd_quality", CPFD, "objective.confidence=level_spread"],
            r"terms\.cpfd is a ScoreCPFDLoss, .* levels, and teacher=dense has none",
        ),
        (["lmm_vqa_kd", LEVELS], r"terms\.level.* the score alone; set student\.levels=5"),
        (["pfd_quality", LEVELS, "student.levels=5"], r"level_kd .* and teacher=dense has none"),
        (["lmm_vqa_kd", LEVELS, "student.levels=5", "teacher.folds=5"], "teachers together"),
        (["lmm_vqa_kd", LEVELS, "student.levels=5", *BOTH], "teacher=ensemble has none"),
        (
            ["lmm_vqa_kd", LEVELS, "student.levels=5", "teacher.model.config.questions=[score]"],
            "with the question level",
        ),
    ],
)
def test_what_nobody_answers_is_refused(words, sentence, small, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        check_answers(small(f"+recipe={words[0]}", *words[1:], folder=tmp_path), SCORES)


@pytest.mark.parametrize(
    "words",
    [
        ["pfd_quality"],
        ["pfd_quality", CPFD, "teacher.folds=5"],
        ["pfd_quality", CPFD, "objective.confidence=uniform"],
        ["pfd_quality", CPFD, *BOTH],
        ["pfd_quality", CPFD, "phases=[teacher]"],
        ["pfd_quality", CPFD, "teacher=cached", "teacher.path=elsewhere"],
        ["lmm_vqa_kd", CPFD],
        ["lmm_vqa_kd", LEVELS, "student.levels=5"],
    ],
)
def test_what_goes_together_passes(words, small, tmp_path):
    check_answers(small(f"+recipe={words[0]}", *words[1:], folder=tmp_path), SCORES)


def test_classes_have_levels_of_their_own(small, tmp_path):
    level = TaskSpec("level", "multiclass", ("good", "fair", "poor"))
    check_answers(small("+recipe=pfd_quality", LEVELS, folder=tmp_path), level)


def test_a_run_stops_before_its_teacher_is_trained(small, tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr("coefvq.teacher_supply.opening.get_teacher", lambda *a: trained.append(a))
    with pytest.raises(ValueError, match=r"teacher\.folds=5"):
        pipeline.run(small("+recipe=pfd_quality", CPFD, folder=tmp_path / "run"), show=False)
    assert not trained
