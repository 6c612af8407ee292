"""Serve a cascade on a cluster with Ray Serve.

    python recipes/serving/ray_app.py cascade=runs/…/cascade port=8000
    curl -F video=@clip.mp4 -F title="what it is called" localhost:8000/predict

Two deployments with replicas and queues of their own: Light answers over HTTP and awaits Heavy for
what the policy defers; other clips are answered meanwhile. Without a cluster Ray starts one on
this machine; with `RAY_ADDRESS=auto` it is the cluster's, whose machines must all see the
cascade's folder and its models. `light_replicas` and `heavy_replicas` scale each by itself. With
`audit=0.01 log=folder` a random share of the kept clips passes the heavy model too, after its
answer was given; `monitor.py` reads the log, in a folder that all machines see.
"""

import asyncio
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from coefvq.launch import one_sentence
from coefvq.serving.options import check_installed, log_folder, read_options

with one_sentence():  # before the imports that would fail with a traceback
    check_installed("ray", "ray", "fastapi", "python_multipart")

import python_multipart  # noqa: F401  (forms are read with it)
import ray
from fastapi import FastAPI, HTTPException, Request
from ray import serve
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from coefvq.serving.sides import HeavySide, LightSide, Look
from coefvq.serving.uploads import Limits, Refused, receive

OPTIONS = {
    "cascade": "",  # its folder
    "host": "127.0.0.1",  # 0.0.0.0: other machines may ask
    "port": 8000,
    "gpus": 0.0,  # of each heavy replica; above 0 the heavy model is on cuda
    "light_replicas": 1,
    "heavy_replicas": 1,
    "heavy_batch": 8,  # clips that the heavy model answers at once
    "heavy_queue": 200,  # deferred clips that may wait; more are refused with 503
    "queue": 256,  # requests that may wait for each light replica; more are refused with 503
    "timeout": 60.0,  # seconds that a deferred clip may wait
    "megabytes": 64.0,  # of a request
    "seconds": 180.0,  # of a clip
    "audit": 0.0,  # share of clips that both models see; needs log=
    "log": "none",  # a folder: a line per answer; none: nothing is written
}

api = FastAPI()


@serve.deployment
class Heavy:
    """Answers what Light defers, in batches."""

    def __init__(self, options: dict[str, Any], side: Callable) -> None:
        self.side = side(options["cascade"], "cuda" if options["gpus"] else "cpu")
        self.answers.set_max_batch_size(options["heavy_batch"])

    @serve.batch(batch_wait_timeout_s=0.005)
    async def answers(self, asks: list[bytes]) -> list[dict[str, Any]]:
        """One batch, beside the event loop."""
        return await asyncio.to_thread(self.side.answers, asks)


@serve.deployment(max_ongoing_requests=1000)
@serve.ingress(api)
class Light:
    """Answers every clip; awaits Heavy for some."""

    def __init__(self, options: dict[str, Any], heavy: DeploymentHandle) -> None:
        self.limits = Limits(megabytes=options["megabytes"], seconds=options["seconds"])
        self.side = LightSide(
            options["cascade"], self.limits, audit=options["audit"], log=log_folder(options)
        )
        self.timeout, self.heavy, self.audits = options["timeout"], heavy, set()
        self.turn = ThreadPoolExecutor(max_workers=1)  # one clip after another

    @api.post("/predict")
    async def predict(self, request: Request) -> dict[str, Any]:
        """One clip."""
        try:
            upload = await receive(request, self.limits)
            loop = asyncio.get_running_loop()
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

    async def _ask(self, ask: bytes) -> dict[str, Any]:
        try:
            return await asyncio.wait_for(self.heavy.answers.remote(ask), self.timeout)
        except (TimeoutError, RayServeException, ray.exceptions.RayError) as error:
            reason = type(error).__name__
            raise Refused(503, f"the heavy model did not answer ({reason}); ask again") from None

    async def _judge(self, look: Look) -> None:
        try:
            heavy = await self._ask(look.audit)
        except Refused:
            heavy = None
        self.side.judge(look, heavy)


def make_app(options: dict[str, Any], heavy_side: Callable = HeavySide) -> serve.Application:
    """Both deployments; `heavy_side` may be another class with `answers`."""
    heavy = Heavy.options(
        num_replicas=options["heavy_replicas"],
        max_ongoing_requests=2 * options["heavy_batch"],
        max_queued_requests=options["heavy_queue"],
        ray_actor_options={"num_gpus": options["gpus"]},
    )
    light = Light.options(
        num_replicas=options["light_replicas"], max_queued_requests=options["queue"]
    )
    return light.bind(options, heavy.bind(options, heavy_side))


def main(words: list[str], heavy_side: Callable = HeavySide) -> None:
    """Serve until stopped."""
    with one_sentence():
        options = read_options(words, OPTIONS)
        options["cascade"] = str(Path(options["cascade"]).absolute())
        if options["log"] != "none":
            options["log"] = str(Path(options["log"]).absolute())
        # A wrong folder or word is said here, not by a replica.
        LightSide(options["cascade"], Limits(), audit=options["audit"], log=log_folder(options))
        ray.init(include_dashboard=False)
        # A service manager's stop, as Ctrl-C: Ray then takes its processes along.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        serve.start(http_options={"host": options["host"], "port": options["port"]})
        serve.run(make_app(options, heavy_side), name="cascade", blocking=True)


if __name__ == "__main__":
    main(sys.argv[1:])
