import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from coefvq import runs, train

TRAIN = [sys.executable, "-W", "default", "-m", "coefvq.train"]


@pytest.fixture
def call(small_words, tmp_path, monkeypatch, capfd):
    """Run the command in this process: exit status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["train.py", *small_words, *words])
        GlobalHydra.instance().clear()
        status = 0
        try:
            train.main()
        except SystemExit as stop:
            status = stop.code
        said = capfd.readouterr()
        return status, said.out, said.err

    yield call
    HydraConfig.instance().cfg = None
    GlobalHydra.instance().clear()


def test_the_screen_of_the_main_job(finished_run, small_words, tmp_path):
    """What a user sees: a line per phase and the table; no warning, no log line."""
    command = [*TRAIN, "+recipe=cpfd", *small_words, "teacher.training.max_steps=3", "run_dir=x"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=250)
    assert result.returncode == 0, result.stderr
    lines = result.stderr.splitlines()
    heads = [line.split("━")[0].split(",")[0].split(" of ")[0].strip() for line in lines]
    assert [head.split(" f1")[0] for head in heads] == [
        "run      x",
        "data     shortform_data",
        "teacher df_xvlm",
        "teacher  df_xvlm",
        "asking df_xvlm about validation clips",
        "asking df_xvlm",
        "cache    60 rows",
        "teacher  validation",
        "student cpfd",
    ]
    assert "3/3" in lines[2] and "2/2" in lines[-1] and lines[3].endswith("trained")
    assert "test metric" in result.stdout and "student − teacher" in result.stdout
    for word in ("report      x/report.md", "checkpoint", "student     x/student", "teacher"):
        assert word in result.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_sweep_gives_each_run_a_folder_of_its_own(call, tmp_path):
    status, _, error = call("+recipe=supervised", "seed=1,1,2", "-m")
    assert status == 0, error
    names = sorted(p.parent.name for p in tmp_path.glob("runs/*/report.json"))
    assert len(names) == 3
    assert [name[:22] for name in names] == ["supervised-degraded-s1"] * 2 + [
        "supervised-degraded-s2"
    ]
    # Hydra leaves the sweep's own settings, and no empty folders.
    rest = {p.name for p in tmp_path.glob("runs/*")} - set(names)
    assert rest == {"multirun.yaml"}
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]


def test_a_swept_value_stands_in_the_folder_name(call, tmp_path):
    words = ["+recipe=label_smoothing", "objective.label_smoothing=0.1,0.2"]
    status, _, error = call(*words, "-m")
    assert status == 0, error
    names = sorted(p.parent.name for p in tmp_path.glob("runs/*/report.json"))
    start = "label_smoothing-degraded-label_smoothing"
    assert [name[:48] for name in names] == [f"{start}=0.1-s1-", f"{start}=0.2-s1-"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["+recipe=cpfd", "data.task=degrade"], "data.task=degrade is unknown; choose one of"),
        (["+recipe=cfpd"], "recipe cfpd is unknown; choose one of blind_quality, coefvq, cpfd,"),
        (["recipe=cpfd"], "write +recipe=cpfd"),
        (["+recipe=cpfd", "objective.distill_weight=1.5"], "must be a number in [0, 1], got 1.5"),
        (["+recipe=cpfd", "objective.temperature=0"], "objective.temperature must be a number in"),
        (["+recipe=cpfd", "+objective.weights.colour=1"], "objective.weights names"),
        (["+recipe=cpfd", "objective.hard_weight=soft"], "hard_weight"),
        (["+recipe=cpfd", "data.labelled=0"], "data.labelled must be a"),
        (["+recipe=cpfd", "teacher.checkpoint=nowhere"], "teacher.checkpoint=nowhere is not a"),
        (["+recipe=cpfd", "resume=true"], "resume=true needs the folder to go on with"),
    ],
)
def test_what_a_user_can_mend_is_one_sentence(call, words, sentence):
    status, out, err = call(*words)
    assert status == 2
    assert sentence in err and "Traceback" not in err + out
    assert "Error in call to target" not in err
    assert not list(Path("runs").glob("*"))  # nothing to stumble over at the second try


def test_a_run_folder_that_exists_is_refused(call):
    assert call("+recipe=supervised", "run_dir=x")[0] == 0
    status, _, err = call("+recipe=supervised", "run_dir=x")
    assert status == 2 and "x holds a finished run" in err


def test_a_loss_that_becomes_nan_is_told_with_its_clips(call):
    status, out, err = call(
        "+recipe=supervised", "optimizer=sgd", "optimizer.lr=1e30", "scheduler=constant",
        "trainer.max_steps=20", "trainer.gradient_clip_val=null",
    )  # fmt: skip
    assert status == 2 and "Traceback" not in err + out
    assert "the loss became" in err and "in term task" in err
    assert "on the batch with clips shortform-0-0" in err and "lower optimizer.lr" in err


def test_no_space_left_is_told(call, monkeypatch):
    def full(path, text):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(runs, "write_text", full)
    status, _, err = call("+recipe=supervised", "run_dir=x")
    assert status == 2 and "no space left on the device" in err and "run_dir=" in err


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGINT to one process is POSIX's")
def test_ctrl_c_says_how_to_go_on(finished_run, small_words, tmp_path, start_process):
    command = [*TRAIN, "+recipe=supervised", *small_words, "trainer.max_steps=1000000", "run_dir=x"]
    process = start_process(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.time() + 120
    while not (tmp_path / "x" / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None and time.time() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 130
    assert "stopped; add resume=true and the same run_dir" in said
    assert "Traceback" not in said
    # It does go on: the settings are the same but for `resume`.
    process = start_process(
        [*command, "resume=true"], cwd=tmp_path, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    first = (tmp_path / "x" / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    while (tmp_path / "x" / "checkpoints" / "last.ckpt").stat().st_mtime_ns == first:
        assert process.poll() is None and time.time() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=100)
    assert process.returncode == 130
