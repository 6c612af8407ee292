"""Measure a served cascade: throughput and latency at given rates of requests.

    python recipes/serving/load.py url=http://localhost:8000/predict clips=folder rates=2,5,10 pid=…

Requests leave at the given rate whether or not earlier ones were answered (an open loop), so that
waiting is measured and not hidden. `pid` is the server's process: the CPU use of it and of all that
it started stands beside the numbers. Beside the number of failures stands the commonest reason.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coefvq.data.clip_list import list_clips
from coefvq.launch import one_sentence
from coefvq.serving.options import check_installed, read_options

with one_sentence():
    check_installed("litserve", "httpx")

import httpx

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


def cpu_seconds(pid: int) -> dict[int, float]:
    """CPU time so far of a process and of its descendants, by process; Linux.

    Empty where the process itself does not run.
    """
    parents, spent = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # ended meanwhile
        number = int(stat.parent.name)
        parents[number], spent[number] = int(words[1]), (int(words[11]) + int(words[12])) / 100
    ours = {pid}
    for number in sorted(parents):  # a child may be numbered before its parent after a wrap-around
        line = [number]
        while line[-1] in parents and line[-1] not in ours:
            line.append(parents[line[-1]])
        if line[-1] in ours:
            ours.update(line)
    return {number: spent[number] for number in ours if number in spent} if pid in spent else {}


def cores(before: dict[int, float], after: dict[int, float], seconds: float) -> str:
    """CPU seconds a second between two looks; a dash where the server is gone.

    A process that ended in between took its count along, which is no reason to count backwards.
    """
    if not after:
        return "-"
    spent = sum(value - before.get(number, 0.0) for number, value in after.items())
    return f"{max(0.0, spent) / seconds:.2f}"


def failures(reasons: Counter[str]) -> str:
    """How many requests failed, and why most of them did."""
    if not reasons:
        return "0"
    reason, _ = reasons.most_common(1)[0]
    return f"{reasons.total()} ({reason})"


def reason_of(error: httpx.HTTPError) -> str:
    """Two words for a table: the status, or the kind of error where nobody answered."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"{error.response.status_code} {error.response.reason_phrase}".strip()
    return type(error).__name__


def quantile(values: Sequence[float], share: float) -> str:
    """Milliseconds, or a dash where there is nothing to measure."""
    if not values:
        return "-"
    return f"{1000 * sorted(values)[min(len(values) - 1, int(share * len(values)))]:.0f}"


async def one_rate(
    client: httpx.AsyncClient, url: str, videos: Sequence[bytes], rate: float, seconds: float
) -> dict[str, Any]:
    """Send at one rate; latencies by route, and when the last answer came."""
    found: dict[str, Any] = {"light": [], "heavy": [], "failed": Counter(), "answered": 0}

    async def ask(video: bytes) -> None:
        start = time.perf_counter()
        try:
            answer = await client.post(url, content=video, headers={"content-type": "video/mp4"})
            found["answered"] += 1
            route = answer.raise_for_status().json()["route"]
        except httpx.HTTPError as error:
            found["failed"][reason_of(error)] += 1
            return
        except (ValueError, KeyError, TypeError):
            found["failed"]["no answer of a cascade"] += 1
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
    if options["pid"] and not cpu_seconds(options["pid"]):
        raise ValueError(f"pid={options['pid']} is no process that runs here; give the server's")
    videos = [clip.path.read_bytes() for clip in list_clips(options["clips"])]
    rows = []
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=options["timeout"], limits=limits, trust_env=False) as c:
        first = await one_rate(c, options["url"], videos, 2.0, 3.0)  # not counted
        if not first["answered"]:
            reason = first["failed"].most_common(1)[0][0]
            raise ValueError(
                f"nothing answers at url={options['url']} ({reason}); start a "
                "server first, for instance recipes/serving/litserve_app.py, or correct url="
            )
        for rate in [float(word) for word in options["rates"].split(",")]:
            before = cpu_seconds(options["pid"]) if options["pid"] else {}
            found = await one_rate(c, options["url"], videos, rate, options["seconds"])
            after = cpu_seconds(options["pid"]) if options["pid"] else {}
            light, heavy = found["light"], found["heavy"]
            done = len(light) + len(heavy)
            rows.append(
                [f"{rate:g}", f"{done / found['seconds']:.1f}", failures(found["failed"])]
                + [f"{len(heavy) / max(done, 1):.0%}"]
                + [quantile(values, q) for values in (light, heavy) for q in (0.5, 0.99)]
                + [cores(before, after, found["seconds"])]
            )
    return rows


def main(words: list[str]) -> None:
    """Print a Markdown table; latencies in milliseconds."""
    from coefvq.evaluation.markdown import table

    with one_sentence():
        print(table(COLUMNS, asyncio.run(measure(read_options(words, OPTIONS)))))


if __name__ == "__main__":
    main(sys.argv[1:])
