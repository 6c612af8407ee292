"""A cascade that keeps one clip and defers another, and servers that are asked over HTTP."""

import dataclasses
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import av
import httpx
import numpy as np
import pytest

from coefvq.cascade.policy import Policy
from coefvq.serving.cascade_folder import load_cascade, save_cascade
from coefvq.serving.cascade_inference import answer_clips
from coefvq.types import Clip

APPS = Path(__file__).resolve().parents[2] / "recipes" / "serving"

# The same app, with a heavy side that takes its time when a file says so.
SLOW = """
import sys, time
from pathlib import Path
import {app} as app
from coefvq.serving.sides import HeavySide

class Slow(HeavySide):
    def answers(self, asks):
        while Path({wait!r}).exists():
            time.sleep(0.05)
        return super().answers(asks)

if __name__ == "__main__":
    app.main(sys.argv[1:], heavy_side=Slow)
"""


@dataclasses.dataclass(frozen=True)
class Server:
    """A running app.

    Args:
        client: of httpx, for its address.
        wait: while this file is there, the heavy side sits and waits.
        process: of the app.
    """

    client: httpx.Client
    wait: Path
    process: subprocess.Popen


@pytest.fixture(scope="session")
def served(finished_cascade, cascade_clips, tmp_path_factory):
    """(folder of a cascade, a clip that it keeps, one that it defers, what it says of both)."""
    folder = tmp_path_factory.mktemp("served")
    given = load_cascade(finished_cascade / "cascade")
    clips = [Clip("upload", c.path, {"title": "a title"}) for c in cascade_clips]
    found = sorted(answer_clips(given, clips), key=lambda answer: answer.uncertainty)
    threshold = (found[0].uncertainty + found[-1].uncertainty) / 2
    policy = Policy.load(finished_cascade / "cascade" / "policy.json")
    policy = dataclasses.replace(policy, threshold=threshold)
    save_cascade(folder / "cascade", policy, given.light.folder, given.heavy.folder)
    return folder / "cascade", found[0].clip, found[-1].clip


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory):
    """Four seconds of a grey picture."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        for _ in range(20):
            picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 99, np.uint8), "rgb24")
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    return Clip("long", path)


@pytest.fixture(scope="session")
def start_server(served, tmp_path_factory):
    """Start an app of `recipes/serving`; all processes that it made end with the session."""
    servers = []

    def start(app: str, *words: str) -> Server:
        folder = tmp_path_factory.mktemp(app)
        script, log = folder / "slow_heavy.py", folder / "log.txt"
        script.write_text(SLOW.format(app=app, wait=str(folder / "wait")))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        root = str(APPS.parents[1])
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join((str(APPS), root)),
            "HOME": str(folder),  # engines keep notes of their own there
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "disabled",
        }
        with log.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, script, f"cascade={served[0]}", f"port={port}", *words],
                stdout=out, stderr=out, env=environment, cwd=folder, start_new_session=True,
            )  # fmt: skip
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False)
        servers.append(Server(client, folder / "wait", process))
        for _ in range(2000):
            assert process.poll() is None, log.read_text()
            try:
                if client.post("/predict").status_code != 404:  # Ray answers before its routes do
                    return servers[-1]
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        raise AssertionError(log.read_text())

    yield start
    for server in servers:
        server.wait.unlink(missing_ok=True)
        server.client.close()
        server.process.terminate()
        server.process.wait(60)
