"""Serve a cascade on one machine with LitServe.

    python recipes/serving/litserve_app.py cascade=runs/…/cascade port=8000
    curl -F video=@clip.mp4 -F title="what it is called" localhost:8000/predict

The light model and the heavy one have processes and queues of their own. `/predict` awaits the
heavy model for what the policy defers, and answers other clips meanwhile; `/heavy` is for the light
side alone, which knows a word made at the start. With `audit=0.01 log=folder` a random share of the
kept clips passes the heavy model too, after its answer was given; `monitor.py` reads the log.
"""

import asyncio
import functools
import os
import secrets
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

from coefvq.launch import one_sentence
from coefvq.serving.options import check_installed, log_folder, read_options

with one_sentence():  # before the imports that would fail with a traceback
    check_installed("litserve", "litserve", "httpx", "python_multipart")

import httpx
import litserve
import python_multipart  # noqa: F401  (forms are read with it)
from fastapi import Depends, Header, HTTPException, Request
from fastapi.responses import JSONResponse

from coefvq.serving.sides import HeavySide, LightSide, Look
from coefvq.serving.uploads import Limits, Refused, Upload, receive

OPTIONS = {
    "cascade": "",  # its folder
    "host": "127.0.0.1",  # 0.0.0.0: other machines may ask
    "port": 8000,
    "accelerator": "auto",  # cpu, cuda
    "light_workers": 1,  # processes with the light model
    "heavy_workers": 1,  # processes with the heavy model
    "heavy_batch": 8,  # clips that the heavy model answers at once
    "heavy_queue": 200,  # clips that may wait for it, of each light worker; more: 503
    "queue": 256,  # requests under way; more are refused with 503
    "timeout": 60.0,  # seconds that a deferred clip may wait
    "megabytes": 64.0,  # of a request
    "seconds": 180.0,  # of a clip
    "audit": 0.0,  # share of clips that both models see; needs log=
    "log": "none",  # a folder: a line per answer; none: nothing is written
}


async def upload(request: Request) -> Upload:
    """Read and bound the request where it arrives, before any queue."""
    try:
        return await receive(request, request.app.state.limits)
    except Refused as error:
        raise HTTPException(error.status, str(error)) from None


async def body(request: Request) -> bytes:
    """What the light side sends."""
    return await request.body()


class Bounded:
    """ASGI: refuse requests to /predict while too many are under way; nothing of them is read."""

    def __init__(self, app: Callable, most: int) -> None:
        self.app, self.most, self.now = app, most, 0

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        """One request."""
        if scope["type"] != "http" or scope["path"] != "/predict":
            await self.app(scope, receive, send)
            return
        if self.now >= self.most:
            detail = f"{self.now} requests are under way, as many as are taken; ask again later"
            await JSONResponse({"detail": detail}, 503, {"retry-after": "1"})(scope, receive, send)
            return
        self.now += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.now -= 1


