"""Slow jobs over files, in worker processes, behind a progress bar."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from multiprocessing import get_context
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from coefvq.data.processes import cores, main_hidden, start_worker

MAX_WORKERS = 8
POOL_FROM = 12
"""Fewer jobs than this are done in this process: starting others takes seconds."""

_log = logging.getLogger(__name__)


def run_jobs(
    work: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    label: str,
    workers: int | None = None,
) -> Generator[Any, None, None]:
    """Call `work(*job)` for every job and yield the results, in any order.

    Args:
        work: a function of a module, which worker processes import.
        jobs: its arguments, each job's its own.
        label: in front of the bar.
        workers: processes; 0: none, all is done in this one; None: one per core, at most 8, and
            none where there is little to do.
    """
    if not jobs:
        return
    if workers is None:
        workers = min(cores(), MAX_WORKERS) if len(jobs) >= POOL_FROM else 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        bar = progress.add_task(label, total=len(jobs))
        with closing(_run(work, jobs, min(workers, len(jobs)))) as results:
            for result in results:
                progress.advance(bar)
                yield result


def _run(
    work: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], workers: int
) -> Generator[Any, None, None]:
    left = dict(enumerate(jobs))
    if workers > 0:
        try:
            with closing(_in_pool(work, jobs, workers)) as done:
                for number, result in done:
                    del left[number]
                    yield result
        except (BrokenProcessPool, RuntimeError, PermissionError) as error:
            _log.warning(
                "worker processes for making clips are not available (%s); going on in this one",
                str(error).splitlines()[0] if str(error) else type(error).__name__,
            )
    for job in left.values():
        yield work(*job)


def _in_pool(
    work: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], workers: int
) -> Generator[tuple[int, Any], None, None]:
    # Spawned, not forked: the parent may have threads (torch, FFmpeg).
    spawn = get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=start_worker)
    try:
        with main_hidden():
            running = {pool.submit(work, *job): number for number, job in enumerate(jobs)}
        for future in as_completed(running):
            yield running[future], future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


__all__ = ["run_jobs"]
