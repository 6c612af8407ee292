"""Whole runs, on real clips, small enough for a test."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from coefvq import config, pipeline
from coefvq.compare import Job, compose
from coefvq.modules.pretrained import load_metadata, read_config


@pytest.fixture
def run(small):
    def run(folder, *words):
        return pipeline.run(small(*words, folder=folder / "run"), show=False)

    return run


TEACHERS = ("teacher", "lmm_vqa", "matchlm", "mllm")
# Two steps teach nothing, and so many validation clips or pairs are enough to see it.
# Of a rare class so few test clips may have none.
# The cascade of `coefvq` needs a precision that few validation clips reach; those of 64 do.
COMMON = ("data.task=degraded", "teacher.preflight=false", "data.pool=64")


@pytest.mark.parametrize("recipe", config.recipe_names())
def test_every_recipe_runs(recipe, tmp_path, run, small_pairs):
    pairs = recipe.startswith("match")
    rare = recipe.startswith("mllm") or recipe == "coefvq"
    words = (*small_pairs, "teacher.preflight=false") if pairs else COMMON if rare else ()
    report = run(tmp_path, f"+recipe={recipe}", *words)
    folder = tmp_path / "run"
    stored = json.loads((folder / "report.json").read_text())
    assert stored["recipe"] == recipe and stored["seed"] == 1
    quality = recipe in ("blind_quality", "lmm_vqa", "lmm_vqa_kd", "pfd_quality")
    assert stored["task"] == ("reproduced" if pairs else "quality" if quality else "degraded")
    expected = {"teacher"} if recipe in TEACHERS else {"student"}
    if recipe not in ("supervised", "label_smoothing", "matchlite", "blind_quality", *TEACHERS):
        expected = {"student", "teacher", "agreement"}
    if recipe == "matchlm2lite":  # whether distillation has helped
        expected |= {"first_stage"}
        assert "| student, first stage |" in (folder / "report.md").read_text()
    assert set(report["test"]) == expected
    for name in expected - {"agreement"}:
        found = stored["test"][name]
        if quality:
            assert found["srcc"] is None or -1 <= found["srcc"] <= 1
            assert found["rmse_raw"] >= 0
            continue
        assert 0 <= found["average_precision"] <= 1
        assert 0 <= found["f1"] <= 1
    if recipe == "blind_quality":  # sixteen clips are too few to give its scores a unit
        assert "score_calibration" not in stored
        assert any("fewer than the 20" in note for note in stored["notes"])
    assert stored["data_fingerprint"] and stored["versions"]["torch"] == torch.__version__
    assert set(stored["seconds"]) >= {"data", "teacher", "test", "report"}
    assert (folder / "report.md").read_text().startswith("# ")
    assert (folder / "student" / "model.safetensors").exists() == (recipe not in TEACHERS)
    assert stored["plots"] and all(
        (folder / name).stat().st_size > 1000 for name in stored["plots"]
    )


@pytest.mark.parametrize("task", ["level", "artefacts", "bad_sound", "title_mismatch"])
def test_every_task_is_one_word(task, tmp_path, run):
    report = run(tmp_path, "+recipe=cpfd", f"data.task={task}")
    assert report["task"] == task and set(report["test"]) == {"student", "teacher", "agreement"}


def test_a_live_teacher_that_cannot_fit_is_refused_before_training(tmp_path, run, monkeypatch):
    monkeypatch.setattr("coefvq.teacher_supply.memory.free_memory", lambda device: 1000)
    with pytest.raises(ValueError, match=r"student does not fit, with .*has 0\.00 GB free\)"):
        run(tmp_path / "b", "+recipe=cpfd", "seed=7", "teacher.cache=off")
    run(tmp_path / "c", "+recipe=cpfd", "seed=7")  # one that is not in memory


def test_the_teacher_is_trained_once_and_found_again(tmp_path, run):
    first = run(tmp_path / "a", "+recipe=cpfd", "seed=7")
    start = time.time()
    second = run(tmp_path / "b", "+recipe=pfd", "seed=7")
    assert first["teacher_fingerprint"] == second["teacher_fingerprint"]
    assert first["test"]["teacher"] == second["test"]["teacher"]
    weights = Path(second["paths"]["teacher"]) / "model.safetensors"
    assert weights.stat().st_mtime < start
    other = run(tmp_path / "c", "+recipe=pfd", "seed=7", "teacher.training.max_steps=3")
    assert other["teacher_fingerprint"] != first["teacher_fingerprint"]


def test_a_teacher_can_be_given_and_must_fit(tmp_path, run):
    given = run(tmp_path / "a", "+recipe=teacher")["paths"]["teacher"]
    report = run(tmp_path / "b", "+recipe=cpfd", f"teacher.checkpoint={given}")
    assert report["paths"]["teacher"] == given
    with pytest.raises(ValueError, match="num_outputs"):
        run(tmp_path / "c", "+recipe=cpfd", f"teacher.checkpoint={given}", "data.task=level")
    with pytest.raises(ValueError, match="DFXVLM"):
        run(tmp_path / "d", "+recipe=self_distillation", f"teacher.checkpoint={given}")
    with pytest.raises(ValueError, match="is not a folder"):
        run(tmp_path / "e", "+recipe=cpfd", "teacher.checkpoint=nowhere")


def test_equal_commands_give_equal_students(tmp_path, run):
    reports = [run(tmp_path / name, "+recipe=cpfd") for name in "ab"]
    assert reports[0]["test"] == reports[1]["test"]
    weights = [
        load_file(tmp_path / name / "run" / "student" / "model.safetensors") for name in "ab"
    ]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


LONG = ("+recipe=cpfd", "data.labelled=24", "data.unlabelled=4", "data.val=16", "data.test=16",
        "data.batch_size=8", "trainer.max_steps=60", "trainer.log_every_n_steps=1",
        "teacher.training.max_steps=60")  # fmt: skip


@pytest.fixture
def command(home, finished_run, tmp_path):
    """`python -m coefvq.train …` with clips that are there and teachers that are not."""
    own = tmp_path / "home"
    own.mkdir()
    for part in home.iterdir():
        if part.name != "teachers":
            (own / part.name).symlink_to(part)

    def words(*more):
        run_dir = f"run_dir={tmp_path / 'run'}"
        return [sys.executable, "-m", "coefvq.train", *LONG, *more, run_dir, f"cache_dir={own}"]

    return words


@pytest.fixture(scope="module")
def whole(home, finished_run, tmp_path_factory):
    """What the run of `command` comes to when nobody disturbs it."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    subprocess.run(
        [sys.executable, "-m", "coefvq.train", *LONG, f"run_dir={folder}"],
        check=True, capture_output=True, timeout=280, env=os.environ | {"COEFVQ_HOME": str(home)},
    )  # fmt: skip
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["teacher", "student"])
def test_a_run_killed_in_either_epoch_equals_one_that_was_not(
    phase, whole, command, tmp_path, start_process
):
    last = {"teacher": "home/teachers/*/checkpoints/last.ckpt",
            "student": "run/checkpoints/last.ckpt"}[phase]  # fmt: skip
    process = start_process(
        command("resume=true"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.time() + 200
    while not list(tmp_path.glob(last)):
        assert process.poll() is None and time.time() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "run" / "report.json").exists()
    assert (tmp_path / "run" / "checkpoints").exists() == (phase == "student")
    subprocess.run(command("resume=true"), check=True, capture_output=True, timeout=280)
    weights = [
        load_file(folder / "student" / "model.safetensors") for folder in (whole, tmp_path / "run")
    ]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    reports = [json.loads((f / "report.json").read_text()) for f in (whole, tmp_path / "run")]
    assert reports[0]["test"] == reports[1]["test"]
    logs = [folder / "logs" / "metrics.csv" for folder in (whole, tmp_path / "run")]
    assert logs[0].read_text() == logs[1].read_text()


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_make_one_run(command, tmp_path):
    words = ("trainer=ddp_cpu", "trainer.max_steps=6", "teacher.training.max_steps=6")
    result = subprocess.run(command(*words), capture_output=True, text=True, timeout=280)
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert set(report["test"]) == {"student", "teacher", "agreement"}
    assert report["test"]["student"]["n"] == 16  # tested whole, by the first process
    # One teacher, one table, one line per phase, and nothing that a user cannot act on.
    assert len(list((tmp_path / "home" / "teachers").iterdir())) == 1
    assert result.stdout.count("test metric") == 1
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 9, lines
    assert lines[3].endswith("trained") and "rows added" in lines[6]
    assert lines[7].startswith("teacher  validation") and "6/6" in lines[8]
    # And the second command finds the teacher of the first.
    again = subprocess.run(
        [*command(*words)[:-2], f"run_dir={tmp_path / 'again'}", command()[-1]],
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert again.returncode == 0 and "df_xvlm, reused" in again.stderr, again.stderr


@pytest.mark.slow
@pytest.mark.distributed
def test_a_sweep_over_several_devices_is_refused(command, tmp_path):
    words = command("trainer=ddp_cpu", "seed=1,2")[:-2]
    words.insert(3, "-m")
    result = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert result.returncode == 2
    assert "needs processes of its own" in result.stderr and "Traceback" not in result.stderr


def test_another_loggers_run_has_its_loss_picture(run, tmp_path):
    report = run(tmp_path, "+recipe=supervised", "logger=tensorboard")
    assert "plots/losses.png" in report["plots"]


def test_a_wrong_word_is_found_before_a_teacher_is_trained(run, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "open_teacher", None)
    with pytest.raises(ValueError, match="hard_weight"):
        run(tmp_path, "+recipe=cpfd", "objective.hard_weight=soft")
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_an_os_error_and_leaves_no_half_report(run, tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError) as caught:
        patch.setattr("pathlib.Path.write_bytes", full)
        run(tmp_path, "+recipe=supervised")
    assert caught.value.errno == errno.ENOSPC
    assert not (tmp_path / "run" / "report.json").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("callbacks=early_stopping", "trainer.check_val_every_n_epoch=1"),
        ("callbacks=ema", "scheduler=linear_warmup", "optimizer=sgd"),
        ("data.train_sampling=random_segments", "scheduler=constant", "teacher.views=2"),
    ],
    ids=["early_stopping", "ema", "random_segments"],
)
def test_other_words_of_the_vocabulary_train_too(run, words, tmp_path):
    report = run(tmp_path, "+recipe=cpfd", "trainer.max_steps=6", *words)
    assert set(report["test"]) == {"student", "teacher", "agreement"}