class Light(litserve.LitAPI):
    """Answers every clip; awaits the heavy model for some."""

    def __init__(self, options: dict[str, Any], limits: Limits, password: str) -> None:
        super().__init__(api_path="/predict", enable_async=True)
        self.options, self.limits, self.password = options, limits, password

    def setup(self, device: str) -> None:
        """Load the light model, in the worker's process."""
        self.side = LightSide(
            self.options["cascade"], self.limits, device,
            audit=self.options["audit"], log=log_folder(self.options),
        )  # fmt: skip
        self.turn = ThreadPoolExecutor(max_workers=1)  # one clip after another
        self.waiting, self.audits = 0, set()
        self.heavy = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.options['port']}",
            headers={"x-password": self.password},
            timeout=self.options["timeout"],
            limits=httpx.Limits(max_connections=None),
            trust_env=False,
        )

    async def decode_request(self, request: Annotated[Upload, Depends(upload)]) -> Upload:
        """Nothing is left to do: `upload` has read it."""
        return request

    async def predict(self, upload: Upload) -> dict[str, Any]:
        """One clip."""
        loop = asyncio.get_running_loop()
        try:
            look = await loop.run_in_executor(self.turn, self.side.look, upload)
            heavy = None if look.ask is None else await self._ask(look.ask)
            answer = self.side.finish(look, heavy)
            if look.audit is not None:  # the answer does not wait for it
                task = asyncio.create_task(self._judge(look))
                self.audits.add(task)
                task.add_done_callback(self.audits.discard)
            return answer
        except Refused as error:
            raise HTTPException(error.status, str(error)) from None

    async def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """Plain values already."""
        return output

    async def _ask(self, ask: bytes) -> dict[str, Any]:
        if self.waiting >= self.options["heavy_queue"]:
            raise Refused(503, f"{self.waiting} clips wait for the heavy model; ask again later")
        self.waiting += 1
        try:
            answer = await self.heavy.post("/heavy", content=ask)
            return answer.raise_for_status().json()
        except httpx.HTTPError as error:
            reason = f"{type(error).__name__} {error}".strip()
            raise Refused(503, f"the heavy model did not answer ({reason}); ask again") from None
        finally:
            self.waiting -= 1

    async def _judge(self, look: Look) -> None:
        try:
            heavy = await self._ask(look.audit)
        except Refused:
            heavy = None
        self.side.judge(look, heavy)


class Heavy(litserve.LitAPI):
    """Answers what light sides defer, in batches."""

    def __init__(self, cascade: str, batch: int, password: str, side: Callable) -> None:
        super().__init__(api_path="/heavy", max_batch_size=batch, batch_timeout=0.005)
        self.cascade, self.password, self.make = cascade, password, side

    def setup(self, device: str) -> None:
        """Load the heavy model, in the worker's process."""
        self.side = self.make(self.cascade, device)

    def authorize(self, x_password: Annotated[str, Header()] = "") -> None:
        """Nobody but our light side may spend the heavy model's time."""
        if not secrets.compare_digest(x_password.encode(), self.password.encode()):
            raise HTTPException(403, "/heavy is for the light side; send clips to /predict")

    def decode_request(self, request: Annotated[bytes, Depends(body)]) -> bytes:
        """Decoded in `predict`, where one bad clip does not spoil the others' batch."""
        return request

    def predict(self, asks: list[bytes] | bytes) -> list[dict[str, Any]] | dict[str, Any]:
        """One batch; LitServe gives a single request where batches are of one."""
        return self.side.answers(asks) if isinstance(asks, list) else self.side.answers([asks])[0]


def make_server(options: dict[str, Any], heavy_side: Callable = HeavySide) -> litserve.LitServer:
    """Both models as endpoints of one server; `heavy_side` may be another one with `answers`."""
    password = secrets.token_urlsafe()
    limits = Limits(megabytes=options["megabytes"], seconds=options["seconds"])
    light = Light(options, limits, password)
    heavy = Heavy(options["cascade"], options["heavy_batch"], password, heavy_side)
    server = litserve.LitServer(
        [light, heavy],
        accelerator=options["accelerator"],
        workers_per_device={
            "/predict": options["light_workers"],
            "/heavy": options["heavy_workers"],
        },
        timeout=options["timeout"],
        middlewares=[(Bounded, {"most": options["queue"]})],
    )
    server.app.state.limits = limits
    return server


def main(words: list[str], heavy_side: Callable = HeavySide) -> None:
    """Serve until stopped."""
    with one_sentence():
        options = read_options(words, OPTIONS)
        # A wrong folder or word is said here, not by a worker.
        LightSide(
            options["cascade"], Limits(), audit=options["audit"], log=log_folder(options)
        )  # fmt: skip
        server = make_server(options, heavy_side)
        signal.signal(signal.SIGTERM, functools.partial(_stop, os.getpid()))
        server.run(host=options["host"], port=options["port"], generate_client_file=False)


def _stop(main_process: int, *_: object) -> None:
    """A service manager's stop, as Ctrl-C: LitServe then takes its workers along.

    Its web processes inherit this and stop by themselves.
    """
    if os.getpid() == main_process:
        raise KeyboardInterrupt


if __name__ == "__main__":
    main(sys.argv[1:])
