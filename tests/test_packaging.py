"""The main command works from a wheel, an editable install and a bare checkout, from any folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHOW = ["-m", "coefvq.train", "+recipe=cpfd", "--cfg", "job"]


def run(arguments, cwd, path=None):
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if path is not None:
        env["PYTHONPATH"] = str(path)
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=240
    )


def assert_recipe(result):
    assert result.returncode == 0, result.stderr
    assert "name: cpfd" in result.stdout and "coefvq.losses.CPFDLoss" in result.stdout


def test_from_this_install_in_an_empty_folder(tmp_path):
    assert_recipe(run(SHOW, tmp_path))


def test_from_a_bare_checkout(tmp_path):
    assert_recipe(run(SHOW, tmp_path, path=ROOT))


def test_nothing_else_asks_for_installed_metadata():
    # In a bare checkout there are none, see coefvq.versions.
    asking = [
        p.name for p in (ROOT / "coefvq").rglob("*.py") if "importlib.metadata" in p.read_text()
    ]
    asking += [
        p.name
        for p in (ROOT / "coefvq").rglob("*.py")
        if "from importlib import metadata" in p.read_text()
    ]
    assert asking == ["versions.py"]


# The main job where coefvq was never installed: its metadata are hidden.
BARE = """
import sys
from importlib import metadata
known = metadata.distribution
def distribution(name):
    if name == "coefvq":
        raise metadata.PackageNotFoundError(name)
    return known(name)
metadata.distribution = distribution
from coefvq.train import main
sys.argv = ["train", *sys.argv[1:]]
main()
"""
SMALL = ["student=xvlm_micro", "data.num_frames=1", "data.pool=60", "data.labelled=20"]
SMALL += ["data.unlabelled=10", "data.val=15", "data.test=15", "data.batch_size=8"]
SMALL += ["trainer.max_steps=2", "teacher.training.max_steps=2", "teacher.preflight=false"]


@pytest.mark.slow
def test_the_main_job_runs_in_a_bare_checkout(tmp_path):
    words = ["+recipe=cpfd", *SMALL, "run_dir=run", f"cache_dir={tmp_path / 'cache'}"]
    done = run(["-c", BARE, *words], tmp_path, path=ROOT)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.json").exists()
    again = run(["-m", "coefvq.predict", "model=run/student", "clips=cache"], tmp_path, path=ROOT)
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
def test_from_a_wheel(tmp_path):
    wheels = tmp_path / "wheels"
    built = run(["-m", "build", "--wheel", "--outdir", str(wheels), str(ROOT)], tmp_path)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    assert "coefvq/recipes/cpfd.yaml" in names and "coefvq/conf/train.yaml" in names
    assert not any(name.startswith("tests/") for name in names)
    empty = tmp_path / "empty"
    empty.mkdir()
    result = run(SHOW, empty, path=tmp_path / "site")
    assert_recipe(result)
    where = run(["-c", "import coefvq; print(coefvq.__file__)"], empty, path=tmp_path / "site")
    assert str(tmp_path / "site") in where.stdout


def test_an_unknown_recipe_is_one_sentence(tmp_path):
    result = run(["-m", "coefvq.train", "+recipe=cfpd"], tmp_path)
    assert result.returncode == 2
    assert "recipe cfpd is unknown; choose one of" in result.stderr
    assert "Traceback" not in result.stderr


def test_importing_the_package_is_light(tmp_path):
    code = "import sys, coefvq; print([m for m in ('torch', 'lightning') if m in sys.modules])"
    assert run(["-c", code], tmp_path).stdout.strip() == "[]"