@pytest.mark.parametrize("recipe", ["mllm", "matchlm"])
def test_a_teacher_that_says_yes_or_no_trains_on_the_embedded_data(
    recipe, run, small_pairs, tmp_path
):
    words = ("teacher.model.mllm.read_out=yes_no", "teacher.model.mllm.audio.mode=token",
             "teacher.preflight=false", *(small_pairs if recipe == "matchlm" else ()))  # fmt: skip
    report = run(tmp_path, f"+recipe={recipe}", "phases=[teacher]", *words)
    saved = load_metadata(report["paths"]["teacher"])
    assert saved["task"]["kind"] == "binary"
    prompt = read_config(report["paths"]["teacher"])["config"]["prompt"]
    assert len(set(prompt["answer_ids"])) == 2


def test_adapters_are_given_in_plain_words(run, small_pairs, tmp_path):
    words = ("teacher.model.mllm.lora={rank: 4}", "teacher.model.mllm.train_language=false")
    words += ("teacher.preflight=false", "phases=[teacher]")
    report = run(tmp_path, "+recipe=matchlm", *small_pairs, *words)
    folder = Path(report["paths"]["teacher"])
    assert read_config(folder)["config"]["mllm"]["lora"]["rank"] == 4
    assert list(folder.rglob("adapter_model.safetensors"))


