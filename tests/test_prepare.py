from types import SimpleNamespace

import pytest
from omegaconf import open_dict

from coefvq import engine
from coefvq.prepare import (
    answer_words,
    leave_out_sub_labels,
    own_tokenizer,
    prepared_data,
    tokenizer_of,
)
from coefvq.teacher_supply.training import get_teacher


@pytest.fixture(autouse=True)
def _quiet():
    engine.quiet()


@pytest.fixture
def prepared(small, tmp_path):
    """Config and data of a small run: `prepared("seed=5")`."""

    def prepare(*words):
        cfg = small("+recipe=cpfd", *words, folder=tmp_path / "run")
        return cfg, prepared_data(cfg, cfg.teacher.checkpoint)

    return prepare


def test_what_only_the_data_know_is_filled_in(prepared):
    cfg, data = prepared()
    assert dict(cfg.runtime) == {
        "task": "binary", "num_outputs": 1, "num_privileged": data.num_privileged,
        "vocab_size": len(data.tokenizer), "num_sub_labels": 0,
        "label_range": None, "text_fields": ["title"],
        "student_width": None, "teacher_width": None,
    }  # fmt: skip
    assert prepared("data.task=level")[0].runtime.num_outputs == 3
    assert prepared("data.task=quality")[0].runtime.label_range == [1.0, 5.0]


def test_data_keep_their_own_tokenizer_where_it_is_the_models(prepared, finished_run):
    cfg, own = prepared()
    again = prepared_data(cfg, finished_run / "student")
    assert again.tokenizer_name is None and again.fingerprint == own.fingerprint


def test_texts_are_read_with_the_models_tokenizer(prepared, finished_run):
    words = ("seed=6", "data.seed=0", "data.labelled=12")
    cfg, other = prepared(*words)
    wanted = tokenizer_of(finished_run / "student").get_vocab()
    assert other.tokenizer.get_vocab() != wanted
    data = prepared_data(cfg, finished_run / "student")
    assert data.tokenizer.get_vocab() == wanted
    assert cfg.runtime.vocab_size == len(wanted)
    batch = next(iter(data.test_dataloader()))
    title = data.splits["test"][0].text["title"]
    ids = data.tokenizer(title, truncation=True, max_length=12)["input_ids"]
    assert batch.input_ids[0, : len(ids)].tolist() == ids


def given(prepared, word="seed=16"):
    return get_teacher(*prepared(word)).folder


def test_a_named_tokenizer_of_another_vocabulary_is_refused(prepared, tmp_path):
    folder = given(prepared)
    _, other = prepared("seed=17")
    other.tokenizer.save_pretrained(tmp_path / "other")
    cfg, _ = prepared("seed=17", f"data.tokenizer={tmp_path / 'other'}")
    with pytest.raises(ValueError, match="another vocabulary"):
        prepared_data(cfg, folder)


def test_a_teacher_that_reads_no_text_needs_no_tokenizer(prepared):
    cfg, data = prepared("teacher=dense", "seed=16")
    assert tokenizer_of(get_teacher(cfg, data).folder) is None


def test_terms_of_kinds_of_change_go_with_their_schedules_where_no_pair_has_any(prepared):
    cfg, _ = prepared("seed=17")
    with open_dict(cfg):
        cfg.objective = {
            "terms": {
                "task": {"_target_": "coefvq.losses.SupervisedLoss"},
                "sub_labels": {"_target_": "coefvq.losses.SubLabelLoss"},
            },
            "weights": {"task": 1.0, "sub_labels": 1.0},
            "schedules": {"weights.sub_labels": "x", "weights.task": "y", "sub_labels.z": "z"},
        }
    leave_out_sub_labels(cfg, SimpleNamespace(sub_labels=("crop",)))
    assert set(cfg.objective.terms) == {"task", "sub_labels"}
    leave_out_sub_labels(cfg, SimpleNamespace())  # no pairs
    assert set(cfg.objective.terms) == {"task", "sub_labels"}
    leave_out_sub_labels(cfg, SimpleNamespace(sub_labels=()))
    assert set(cfg.objective.terms) == set(cfg.objective.weights) == {"task"}
    assert set(cfg.objective.schedules) == {"weights.task"}


def test_a_language_model_brings_its_own_tokenizer(prepared, tmp_path):
    _, other = prepared("seed=17")
    for folder in (tmp_path / "with", tmp_path / "without"):
        folder.mkdir()
    other.tokenizer.save_pretrained(tmp_path / "with")
    cfg, _ = prepared("seed=17")
    with open_dict(cfg):
        cfg.teacher = {"model": {"mllm": {"backbone": {"model_name_or_path": None}}}}
    assert own_tokenizer(cfg) is None
    cfg.teacher.model.mllm.backbone.model_name_or_path = str(tmp_path / "without")
    assert own_tokenizer(cfg) is None  # the model says what is missing
    cfg.teacher.model.mllm.backbone.model_name_or_path = str(tmp_path / "with")
    assert own_tokenizer(cfg) == str(tmp_path / "with")
    data = prepared_data(cfg)
    assert data.tokenizer_name == str(tmp_path / "with")


YES_NO = ("teacher.model.mllm.read_out=yes_no", "teacher.model.mllm.audio.mode=token")


def test_the_answer_words_of_the_teacher_are_tokens_of_a_tokenizer_made_here(
    small, small_pairs, tmp_path
):
    """Also where no training text has them; without such a teacher nothing changes."""
    for recipe in (["+recipe=mllm"], ["+recipe=matchlm", *small_pairs]):
        cfg = small(*recipe, *YES_NO, folder=tmp_path)
        assert answer_words(cfg) == ("yes", "no")
        data = prepared_data(cfg)
        ids = [data.tokenizer.encode(word, add_special_tokens=False) for word in ("yes", "no")]
        assert [len(i) for i in ids] == [1, 1] and max(ids)[0] < cfg.runtime.vocab_size
        plain = small(*recipe, folder=tmp_path)
        assert answer_words(plain) == ()
        other = prepared_data(plain)
        assert other.fingerprint != data.fingerprint
        assert set(data.tokenizer.get_vocab()) - set(other.tokenizer.get_vocab()) <= {"yes", "no"}
    own = small("+recipe=mllm", *YES_NO, "teacher.model.mllm.answer_words=[Good,bad]",
                folder=tmp_path)  # fmt: skip
    assert prepared_data(own).tokenizer.tokenize("good BAD") == ["good", "bad"]
