import asyncio
import types

import pytest

from coefvq.data.media import UnreadableClip
from coefvq.serving.uploads import (
    Limits,
    Refused,
    Upload,
    check_clip,
    clip_of,
    receive,
    refusing,
)

SMALL = Limits(megabytes=1, letters=10)


class Form:
    def __init__(self, *items):
        self.items, self.closed = items, False

    def multi_items(self):
        return self.items

    async def close(self):
        self.closed = True


class File:
    def __init__(self, content):
        self.content = content

    async def read(self):
        return self.content


def request(kind="video/mp4", body=b"abc", length="3", form=None, **query):
    headers = {"content-type": kind, "content-length": length}

    async def read():
        return body

    async def read_form(**limits):
        assert limits == {"max_files": 1, "max_fields": 32}
        if isinstance(form, Exception):
            raise form
        return form

    return types.SimpleNamespace(
        headers={name: value for name, value in headers.items() if value is not None},
        query_params=query, body=read, form=read_form,
    )  # fmt: skip


def received(*words, limits=SMALL, **options):
    return asyncio.run(receive(request(*words, **options), limits))


@pytest.mark.parametrize(
    "kind", ["video/mp4", "Video/WebM; codecs=vp9", "application/octet-stream"]
)
def test_a_video_as_the_body(kind):
    assert received(kind, title="x") == Upload(b"abc", {"title": "x"})


def test_a_form():
    form = Form(("video", File(b"xyz")), ("title", "a"), ("caption", ""))
    found = received("multipart/form-data; boundary=b", form=form)
    assert found == Upload(b"xyz", {"title": "a", "caption": ""}) and form.closed


def test_the_length_is_looked_at_before_anything_is_read():
    def unread(*words, **options):
        raise AssertionError("the body was read")

    for length, status in (("1048577", 413), (None, 411), ("-1", 411), ("many", 411)):
        asked = request(length=length)
        asked.body = asked.form = unread
        with pytest.raises(Refused) as caught:
            asyncio.run(receive(asked, SMALL))
        assert caught.value.status == status
    assert received(length="1048576").video == b"abc"


@pytest.mark.parametrize(
    ("options", "status", "sentence"),
    [
        ({"kind": "image/png"}, 415, "content type image/png is not read here"),
        ({"kind": ""}, 415, r"content type \(none\)"),
        ({"body": b""}, 400, r"empty \(0 bytes\)"),
        ({"title": "x" * 11}, 400, "field title has 11 letters; at most 10 are read"),
        ({"kind": "multipart/form-data", "form": Form()}, 400, "files are: none; send one"),
        (
            {"kind": "multipart/form-data", "form": Form(("clip", File(b"x")))},
            400,
            "files are: clip; send one file, named video",
        ),
        ({"kind": "multipart/form-data", "form": OSError("cut off")}, 400, r"\(cut off\)"),
    ],
)
def test_what_is_refused(options, status, sentence):
    with pytest.raises(Refused, match=sentence) as caught:
        received(**options)
    assert caught.value.status == status and str(caught.value) == caught.value.sentence


def test_a_server_without_a_reader_of_forms_is_no_fault_of_the_client():
    with pytest.raises(AssertionError):
        received("multipart/form-data", form=AssertionError("python-multipart"))


def test_a_clip_is_measured_before_it_is_decoded(cascade_clips, monkeypatch):
    path = cascade_clips[0].path
    check_clip(path, Limits())
    for name, value, sentence in (
        ("seconds", 0.1, "seconds; at most 0 are read"),
        ("pixels", 100, r"the clip has \d+ pixels; at most 100"),
        ("frames", 5, "the clip has 24 frames; at most 5 are read"),
    ):
        with pytest.raises(Refused, match=sentence) as caught:
            check_clip(path, Limits(**{name: value}))
        assert caught.value.status == 413


def test_what_is_no_clip_is_refused(tmp_path):
    (tmp_path / "x").write_text("no video")
    with pytest.raises(UnreadableClip):
        check_clip(tmp_path / "x", Limits())
    with pytest.raises(Refused, match="can be read: it is no media") as caught, refusing():
        check_clip(tmp_path / "x", Limits())
    assert caught.value.status == 422


def test_the_file_of_an_upload_does_not_stay():
    with clip_of(Upload(b"abc", {"title": "t"}), ("title", "caption")) as clip:
        assert clip.path.read_bytes() == b"abc"
        assert clip.text == {"title": "t", "caption": ""}
    assert not clip.path.exists()