@pytest.mark.slow
def test_the_language_model_learns_its_rare_class_and_teaches_it(tmp_path, run):
    """The recipe's own sizes with a third of the clips: better than chance, and handed on."""
    words = ("data.labelled=400", "data.unlabelled=100", "data.val=200", "data.test=200",
             "data.batch_size=64", "data.num_frames=2", "teacher.preflight=true",
             "teacher.training.max_steps=300", "trainer.max_steps=200")  # fmt: skip
    report = run(tmp_path, "+recipe=mllm_kd", *words)
    prevalence = report["data"]["splits"]["test"]["prevalence"]
    assert report["test"]["teacher"]["average_precision"] > 2 * prevalence
    assert report["test"]["student"]["average_precision"] > 2 * prevalence


def test_a_first_stage_that_is_found_gives_the_student_of_one_that_was_trained(
    run, small_pairs, tmp_path
):
    """What is loaded is in eval mode, and must not be trained in it."""
    words = ("+recipe=matchlm2lite", *small_pairs, "seed=51", "teacher.preflight=false")
    for name in "ab":
        run(tmp_path / name, *words)
    students = [
        load_file(tmp_path / name / "run" / "student" / "model.safetensors") for name in "ab"
    ]
    assert all(torch.equal(students[0][key], students[1][key]) for key in students[0])


