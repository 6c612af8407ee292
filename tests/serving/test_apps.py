"""The example apps, asked over HTTP on this machine."""

import concurrent.futures
import importlib.util
import re

import pytest

from coefvq.serving.cascade_folder import load_cascade
from coefvq.serving.cascade_inference import answer_clips
from coefvq.serving.predict_cascade import answer_row

pytestmark = pytest.mark.slow

NEEDS = {"litserve_app": ("litserve", "python_multipart"),
         "ray_app": ("ray", "fastapi", "python_multipart")}  # fmt: skip


@pytest.fixture(scope="module", params=list(NEEDS))
def server(request, start_server):
    missing = [name for name in NEEDS[request.param] if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: pip install 'coefvq[litserve,ray]'")
    words = ["accelerator=cpu"] if request.param == "litserve_app" else []
    return start_server(request.param, "megabytes=1", "seconds=3", *words)


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
