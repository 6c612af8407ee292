"""Measure a served cascade: throughput and latency at given rates of requests.

    python recipes/serving/load.py url=http://localhost:8000/predict clips=folder rates=2,5,10 pid=…

Requests leave at the given rate whether or not earlier ones were answered (an open loop), so that
waiting is measured and not hidden. `pid` is the server's process: the CPU use of it and of all that
it started stands beside the numbers.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from coefvq.data.clip_list import list_clips
from coefvq.launch import one_sentence
from coefvq.serving.options import read_options

OPTIONS = {
    "url": "http://localhost:8000/predict",
    "clips": "",  # a folder of video files; they are sent in turn
    "rates": "2,5,10",  # requests per second
    "seconds": 15.0,  # at each rate
    "pid": 0,  # of the server; 0: its CPU use is not measured
    "timeout": 120.0,
}
COLUMNS = ("asked/s", "done/s", "failed", "deferred", "kept p50", "kept p99", "deferred p50",
           "deferred p99", "cores")  # fmt: skip


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and of its descendants so far; Linux."""
    parents, spent = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # ended meanwhile
        number = int(stat.parent.name)
        parents[number], spent[number] = int(words[1]), (int(words[11]) + int(words[12])) / 100
    found, ours = 0.0, {pid}
    for number in sorted(parents):  # a child may be numbered before its parent after a wrap-around
        line = [number]
        while line[-1] in parents and line[-1] not in ours:
            line.append(parents[line[-1]])
        if line[-1] in ours:
            ours.update(line)
    for number in ours:
        found += spent.get(number, 0.0)
    return found


def quantile(values: Sequence[float], share: float) -> str:
    """Milliseconds, or a dash where there is nothing to measure."""
    if not values:
        return "-"
    return f"{1000 * sorted(values)[min(len(values) - 1, int(share * len(values)))]:.0f}"


async def one_rate(
    client: httpx.AsyncClient, url: str, videos: Sequence[bytes], rate: float, seconds: float
) -> dict[str, Any]:
    """Send at one rate; latencies by route, and when the last answer came."""
    found: dict[str, Any] = {"light": [], "heavy": [], "failed": 0}

    async def ask(video: bytes) -> None:
        start = time.perf_counter()
        try:
            answer = await client.post(url, content=video, headers={"content-type": "video/mp4"})
            route = answer.raise_for_status().json()["route"]
        except httpx.HTTPError:
            found["failed"] += 1
            return
        found[route].append(time.perf_counter() - start)

    start = time.perf_counter()
    tasks = []
    for number in range(max(1, round(rate * seconds))):
        await asyncio.sleep(max(0.0, start + number / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(ask(videos[number % len(videos)])))
    await asyncio.gather(*tasks)
    found["seconds"] = time.perf_counter() - start
    return found


async def measure(options: dict[str, Any]) -> list[list[str]]:
    """One row of the table per rate."""
    videos = [clip.path.read_bytes() for clip in list_clips(options["clips"])]
    rows = []
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=options["timeout"], limits=limits, trust_env=False) as c:
        await one_rate(c, options["url"], videos, 2.0, 3.0)  # not counted
        for rate in [float(word) for word in options["rates"].split(",")]:
            before = cpu_seconds(options["pid"]) if options["pid"] else 0.0
            found = await one_rate(c, options["url"], videos, rate, options["seconds"])
            spent = cpu_seconds(options["pid"]) - before if options["pid"] else 0.0
            light, heavy = found["light"], found["heavy"]
            done = len(light) + len(heavy)
            rows.append(
                [f"{rate:g}", f"{done / found['seconds']:.1f}", str(found["failed"])]
                + [f"{len(heavy) / max(done, 1):.0%}"]
                + [quantile(values, q) for values in (light, heavy) for q in (0.5, 0.99)]
                + [f"{spent / found['seconds']:.2f}" if options["pid"] else "-"]
            )
    return rows


def main(words: list[str]) -> None:
    """Print a Markdown table; latencies in milliseconds."""
    from coefvq.evaluation.markdown import table

    with one_sentence():
        print(table(COLUMNS, asyncio.run(measure(read_options(words, OPTIONS)))))


if __name__ == "__main__":
    main(sys.argv[1:])
