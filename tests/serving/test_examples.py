"""What the examples of recipes/serving say where they cannot run, and how load.py counts."""

import asyncio
import os
import re
import runpy
import subprocess
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from scripts import load_script

pytest.importorskip("httpx")

SERVING = Path(__file__).resolve().parents[2] / "recipes" / "serving"


@pytest.mark.parametrize(
    ("app", "hidden", "extra"),
    [("litserve_app", ("litserve", "python_multipart"), "litserve"),
     ("ray_app", ("ray", "python_multipart"), "ray"),
     ("load", ("httpx",), "litserve")],
)  # fmt: skip
def test_a_missing_extra_is_one_sentence(app, hidden, extra, monkeypatch, capsys):
    for name in hidden:
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(SERVING / f"{app}.py"))
    assert caught.value.code == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said and f'pip install -e ".[{extra}]"' in said
    assert all(name in said for name in hidden)


@pytest.fixture(scope="module")
def load():
    return load_script("serving/load.py")


class Full(BaseHTTPRequestHandler):
    """A server that refuses everybody."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(503)
        self.end_headers()

    def log_message(self, *words):
        """Nothing."""


@pytest.fixture
def full():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Full)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/predict"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def options(load, cascade_clips):
    return load.OPTIONS | {
        "clips": str(Path(cascade_clips[0].path).parent), "rates": "20", "seconds": 0.2,
    }  # fmt: skip


def test_a_server_that_is_not_there_is_one_sentence(load, full, options, monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), Full) as closed:
        url = f"http://127.0.0.1:{closed.server_port}/predict"
    with pytest.raises(ValueError, match=rf"nothing answers at url={url} \(ConnectError\)"):
        asyncio.run(load.measure(options | {"url": url}))


def test_failures_stand_beside_their_reason(load, full, options):
    rows = asyncio.run(load.measure(options | {"url": full}))
    assert len(rows) == 1
    assert rows[0][load.COLUMNS.index("failed")] == "4 (503 Service Unavailable)"
    reasons = Counter({"ReadTimeout": 2, "503 Service Unavailable": 5})
    assert load.failures(reasons) == "7 (503 Service Unavailable)"
    assert load.failures(Counter()) == "0"


def test_a_process_that_ended_is_no_reason_to_count_backwards(load, full, options):
    assert load.cores({1: 2.0, 2: 9.0}, {1: 3.0}, 2.0) == "0.50"  # a worker of it ended
    assert load.cores({1: 2.0}, {1: 3.0, 4: 1.0}, 2.0) == "1.00"  # one was started
    assert load.cores({1: 2.0}, {}, 2.0) == "-"
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert child.pid in load.cpu_seconds(os.getpid())
    assert set(load.cpu_seconds(child.pid)) == {child.pid}
    child.communicate(b"\n")
    assert load.cpu_seconds(child.pid) == {}
    with pytest.raises(ValueError, match=re.escape(f"pid={child.pid} is no process that runs")):
        asyncio.run(load.measure(options | {"url": full, "pid": child.pid}))
