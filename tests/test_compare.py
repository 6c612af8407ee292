import json
import os
import signal
import subprocess
import sys
import time

import hydra
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from coefvq import compare as module
from coefvq import config, launch
from coefvq.compare import compare, compose, plan, run_job


@pytest.fixture
def settings(small_words, tmp_path):
    """The config of a small comparison, as the command line would compose it."""

    def make(*words):
        GlobalHydra.instance().clear()
        with hydra.initialize_config_dir(str(config.folder("conf")), version_base="1.3"):
            cfg = hydra.compose("compare", overrides=[f"out={tmp_path / 'out'}", *words])
        cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
        cfg.overrides = [*small_words, *cfg.overrides]
        return cfg

    return make


@pytest.fixture(autouse=True)
def _threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def table_of(folder):
    return json.loads((folder / "table.json").read_text())


def test_every_recipe_task_and_seed_is_a_run(settings):
    jobs = plan(settings("recipes=[pfd,supervised]", "tasks=[degraded,level]", "seeds=3"))
    assert len(jobs) == 12 and len({job.folder for job in jobs}) == 12
    assert [job.label for job in jobs[:3]] == ["pfd", "supervised", "pfd"]  # share a teacher
    assert jobs[0].overrides[0] == "+recipe=pfd"
    assert jobs[0].overrides[-2:] == ("seed=1", "data.task=degraded")
    assert [job.seed for job in plan(settings("recipes=[pfd]", "seeds=[4,7]"))] == [4, 7]


def test_a_row_may_change_its_recipe(settings):
    label = "cpfd objective.confidence=margin objective.distill_weight=0.25"
    (job,) = plan(settings(f"recipes=['{label}']", "seeds=1"))
    cfg = compose(job)
    assert cfg.objective.confidence == "margin" and cfg.objective.distill_weight == 0.25
    assert cfg.run_dir == str(job.folder) and cfg.resume
    (plain,) = plan(settings("recipes=[cpfd]", "seeds=1"))
    assert plain.folder != job.folder


def test_long_rows_get_folders_of_their_own(settings):
    tail = " objective.confidence_normalize=true objective.confidence_floor=0.125"
    rows = [f"cpfd objective.confidence={name}{tail}" for name in ("margin", "relative")]
    cfg = settings("seeds=1")
    cfg.recipes = rows
    names = [job.folder.parent.name for job in plan(cfg)]
    assert len(set(names)) == 2 and max(map(len, names)) <= 80


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["recipes=[supervised,cfpd]"], "recipe cfpd is unknown; choose one of"),
        (["recipes=[pfd,pfd]"], "names one twice"),
        (["recipes=[]"], "at least one recipe and one seed"),
        (["recipes=[pfd]", "seeds=0"], "at least one recipe and one seed"),
        (["recipes=[pfd]", "jobs=0"], "jobs is a number of runs at a time"),
        (["recipes=['pfd objective.colour=red']"], "row 'pfd objective.colour=red'.*colour"),
        (["recipes=['pfd objective.distill_weight=2']"], "distill_weight must be a number in"),
    ],
)
def test_what_cannot_be_planned_is_said_before_anything_runs(settings, tmp_path, words, sentence):
    with pytest.raises(ValueError, match=sentence):
        compare(settings(*words))
    assert not (tmp_path / "out").exists()


def test_several_devices_are_refused(settings):
    (job,) = plan(settings("recipes=[pfd]", "seeds=1", "overrides=['trainer.devices=2']"))
    with pytest.raises(ValueError, match=r"trainer\.devices=2; set trainer\.devices=1"):
        run_job(job)


def test_one_table_of_it_all_and_nothing_is_run_twice(settings, tmp_path, capsys):
    words = ("recipes=[supervised,'cpfd objective.confidence=margin']", "seeds=2")
    reports, failures = compare(settings(*words))
    assert len(reports) == 4 and not failures
    out = tmp_path / "out"
    assert {p.name for p in out.iterdir()} == {"runs", "table.md", "table.csv", "table.json"}
    text = (out / "table.md").read_text()
    assert "supervised" in text and "cpfd objective.confidence=margin" in text
    assert "df_xvlm" in text
    assert "table.md" in capsys.readouterr().out

    # Interrupted: one run is missing, another is unfinished, the table is not written.
    paths = sorted(out.glob("runs/*/*/report.json"))
    assert len(paths) == 4
    first = table_of(out)
    paths[0].unlink()
    times = {path: path.stat().st_mtime_ns for path in paths[1:]}
    (out / "table.json").unlink()
    compare(settings(*words))
    assert paths[0].exists() and table_of(out) == first
    assert {path: path.stat().st_mtime_ns for path in paths[1:]} == times

    # Finished runs with other settings are named, never mixed in.
    changed = settings(*words)
    changed.overrides.append("optimizer.lr=0.125")
    sentence = r"was run with other settings \(optimizer\.lr: 0\.003 -> 0\.125\)"
    with pytest.raises(ValueError, match=sentence):
        compare(changed)


