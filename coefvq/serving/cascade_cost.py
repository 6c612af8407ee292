"""Measure what a cascade's steps cost on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from coefvq.cascade.cost import Cost
from coefvq.data.reader import collate
from coefvq.serving.cascade_folder import Cascade
from coefvq.serving.light_models import Light, light_logits
from coefvq.serving.served_model import ServedModel, reads_alike
from coefvq.types import Clip


def measure_cost(
    light: Light, heavy: ServedModel, clips: Sequence[Clip], *, turns: int = 5
) -> Cost:
    """Time decoding and both models on real files; the median of several turns, in one process.

    Args:
        light: on the device that will serve; of several light models the time is that of all.
        heavy: likewise.
        clips: a batch of them; each model is timed on all at once, after one turn that is not
            counted.
        turns: at least 1.

    Raises:
        ValueError: no clips.
    """
    if not clips:
        raise ValueError("there is no clip to measure the cost with; give at least one")
    first = [light.reader().read(clip) for clip in clips]
    decode = _median(lambda: [light.reader().read(clip) for clip in clips], turns)
    second, again = first, 0.0
    if not reads_alike(light, heavy):
        second = [heavy.reader().read(clip) for clip in clips]
        again = _median(lambda: [heavy.reader().read(clip) for clip in clips], turns)
    batches = collate(first), collate(second)
    device = next(heavy.module.parameters()).device
    return Cost(
        light_seconds=_median(lambda: light_logits(light, batches[0], clips), turns) / len(clips),
        heavy_seconds=_median(lambda: heavy.logits(batches[1]), turns) / len(clips),
        decode_seconds=decode / len(clips),
        heavy_decode_seconds=again / len(clips),
        unit="GPU-seconds" if device.type == "cuda" else "seconds",
    )


def latencies(cascade: Cascade, clips: Sequence[Clip]) -> dict[str, dict[str, float]]:
    """Seconds of single clips, one at a time: `kept` and `deferred`, p50, p99 and number of each.

    A clip's latency is decoding and the light model; a deferred one's also the heavy model and,
    where that reads another way, a second decoding. Every clip is timed on both paths.
    """
    found: dict[str, list[float]] = {"kept": [], "deferred": []}
    for clip in clips:
        start = time.perf_counter()
        sample = cascade.light.reader().read(clip)
        cascade.policy.decide(light_logits(cascade.light, collate([sample]), [clip]))
        found["kept"].append(time.perf_counter() - start)
        if not cascade.one_reading:
            sample = cascade.heavy.reader().read(clip)
        cascade.heavy.logits(collate([sample]))
        found["deferred"].append(time.perf_counter() - start)
    return {
        path: {
            "p50": float(torch.tensor(seconds).quantile(0.5)),
            "p99": float(torch.tensor(seconds).quantile(0.99)),
            "clips": len(seconds),
        }
        for path, seconds in found.items()
    }


def _median(work: Callable[[], Any], turns: int) -> float:
    work()
    seconds = []
    for _ in range(turns):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


__all__ = ["latencies", "measure_cost"]
