import logging

import pytest
import torch

from coefvq import engine, pipeline
from coefvq.prepare import prepared_data
from coefvq.student_start import check_student, first_stage, start_student


@pytest.fixture
def started(small, small_pairs, tmp_path):
    def make(*words):
        cfg, said = small("+recipe=matchlite", *small_pairs, *words, folder=tmp_path / "run"), []
        student = start_student(cfg, prepared_data(cfg), lambda line, **_: said.append(line))
        return student, said

    return make


def same(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_without_a_word_weights_are_random_and_follow_the_seed(started):
    first, said = started()
    assert said == [] and same(first, started()[0])
    assert not same(first, started("seed=2")[0])


def test_the_first_stage_is_trained_once_and_found_again(started, tmp_path):
    first, said = started("start=labels", "seed=3")
    assert said == ["start    matchlite, trained on hard labels"]
    assert not same(first, started("seed=3")[0])
    assert all(p.requires_grad for p in first.parameters())
    again, said = started("start=labels", "seed=3")
    assert said == ["start    matchlite, reused on hard labels"] and same(first, again)
    other, _ = started("start=labels", "seed=3", "optimizer.lr=1e-4")
    assert not same(first, other)
    first.save_pretrained(tmp_path / "model")
    loaded, said = started(f"start={tmp_path / 'model'}", "seed=3")
    assert same(first, loaded) and said == [f"start    {tmp_path / 'model'}"]
    with pytest.raises(ValueError, match="symmetric"):
        started(f"start={tmp_path / 'model'}", "seed=3", "student.config.symmetric=true")


def test_what_is_no_start_is_a_sentence(started):
    with pytest.raises(ValueError, match="start=nowhere is no folder; give one of a saved student"):
        started("start=nowhere")


def test_a_first_stage_on_all_labels_is_refused_where_some_are_hidden(small, tmp_path):
    words = ("+recipe=cpfd", "start=labels", "data.student_labels=0.5")
    cfg = small(*words, folder=tmp_path / "run")
    with pytest.raises(ValueError, match=r"data.student_labels=0.5 keeps some"):
        start_student(cfg, prepared_data(cfg), print)


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("student.config.modalities=X", "modalities"),
        ("start=nowhere", "start=nowhere is no folder"),
    ],
)
def test_a_wrong_student_is_refused_before_a_teacher_is_trained(
    word, sentence, small, small_pairs, tmp_path, monkeypatch
):
    def too_late(*_):
        raise AssertionError("a teacher was asked for")

    monkeypatch.setattr(pipeline, "open_teacher", too_late)
    cfg = small("+recipe=matchlm2lite", *small_pairs, word, folder=tmp_path / "run")
    with pytest.raises(ValueError, match=sentence):
        pipeline.run(cfg, show=False)


def test_frozen_encoders_without_weights_are_warned_about(small, small_pairs, tmp_path, caplog):
    words = ("+recipe=matchlite", *small_pairs, "student.config.modalities=V+A")
    cfg = small(*words, folder=tmp_path / "run")
    data, objective = prepared_data(cfg), pipeline.make_objective(cfg)
    with caplog.at_level(logging.WARNING):
        check_student(cfg, data, objective)
        assert caplog.messages == []
        cfg.student.config.encoders.frozen = True
        check_student(cfg, data, objective)
        found = [message.split()[0] for message in caplog.messages]
        assert found == ["student.pretrained.vision", "student.pretrained.audio"]
        caplog.clear()
        cfg.start = str(tmp_path)  # weights come from there
        check_student(cfg, data, objective)
        assert caplog.messages == []


def test_examples_that_no_term_learns_from_are_warned_about(small, small_pairs, tmp_path, caplog):
    words = ("+recipe=matchlm2lite", *small_pairs)
    for more, warned in (
        ([], False),
        (["objective=pair_supervised"], True),
        (["objective.weights={embedding: 0, logits: 0, task: 1, sub_labels: 1}"], True),
        (["objective=pair_supervised", "train_on=labelled"], False),
    ):
        cfg = small(*words, *more, folder=tmp_path / "run")
        data = prepared_data(cfg)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            check_student(cfg, data, pipeline.make_objective(cfg))
        assert any("add train_on=labelled" in said for said in caplog.messages) == warned


def test_the_first_stage_can_be_had_once_more(small, small_pairs, tmp_path):
    words = ("+recipe=matchlite", *small_pairs, "seed=3")
    cfg = small(*words, "start=labels", folder=tmp_path / "run")
    data = prepared_data(cfg)
    student = start_student(cfg, data, lambda *_, **__: None)
    assert same(first_stage(cfg, data), student)
    student.save_pretrained(tmp_path / "model")
    given = small(*words, f"start={tmp_path / 'model'}", folder=tmp_path / "run")
    assert same(first_stage(given, prepared_data(given)), student)
    assert first_stage(small(*words, folder=tmp_path / "run"), data) is None


def test_its_bar_is_not_called_a_teachers(small, small_pairs, tmp_path, monkeypatch):
    labels = []
    make = engine.make_trainer

    def seen(*rest, **options):
        labels.append((options["label"], options["learning_rate"]))
        return make(*rest, **options)

    monkeypatch.setattr(engine, "make_trainer", seen)
    cfg = small("+recipe=matchlite", *small_pairs, "seed=4", "start=labels", folder=tmp_path)
    start_student(cfg, prepared_data(cfg), lambda *_, **__: None)
    assert labels == [("student matchlite, first stage", "optimizer.lr")]
