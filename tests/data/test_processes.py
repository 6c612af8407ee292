import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from coefvq.data.processes import cores, main_hidden, start_worker

ROOT = Path(__file__).resolve().parents[2]


def test_cores_are_those_that_may_be_used():
    assert 1 <= cores() <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is Linux's")
def test_cores_follow_affinity():
    script = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from coefvq.data.processes import cores; print(cores())"
    )
    command = [sys.executable, "-c", script]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout == "1\n"


def test_the_main_program_comes_back():
    main = sys.modules["__main__"]
    before = main.__spec__, getattr(main, "__file__", None)
    with pytest.raises(KeyError), main_hidden():
        assert main.__spec__ is None and not hasattr(main, "__file__")
        raise KeyError
    assert (main.__spec__, getattr(main, "__file__", None)) == before


def test_workers_do_their_work():
    spawn = get_context("spawn")
    with main_hidden(), ProcessPoolExecutor(1, spawn, initializer=start_worker) as pool:
        assert pool.submit(pow, 3, 4).result(timeout=60) == 81


def test_a_script_needs_no_main_guard(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "print('main')\n"
        "from coefvq.data.shortform.pool import Pool\n"
        f"print(len(Pool(0, {str(tmp_path / 'home')!r}).ensure(1, workers=1)))\n"
    )
    run = subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert run.stdout == "main\n1\n", run.stderr
    assert "Error" not in run.stderr and "not available" not in run.stderr
