import pytest

from coefvq.runs import default_run_dir, differing_keys, forgotten_if_unused, open_run, rank

CONFIG = {"name": "cpfd", "seed": 1, "data": {"task": "degraded"}, "objective": {"w": 0.5}}


@pytest.fixture(autouse=True)
def _clean(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setenv("COEFVQ_RUN_DIR", "")


def test_a_run_gets_a_folder_named_after_it():
    run = open_run(None, CONFIG, resume=False)
    assert run.path.parent.name == "runs" and run.path.name.startswith("cpfd-degraded-s1-")
    assert run.config.exists()
    again = open_run(None, CONFIG, resume=False)
    assert again.path != run.path


def test_data_without_a_task_word_name_themselves():
    config = {**CONFIG, "data": {"_target_": "coefvq.data.pairs.shortform_pairs"}}
    run = open_run(None, config, resume=False)
    assert run.path.name.startswith("cpfd-shortform_pairs-s1-")


def test_default_names_never_collide(monkeypatch):
    monkeypatch.setattr("time.strftime", lambda form: "now")
    assert default_run_dir("a", "b", 1).is_dir()
    assert default_run_dir("a", "b", 1).name == "a-b-s1-now-2"


def test_an_unfinished_run_is_entered_only_with_resume():
    open_run("r", CONFIG, resume=False)
    with pytest.raises(ValueError, match="unfinished run; add resume=true"):
        open_run("r", CONFIG, resume=False)
    assert open_run("r", CONFIG, resume=True).path.name == "r"


def test_resume_says_where_there_is_nothing_to_resume(caplog):
    caplog.set_level("INFO")
    open_run("r", CONFIG, resume=True)
    assert "resume=true, but r does not exist yet: a new run starts there" in caplog.text
    caplog.clear()
    open_run("r", CONFIG, resume=True)
    assert caplog.text == ""


def test_a_finished_run_is_never_entered():
    open_run("r", CONFIG, resume=False).report.write_text("{}")
    for resume in (False, True):
        with pytest.raises(ValueError, match="holds a finished run"):
            open_run("r", CONFIG, resume=resume)


def test_resuming_with_other_settings_names_them():
    open_run("r", CONFIG, resume=False)
    changed = CONFIG | {"objective": {"w": 0.7}}
    with pytest.raises(ValueError, match=r"objective\.w: 0\.5 -> 0\.7"):
        open_run("r", changed, resume=True)


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="exists and is not empty"):
        open_run("mine", CONFIG, resume=False)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="is a file"):
        open_run("file", CONFIG, resume=False)


def test_resume_needs_a_folder_but_makes_it():
    with pytest.raises(ValueError, match="resume=true needs the folder"):
        open_run(None, CONFIG, resume=True)
    assert open_run("fresh", CONFIG, resume=True).path.is_dir()


def test_processes_launched_beside_ours_share_the_folder(monkeypatch):
    first = open_run("r", CONFIG, resume=False)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert open_run(None, CONFIG, resume=False).path == first.path
    monkeypatch.setenv("COEFVQ_RUN_DIR", "")
    with pytest.raises(ValueError, match="several processes were started"):
        open_run(None, CONFIG, resume=False)


def test_a_run_that_failed_before_it_began_leaves_nothing():
    run = open_run("r", CONFIG, resume=False)
    with pytest.raises(KeyboardInterrupt), forgotten_if_unused(run):
        raise KeyboardInterrupt
    assert not run.path.exists()
    run = open_run("r", CONFIG, resume=False)
    with pytest.raises(ValueError), forgotten_if_unused(run):
        (run.path / "logs").mkdir()
        (run.path / "logs" / "hparams.yaml").touch()  # what a logger is told first
        raise ValueError
    assert not run.path.exists()
    run = open_run("r", CONFIG, resume=False)
    with pytest.raises(ValueError), forgotten_if_unused(run):
        (run.path / "logs").mkdir()
        (run.path / "logs" / "metrics.csv").touch()
        raise ValueError
    assert run.config.exists()


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"])
def test_any_launcher_is_understood(monkeypatch, name):
    assert rank() == 0
    monkeypatch.setenv(name, "0")
    assert rank() == 0
    monkeypatch.setenv(name, "3")
    assert rank() == 3


def test_bookkeeping_is_not_a_difference():
    assert differing_keys({"run_dir": "a", "x": 1}, {"run_dir": "b", "x": 1}) == []
    assert differing_keys({"x": {"y": 1}}, {"x": {}}) != []
    # A word that an older version did not know, and that nobody uses.
    assert differing_keys({"x": {"y": 1}}, {"x": {"y": 1, "z": None}}) == []