@pytest.mark.slow
def test_two_processes_at_a_time_give_the_same_table(settings, tmp_path):
    words = ("recipes=[supervised,'cpfd objective.confidence=margin']", "seeds=2")
    torch.set_num_threads(1)
    for name, more in (("one", ()), ("two", ("jobs=2",))):
        cfg = settings(*words, *more)
        cfg.out = str(tmp_path / name)
        compare(cfg)
    assert table_of(tmp_path / "one") == table_of(tmp_path / "two")


def test_a_failing_run_is_named_and_the_others_go_on(settings, tmp_path, capsys):
    words = ["recipes=[supervised,'label_smoothing data.labelled=0']", "seeds=1"]
    reports, failures = compare(settings(*words))
    assert [report["label"] for report in reports] == ["supervised"]
    ((job, reason),) = failures
    assert job.label == "label_smoothing data.labelled=0" and "data.labelled must be" in reason
    assert "failed: label_smoothing data.labelled=0, its task, seed 1" in capsys.readouterr().err
    assert "label_smoothing" in (tmp_path / "out" / "table.md").read_text()


def test_an_error_of_ours_does_not_stop_the_others_either(settings, monkeypatch):
    run = module.run_job

    def broken(job):
        if job.label == "pfd":
            raise RuntimeError("out of memory")
        return run(job)

    monkeypatch.setattr(module, "run_job", broken)
    reports, failures = compare(settings("recipes=[pfd,supervised]", "seeds=1"))
    assert len(reports) == 1 and failures[0][1] == "RuntimeError: out of memory"


def test_ctrl_c_stops_all(settings, monkeypatch):
    def pressed(job):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "run_job", pressed)
    with pytest.raises(KeyboardInterrupt):
        compare(settings("recipes=[pfd,supervised]", "seeds=2"))


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals to a group of processes are POSIX's")
@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_in_a_terminal(small_words, tmp_path, jobs, start_process):
    command = [sys.executable, "-m", "coefvq.compare", "seeds=2", "out=table", f"jobs={jobs}",
               "recipes=[supervised]", "--", *small_words, "trainer.max_steps=100000"]  # fmt: skip
    process = start_process(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.time() + 120
    while len(list(tmp_path.glob("table/runs/*/*/checkpoints/last.ckpt"))) < jobs:
        assert process.poll() is None and time.time() < deadline
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, said = process.communicate(timeout=100)
    assert process.returncode == 130
    assert "stopped; the same command goes on where it was" in said and "Traceback" not in said


def test_words_behind_two_dashes_are_for_every_run():
    assert launch.words_for_hydra(["seeds=2"]) == ["seeds=2"]
    assert launch.words_for_hydra(["seeds=2", "--", "a=1", 'b="x y"']) == [
        "seeds=2",
        r"""overrides=["a=1","b=\"x y\""]""",
    ]


@pytest.mark.slow
def test_from_the_command_line(small_words, tmp_path):
    command = [sys.executable, "-m", "coefvq.compare", "seeds=1", "out=table",
               "recipes=[supervised,'label_smoothing data.labelled=0']",
               "--", *small_words]  # fmt: skip
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert result.returncode == 1, result.stderr
    assert "1 runs failed; the reasons stand above" in result.stderr
    assert "Traceback" not in result.stderr and "Warning" not in result.stderr
    assert "written: table/table.md" in result.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["table"]


def test_the_metric_can_be_chosen(settings, tmp_path):
    words = ("recipes=[supervised]", "seeds=1")
    compare(settings(*words, "metric=average_precision"))
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    assert set(table["metric"].values()) == {"average_precision"}
    with pytest.raises(ValueError, match=r"metric=f2 is unknown; choose one of f1, .*srcc"):
        compare(settings(*words, "metric=f2"))
