import json
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import torch
from omegaconf import open_dict

from coefvq import engine
from coefvq.data.seen_clips import SEEN_CLIPS, clip_hashes, count_seen, read_seen
from coefvq.prepare import prepared_data, tokenizer_of
from coefvq.teacher_supply.training import get_teacher, teacher_objective, teacher_settings
from coefvq.teachers.rescaled import RescaledTeacher
from coefvq.types import Batch


@pytest.fixture
def prepared(small, tmp_path):
    """Config and data of a small run: `prepared("seed=5")`."""

    def prepare(*words, recipe="cpfd"):
        cfg = small(f"+recipe={recipe}", *words, folder=tmp_path / "run")
        return cfg, prepared_data(cfg, cfg.teacher.checkpoint)

    return prepare


def weights(module):
    return torch.cat([value.flatten().float() for value in module.state_dict().values()])


def test_no_teacher_is_none(prepared):
    assert get_teacher(*prepared(recipe="supervised")) is None


def test_a_teacher_is_trained_once_and_found_again(prepared):
    cfg, data = prepared("seed=11")
    first, second = get_teacher(cfg, data), get_teacher(cfg, data)
    assert not first.reused and first.seconds > 0
    assert second.reused and second.seconds == 0
    assert first.fingerprint == second.fingerprint and first.folder == second.folder
    assert torch.equal(weights(first.module), weights(second.module))
    stored = json.loads((first.folder.parent / "teacher.json").read_text())
    assert stored["fingerprint"] == first.fingerprint
    # Nobody goes on from a finished training: its checkpoints would only take room.
    assert not (first.folder.parent / "checkpoints").exists()


def test_half_a_save_is_done_again(prepared):
    cfg, data = prepared("seed=12")
    first = get_teacher(cfg, data)
    (first.folder.parent / "teacher.json").unlink()  # killed before the last word
    (first.folder / "model.safetensors").write_bytes(b"half")
    second = get_teacher(cfg, data)
    assert not second.reused and torch.equal(weights(first.module), weights(second.module))


