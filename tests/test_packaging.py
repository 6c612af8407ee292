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
