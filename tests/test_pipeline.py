"""Whole runs, on real clips, small enough for a test."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from coefvq import config, pipeline


@pytest.fixture
def run(small):
    def run(folder, *words):
        return pipeline.run(small(*words, folder=folder / "run"), show=False)

    return run


@pytest.mark.parametrize("recipe", config.recipe_names())
def test_every_recipe_runs(recipe, tmp_path, run):
    report = run(tmp_path, f"+recipe={recipe}")
    folder = tmp_path / "run"
    stored = json.loads((folder / "report.json").read_text())
    assert stored["recipe"] == recipe and stored["seed"] == 1 and stored["task"] == "degraded"
    expected = {"teacher"} if recipe == "teacher" else {"student"}
    if recipe in ("pfd", "cpfd", "logit_kd", "self_distillation"):
        expected = {"student", "teacher", "agreement"}
    assert set(report["test"]) == expected
    for name in expected - {"agreement"}:
        assert 0 <= stored["test"][name]["average_precision"] <= 1
        assert 0 <= stored["test"][name]["f1"] <= 1
    assert stored["data_fingerprint"] and stored["versions"]["torch"] == torch.__version__
    assert set(stored["seconds"]) >= {"data", "teacher", "test", "report"}
    assert (folder / "report.md").read_text().startswith("# ")
    assert (folder / "student" / "model.safetensors").exists() == (recipe != "teacher")
    assert stored["plots"] and all(
        (folder / name).stat().st_size > 1000 for name in stored["plots"]
    )


@pytest.mark.parametrize("task", ["level", "artefacts", "bad_sound", "title_mismatch"])
def test_every_task_is_one_word(task, tmp_path, run):
    report = run(tmp_path, "+recipe=cpfd", f"data.task={task}")
    assert report["task"] == task and set(report["test"]) == {"student", "teacher", "agreement"}


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


def killed_and_resumed(tmp_path, words, watched):
    """Kill `python -m coefvq.train` once `watched` exists, then start it again."""
    command = [sys.executable, "-m", "coefvq.train", *words, f"run_dir={tmp_path / 'run'}",
               "resume=true"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + 200
    while not watched() and process.poll() is None and time.time() < deadline:
        time.sleep(0.02)
    assert process.poll() is None, "it ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "run" / "report.json").exists()
    subprocess.run(command, check=True, capture_output=True, timeout=280)
    return load_file(tmp_path / "run" / "student" / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["teacher", "student"])
def test_a_run_killed_in_either_epoch_equals_one_that_was_not(phase, tmp_path, monkeypatch):
    words = ["+recipe=cpfd", "data.labelled=24", "data.unlabelled=8", "data.val=16",
             "data.test=16", "data.batch_size=8", "trainer.max_steps=60",
             "teacher.training.max_steps=60"]  # fmt: skip
    weights = []
    for name in ("whole", "killed"):
        folder = tmp_path / name
        folder.mkdir()
        words_here = [*words, f"cache_dir={folder / 'home'}"]
        if name == "whole":
            command = [sys.executable, "-m", "coefvq.train", *words_here]
            subprocess.run([*command, f"run_dir={folder / 'run'}"], check=True,
                           capture_output=True, timeout=280)  # fmt: skip
            weights.append(load_file(folder / "run" / "student" / "model.safetensors"))
            continue
        pattern = {"teacher": "home/teachers/*/checkpoints/last.ckpt",
                   "student": "run/checkpoints/last.ckpt"}[phase]  # fmt: skip

        def watched(folder=folder, pattern=pattern):
            return any(folder.glob(pattern))

        weights.append(killed_and_resumed(folder, words_here, watched))
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
