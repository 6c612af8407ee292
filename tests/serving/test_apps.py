"""The example apps, asked over HTTP on this machine."""

import asyncio
import concurrent.futures
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from coefvq.serving.cascade_folder import load_cascade
from coefvq.serving.cascade_inference import answer_clips
from coefvq.serving.predict_cascade import answer_row

pytestmark = pytest.mark.slow

APPS = Path(__file__).resolve().parents[2] / "recipes" / "serving"
NEEDS = {"litserve_app": ("litserve", "python_multipart"),
         "ray_app": ("ray", "fastapi", "python_multipart")}  # fmt: skip


def start(app, start_server, *words):
    missing = [name for name in NEEDS[app] if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: pip install 'coefvq[litserve,ray]'")
    own = ["accelerator=cpu"] if app == "litserve_app" else []
    return start_server(app, *words, *own)


@pytest.fixture(scope="module", params=list(NEEDS))
def server(request, start_server):
    return start(request.param, start_server, "megabytes=1", "seconds=3")


def form(clip, **text):
    return {"files": {"video": ("clip.mp4", clip.path.read_bytes(), "video/mp4")}, "data": text}


@pytest.fixture(scope="module")
def expected(served):
    """What the cascade says without a server, by route."""
    folder, *clips = served
    cascade = load_cascade(folder)
    rows = [answer_row(a, cascade.policy, cascade.light.task) for a in answer_clips(cascade, clips)]
    return {row["route"]: row for row in rows}


@pytest.mark.parametrize("which", ["light", "heavy"])
@pytest.mark.parametrize("raw", [False, True])
def test_answers_are_the_cascades_own(server, served, expected, which, raw):
    clip = served[1] if which == "light" else served[2]
    if raw:
        answer = server.client.post(
            "/predict", params=clip.text, content=clip.path.read_bytes(),
            headers={"content-type": "video/mp4"},
        )  # fmt: skip
    else:
        answer = server.client.post("/predict", **form(clip, **clip.text))
    assert answer.status_code == 200, answer.text
    found, own = answer.json(), expected[which]
    assert found.pop("seconds") > 0
    assert set(found) | {"id", "path", "seconds", "audited", "audit_probability", "problem"} == set(
        own
    )
    for name, value in found.items():
        assert value == (pytest.approx(own[name], abs=1e-5) if name != "reason" else own[name])


def test_text_counts(server, served):
    one, other = (
        server.client.post("/predict", **form(served[1], title=title)).json()
        for title in ("a title", "something else entirely")
    )
    assert one["light_probability"] != other["light_probability"]


def bad_requests(clip):
    video = clip.path.read_bytes()
    mp4 = {"content-type": "video/mp4"}
    return {
        "no video": (400, {"files": {"clip": video}}, "named video"),
        "two videos": (400, {"files": [("video", video), ("video", video)]}, "Too many files"),
        "an empty video": (400, {"content": b"", "headers": mp4}, r"empty \(0 bytes\)"),
        "an unknown field": (400, form(clip, caption="x"), "caption is read by neither model"),
        "a long text": (400, form(clip, title="x" * 20_000), "title has 20000 letters"),
        "a broken form": (
            400,
            {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=b"}},
            "form cannot be read",
        ),
        "no length": (411, {"content": iter([video]), "headers": mp4}, "Content-Length"),
        "too many bytes": (413, {"content": bytes(2**20 + 1), "headers": mp4}, "at most 1 MB"),
        "no type": (415, {"content": video}, r"content type \(none\) is not read"),
        "a picture": (415, {"content": video, "headers": {"content-type": "image/png"}}, "image/"),
        "words": (422, {"content": b"no video", "headers": mp4}, "no clip that can be read"),
        "half a video": (422, {"content": video[:900], "headers": mp4}, "no clip that can be"),
    }


def test_bad_uploads_are_refused_in_one_sentence(server, served):
    for what, (status, request, sentence) in bad_requests(served[1]).items():
        answer = server.client.post("/predict", **request)
        assert answer.status_code == status, (what, answer.text)
        detail = answer.json()["detail"]
        assert isinstance(detail, str) and "\n" not in detail and len(detail) < 250, what
        assert re.search(sentence, detail), (what, detail)
    assert server.client.get("/predict").status_code == 405


def test_a_long_clip_is_refused(server, served, long_clip):
    answer = server.client.post("/predict", **form(long_clip))
    assert answer.status_code == 413
    assert answer.json()["detail"] == "the clip has 4 seconds; at most 3 are read"


def test_light_answers_do_not_wait_for_heavy_ones(server, served):
    """More deferred clips than the heavy side holds in a batch are stuck; others are answered."""
    _, kept, deferred = served
    with concurrent.futures.ThreadPoolExecutor(30) as pool:
        server.wait.touch()
        try:
            stuck = [
                pool.submit(server.client.post, "/predict", **form(deferred, **deferred.text))
                for _ in range(20)
            ]
            for _ in range(5):
                answer = server.client.post("/predict", **form(kept, **kept.text))
                assert answer.status_code == 200 and answer.json()["route"] == "light"
            assert not any(future.done() for future in stuck)
        finally:
            server.wait.unlink()
        answers = [future.result().json() for future in stuck]
    assert {answer["route"] for answer in answers} == {"heavy"}
    assert len({answer["prediction"] for answer in answers}) == 1


def test_the_heavy_endpoint_is_not_for_everybody(server, request):
    if "litserve_app" not in request.node.name:
        pytest.skip("Ray Serve gives the heavy model no endpoint")
    assert server.client.post("/heavy", content=b"x").status_code == 403
    headers = {"x-password": "guess"}
    assert server.client.post("/heavy", content=b"x", headers=headers).status_code == 403


@pytest.fixture(scope="module", params=list(NEEDS))
def narrow(request, start_server, tmp_path_factory):
    """(a server whose heavy side takes few clips and is not waited for long, its log)."""
    log = tmp_path_factory.mktemp("log")
    words = ("heavy_batch=1", "heavy_queue=2", "timeout=20", "audit=1", f"log={log}")
    return start(request.param, start_server, *words), log


def test_what_the_heavy_side_cannot_take_is_refused_at_once(narrow, served):
    server, _ = narrow
    _, kept, deferred = served
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        server.wait.touch()
        try:
            sent = [
                pool.submit(server.client.post, "/predict", **form(deferred, **deferred.text))
                for _ in range(12)
            ]
            first = next(concurrent.futures.as_completed(sent)).result()
            assert first.status_code == 503, first.text
            assert "ask again" in first.json()["detail"]
            answer = server.client.post("/predict", **form(kept, **kept.text))
            assert answer.status_code == 200 and answer.json()["route"] == "light"
        finally:
            server.wait.unlink()
        answers = [future.result() for future in sent]
    assert {answer.status_code for answer in answers} == {200, 503}
    assert all(a.json()["route"] == "heavy" for a in answers if a.status_code == 200)
    again = server.client.post("/predict", **form(deferred, **deferred.text))
    assert again.status_code == 200


def test_a_deferred_clip_does_not_wait_for_ever(narrow, served):
    server, _ = narrow
    server.wait.touch()
    try:
        answer = server.client.post("/predict", **form(served[2], **served[2].text))
    finally:
        server.wait.unlink()
    assert answer.status_code == 503
    assert re.search(r"the heavy model did not answer \(\w*Timeout", answer.json()["detail"])


def test_an_audit_is_written_down_and_does_not_hold_up_the_answer(narrow, served, request):
    server, log = narrow
    folder, kept, _ = served

    def lines():
        """Audits that were judged; a server that was full may owe some of earlier tests."""
        return [
            row
            for path in log.glob("*.jsonl")
            for row in map(json.loads, path.read_text().splitlines())
            if row["route"] == "light" and row["audited"] and not row["audit_failed"]
        ]

    before = len(lines())
    server.wait.touch()
    try:
        answer = server.client.post("/predict", **form(kept, **kept.text))
        assert answer.status_code == 200 and answer.json()["route"] == "light"
        assert len(lines()) == before  # answered, and not yet judged
    finally:
        server.wait.unlink()
    for _ in range(300):
        if len(found := lines()) > before:
            break
        time.sleep(0.2)
    assert found[-1]["audit_probability"] == 1.0 and found[-1]["heavy_prediction"]
    done = subprocess.run(
        [sys.executable, APPS / "monitor.py", f"cascade={folder}", f"log={log}"],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(APPS.parents[1])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"^deferred \d+ of \d+ clips", done.stdout)
    assert "missed (the heavy model says degraded)" in done.stdout


def test_requests_under_way_are_bounded(monkeypatch):
    """In one process: the third of three at a time is refused unread, other paths are not."""
    pytest.importorskip("litserve", reason="pip install 'coefvq[litserve]'")
    monkeypatch.syspath_prepend(APPS)
    bounded = importlib.import_module("litserve_app").Bounded

    async def check():
        go, answered = asyncio.Event(), []

        async def slow(scope, receive, send):
            answered.append(scope["path"])
            await go.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        transport = httpx.ASGITransport(bounded(slow, 2))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            two = [asyncio.create_task(client.post("/predict")) for _ in range(2)]
            while len(answered) < 2:
                await asyncio.sleep(0)
            third = await client.post("/predict")
            other = asyncio.create_task(client.post("/heavy"))
            go.set()
            statuses = [(await task).status_code for task in [*two, other]]
            after = await client.post("/predict")
        return third, statuses, after.status_code

    third, statuses, after = asyncio.run(check())
    assert third.status_code == 503 and "2 requests are under way" in third.json()["detail"]
    assert statuses == [200, 200, 200] and after == 200


def test_an_audit_without_a_log_is_said(served):
    for app, needs in NEEDS.items():
        if any(importlib.util.find_spec(name) is None for name in needs):
            continue
        done = subprocess.run(
            [sys.executable, APPS / f"{app}.py", f"cascade={served[0]}", "audit=0.1"],
            capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(APPS.parents[1])},
        )  # fmt: skip
        assert done.returncode == 2
        assert done.stderr.strip().splitlines()[-1] == (
            "coefvq: audit=0.1 writes down what it finds; give log=, a folder"
        )