def test_pairs_that_say_no_kind_of_change_are_learnt_all_the_same(run, home, small_pairs, tmp_path):
    run(tmp_path / "made", "+recipe=matchlite", *small_pairs)  # makes clips
    clips = sorted((home / "shortform_pairs").rglob("*.mp4"))[:24]
    rows = [
        f"{clips[i]},{clips[i + 1 + place % 2]},{place % 2},{split}"
        for place, i in enumerate(range(22))
        for split in [("train", "val", "test")[place // 8]]
    ]
    table = tmp_path / "plain.csv"
    table.write_text("query,candidate,label,split\n" + "\n".join(rows) + "\n")
    words = ("data=pairs", f"data.train={table}", "data.allow_shared_clips=true")
    few = ("data.batch_size=4", "trainer.max_steps=2", "teacher.training.max_steps=2")
    for recipe in ("matchlm2lite", "matchlm"):
        cfg = compose(Job("x", None, 1, (f"+recipe={recipe}", *words, *few), tmp_path / recipe))
        cfg.teacher.pretraining.max_steps, cfg.teacher.pretraining.clips = 2, 4
        cfg.teacher.preflight = False
        report = pipeline.run(cfg, show=False)
        assert {n: m["by_sub_label"] for n, m in report["pairs"].items()}["teacher"] == {}
        assert "By kind of change" not in (tmp_path / recipe / "report.md").read_text()


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_pretrain_one_teacher(command, small_pairs, tmp_path):
    """Every weight gets a gradient, also those of heads that pretraining has no label for."""
    words = command("trainer=ddp_cpu", "teacher.pretraining={max_steps: 4, lr: 0.001, clips: 4}",
                    "phases=[teacher]", "teacher.preflight=false", *small_pairs)  # fmt: skip
    words[words.index("+recipe=cpfd")] = "+recipe=matchlm"
    result = subprocess.run(words, capture_output=True, text=True, timeout=280)
    assert result.returncode == 0, result.stderr
    (teacher,) = (tmp_path / "home" / "teachers").iterdir()
    assert sorted(path.name for path in teacher.iterdir()) == ["model", "teacher.json"]
    assert "pretraining matchlm" in result.stderr and "4/4" in result.stderr