def test_two_runs_that_want_the_same_teacher_train_it_once(small, tmp_path):
    found = []

    def want(name):
        cfg = small("+recipe=cpfd", "seed=13", folder=tmp_path / name)
        found.append((cfg, prepared_data(cfg)))

    for name in "ab":
        want(name)
    teachers = []
    threads = [
        threading.Thread(target=lambda pair=pair: teachers.append(get_teacher(*pair)))
        for pair in found
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(teacher.reused for teacher in teachers) == [False, True]
    assert torch.equal(weights(teachers[0].module), weights(teachers[1].module))


@pytest.mark.slow
def test_two_processes_that_want_the_same_teacher_train_it_once(
    small_words, tmp_path, start_process
):
    command = [sys.executable, "-m", "coefvq.train", "+recipe=cpfd", *small_words, "seed=14"]
    runs = [
        start_process(
            [*command, f"run_dir={tmp_path / name}"], stderr=subprocess.PIPE, text=True,
            stdout=subprocess.DEVNULL, env=os.environ,
        )
        for name in "ab"
    ]  # fmt: skip
    said = [run.communicate(timeout=250)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    # Of the answers that are kept on disk, too, some may be found; who comes first there is open.
    assert sorted("df_xvlm, reused" in text for text in said) == [False, True], said
    assert sum("df_xvlm, trained" in text for text in said) == 1, said


@pytest.mark.parametrize(
    "word",
    [
        "seed=2",
        "teacher.training.max_steps=3",
        "teacher.training.lr=0.125",
        "teacher.training.label_smoothing=0.1",
        "teacher.model.fusion=gated",
        "student.trunk.width=32",  # the teacher's trunk is the student's
        "data.labelled=23",
        "data.label_noise=heavy",
        "data.batch_size=4",
        "data.max_text_length=8",
        "optimizer.betas=[0.9,0.99]",
        "scheduler=constant",
        "trainer.gradient_clip_val=0.5",
    ],
)
def test_whatever_decides_the_weights_changes_the_fingerprint(prepared, word):
    assert teacher_settings(*prepared()) != teacher_settings(*prepared(word))


@pytest.mark.parametrize(
    "words",
    [
        ("resume=true",),
        ("objective.distill_weight=0.25",),
        ("trainer.max_steps=77",),
        ("optimizer.lr=0.5", "optimizer.weight_decay=0.25"),  # the teacher has its own
        ("logger=tensorboard",),
        ("name=mine",),
    ],
)
def test_what_is_the_students_alone_does_not(small, tmp_path, words):
    settings = []
    for own in ((), words):
        folder = tmp_path / ("elsewhere" if own else "run")
        cfg = small("+recipe=cpfd", *own, folder=folder)
        settings.append(json.dumps(teacher_settings(cfg, prepared_data(cfg))))
    assert settings[0] == settings[1]


def test_training_clips_are_the_labelled_ones(prepared, monkeypatch):
    cfg, data = prepared("seed=15")
    seen: set[str] = set()
    fit = engine.fit

    def look(trainer, module, train, val, last):
        for batch in train:
            assert batch.label_mask.all()
            seen.update(batch.ids)
        fit(trainer, module, train, val, last)

    monkeypatch.setattr(engine, "fit", look)
    get_teacher(cfg, data)
    labelled = {clip.id for clip in data.splits["train"] if clip.label is not None}
    assert seen == labelled and len(labelled) == 24


def test_a_teacher_remembers_the_clips_that_it_was_shown(prepared):
    cfg, data = prepared("seed=17")
    labelled = [clip for clip in data.splits["train"] if clip.label is not None]
    first = get_teacher(cfg, data)
    known = read_seen(first.folder)
    assert count_seen(clip_hashes(labelled), known) == len(known) == 24
    # One of an older version is told, on the same data, and is the same teacher.
    (first.folder / SEEN_CLIPS).unlink()
    again = get_teacher(cfg, data)
    assert again.reused and again.fingerprint == first.fingerprint
    assert (read_seen(first.folder) == known).all()
    # A fold's teacher was not shown its fold.
    hidden = labelled[:6]
    fold = get_teacher(cfg, data, {clip.id for clip in hidden})
    assert (
        count_seen(clip_hashes(hidden), read_seen(fold.folder)) == 0
        and len(read_seen(fold.folder)) == 18
    )


def given(prepared, word="seed=16"):
    return get_teacher(*prepared(word)).folder


def test_a_given_teacher_is_loaded(prepared):
    folder = given(prepared)
    teacher = get_teacher(*prepared("seed=16", f"teacher.checkpoint={folder}"))
    assert teacher.reused and teacher.folder == folder and len(teacher.fingerprint) == 64


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["data.task=level"], "has num_outputs=1, but task 'level' on this data needs 3"),
        (["data.privileged=history"], "has num_privileged=.* needs 5"),
    ],
)
def test_a_given_teacher_must_fit_the_data(prepared, words, sentence):
    folder = given(prepared)
    cfg, data = prepared(*words)
    with open_dict(cfg):
        cfg.teacher.checkpoint = str(folder)
    with pytest.raises(ValueError, match=sentence):
        get_teacher(cfg, data)


def test_a_given_teacher_must_know_the_features_in_this_order(prepared):
    folder = given(prepared)
    cfg, data = prepared("seed=16", f"teacher.checkpoint={folder}")
    names = data.normalizer.names
    object.__setattr__(data.normalizer, "names", names[::-1])
    with pytest.raises(ValueError, match="give the same ones in the same order"):
        get_teacher(cfg, data)
    object.__setattr__(data.normalizer, "names", names)


def test_a_given_teacher_reads_other_data_as_it_learnt_to(prepared):
    folder = given(prepared)
    own_cfg, own = prepared("seed=16")
    cfg, other = prepared("seed=17", f"teacher.checkpoint={folder}")
    assert other.tokenizer.get_vocab() == tokenizer_of(folder).get_vocab()
    assert other.tokenizer.get_vocab() == own.tokenizer.get_vocab()
    assert other.normalizer != own.normalizer
    teacher, home = get_teacher(cfg, other), get_teacher(own_cfg, own)
    assert isinstance(teacher.module, RescaledTeacher)
    # A clip that both have: the answer is the one the teacher gives at home.
    answers: list[dict[str, float]] = []
    for data, module in ((own, home.module), (other, teacher.module)):
        answers.append({})
        for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
            for batch in loader:
                with torch.no_grad():
                    logits = module.eval()(Batch.whole(batch)).logits
                answers[-1] |= dict(zip(batch.ids, logits.tolist(), strict=True))
    both = answers[0].keys() & answers[1].keys()
    assert both
    assert [answers[1][name] for name in both] == pytest.approx(
        [answers[0][name] for name in both], abs=1e-4
    )


