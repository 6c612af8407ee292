"""Uploads over HTTP: what is read, and what is refused before it costs anything."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coefvq.data.media import Media, UnreadableClip
from coefvq.types import Clip


class Refused(ValueError):
    """A request that is not answered: an HTTP status, and one sentence that says why.

    Args:
        status: 400 and above.
        sentence: what was given, what was expected.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(status, sentence)
        self.status, self.sentence = status, sentence

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True)
class Limits:
    """What is refused before it costs anything.

    Args:
        megabytes: of a whole request.
        seconds: of a clip.
        pixels: of a frame, width times height.
        frames: of a clip, decoded or not.
        letters: of one text field.
    """

    megabytes: float = 64.0
    seconds: float = 180.0
    pixels: int = 4096 * 2304
    frames: int = 30_000
    letters: int = 10_000


@dataclass(frozen=True)
class Upload:
    """A video file as it came, and the text fields beside it."""

    video: bytes
    text: Mapping[str, str] = field(default_factory=dict)


async def receive(request: Any, limits: Limits) -> Upload:
    """Read an upload from a Starlette request (FastAPI's is one), never more than is allowed.

    Two forms: multipart/form-data with one file named `video` and text fields; or the video itself
    as the body, of a type video/… or application/octet-stream, with text fields in the query.

    Raises:
        Refused: 400, 411, 413 or 415.
    """
    _check_length(request.headers.get("content-length"), limits)
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        video, text = await _from_form(request)
    elif kind.startswith("video/") or kind == "application/octet-stream":
        video, text = await request.body(), dict(request.query_params)
    else:
        raise Refused(
            415,
            f"content type {kind or '(none)'} is not read here; send multipart/form-data with a "
            "file named video, or the video itself as video/mp4",
        )
    if not video:
        raise Refused(400, "the video is empty (0 bytes); send a whole file")
    for name, value in text.items():
        if len(value) > limits.letters:
            raise Refused(
                400, f"field {name} has {len(value)} letters; at most {limits.letters} are read"
            )
    return Upload(video, text)


def _check_length(given: str | None, limits: Limits) -> None:
    if given is None or not given.isdecimal():
        raise Refused(411, "the request does not say how long it is; send Content-Length")
    if int(given) > limits.megabytes * 2**20:
        raise Refused(
            413,
            f"the request has {int(given) / 2**20:.1f} MB; at most {limits.megabytes:g} MB are "
            "read, send a shorter or smaller clip",
        )


async def _from_form(request: Any) -> tuple[bytes, dict[str, str]]:
    try:
        form = await request.form(max_files=1, max_fields=32)
    except AssertionError:
        raise  # the server lacks python-multipart, which is no fault of the client
    except Exception as error:
        detail = getattr(error, "detail", None) or str(error)
        raise Refused(400, f"the form cannot be read ({detail}); send one file and text") from None
    text = {name: value for name, value in form.multi_items() if isinstance(value, str)}
    files = {name: value for name, value in form.multi_items() if not isinstance(value, str)}
    if set(files) != {"video"}:
        named = ", ".join(files) or "none"
        raise Refused(400, f"the form's files are: {named}; send one file, named video")
    video = await files["video"].read()
    await form.close()
    return video, text


def check_clip(path: Path, limits: Limits) -> None:
    """Refuse a clip that would take too long to decode; its packets are read, no picture is.

    Raises:
        Refused: 413.
        UnreadableClip: no video in the file.
    """
    with Media(path) as media:
        times = media.timeline()
        seconds = (times.end - float(times.pts.min())) * times.time_base
        context = media.video.codec_context
        found = {
            "seconds": (seconds, limits.seconds),
            "pixels": (context.width * context.height, limits.pixels),
            "frames": (len(times.pts), limits.frames),
        }
    for what, (value, most) in found.items():
        if value > most:
            raise Refused(413, f"the clip has {value:.0f} {what}; at most {most:.0f} are read")


@contextlib.contextmanager
def clip_of(upload: Upload, fields: Sequence[str]) -> Iterator[Clip]:
    """Give the upload as a file that is gone afterwards; a field that it lacks is empty."""
    with tempfile.NamedTemporaryFile(prefix="coefvq-", suffix=".video") as file:
        file.write(upload.video)
        file.flush()
        text = {name: upload.text.get(name, "") for name in fields}
        yield Clip("upload", Path(file.name), text)


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Turn a clip that cannot be read into a refusal (422)."""
    try:
        yield
    except UnreadableClip as error:
        raise Refused(422, f"the upload is no clip that can be read: {error.reason}") from None


__all__ = ["Limits", "Refused", "Upload", "check_clip", "clip_of", "receive", "refusing"]