def test_a_folder_without_a_teacher_is_said(prepared, tmp_path):
    cfg, data = prepared()
    for path, sentence in (("nowhere", "is not a folder"), (tmp_path, "holds no model")):
        cfg.teacher.checkpoint = str(path)
        with pytest.raises(ValueError, match=sentence):
            get_teacher(cfg, data)


def test_a_teacher_may_have_an_objective_of_its_own(small, tmp_path):
    known = ("task=regression", "num_outputs=1", "num_privileged=3", "vocab_size=50",
             "label_range=[0,50]")  # fmt: skip
    words = [f"runtime.{word}" for word in known]
    cfg = small("+recipe=teacher", "teacher=lmm_vqa", *words, folder=tmp_path / "run")
    objective = teacher_objective(cfg, None)
    assert dict(objective.weights) == {"number": 1.0, "level": 1.0, "score": 0.03}
    assert objective.terms["level"].loss.high == 100
    # Whatever decides the weights is in the fingerprint; teachers without one keep theirs.
    data = SimpleNamespace(batch_size=8, fingerprint="x", public_fingerprint="x")
    assert "objective" in teacher_settings(cfg, data)["teacher"]
    plain = small("+recipe=teacher", *words, folder=tmp_path / "run")
    assert "objective" not in teacher_settings(plain, data)["teacher"]


PROMPT = ("data.separate_text=true",
          'teacher.model.layout="a {text:title|e} {video} {audio}"')  # fmt: skip
YES_NO = ("teacher.model.mllm.read_out=yes_no", "teacher.model.mllm.audio.mode=mid")


def test_the_words_of_a_prompt_are_tokens_of_the_data(prepared):
    words = ("seed=21", *PROMPT, *YES_NO, "teacher.model.mllm.answer_words=[t,s]")
    cfg, data = prepared(*words, recipe="mllm")
    teacher = get_teacher(cfg, data)
    ids = [data.tokenizer.convert_tokens_to_ids(word) for word in "aets"]
    assert data.tokenizer.unk_token_id not in ids
    prompt = teacher.module.mllm.prompt
    assert prompt.ids == ((ids[0],), (ids[1],)) and prompt.answer_ids == tuple(ids[2:])
    assert prompt.fields == ("title",)
    batch = next(iter(data.val_dataloader()))
    found = get_teacher(*prepared(*words, recipe="mllm"))
    assert found.reused
    teacher.module.eval()
    assert torch.equal(found.module(batch).logits, teacher.module(batch).logits)


def test_an_answer_that_is_no_token_of_the_data_is_refused(prepared):
    words = ("teacher.model.mllm.answer_words=['yes','not at all']",)
    with pytest.raises(ValueError, match=r"'not at all' is [0-9]+ tokens for this tokenizer"):
        get_teacher(*prepared(*YES_NO, *words, recipe="mllm"))


def test_a_given_teacher_must_know_the_texts_in_this_order(prepared):
    words = ("seed=22", *PROMPT)
    folder = get_teacher(*prepared(*words, recipe="mllm")).folder
    cfg, data = prepared(*words, f"teacher.checkpoint={folder}", recipe="mllm")
    assert get_teacher(cfg, data).reused
    object.__setattr__(data.inputs, "text_fields", ("title", "subtitles"))
    with pytest.raises(
        ValueError, match=r"with the text fields \['title'\], the data have \['title', "
    ):
        get_teacher(cfg, data)


def test_a_training_that_fails_leaves_no_folder(prepared, home, monkeypatch):
    cfg, data = prepared("seed=23")
    before = set((home / "teachers").iterdir()) if (home / "teachers").exists() else set()

    def fails(*_):
        raise RuntimeError("out of luck")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="out of luck"):
        patch.setattr(engine, "fit", fails)
        get_teacher(cfg, data)
    assert set((home / "teachers").iterdir() if (home / "teachers").exists() else ()) == before
    found = get_teacher(cfg, data)  # and the lock is free
    assert not found.reused and not (found.folder.parent / "lock").exists()
