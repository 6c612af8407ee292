"""Fill a frame cache: decode what is missing, in worker processes when there is much to do."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from coefvq.data.colour import colour_note, stream_colour
from coefvq.data.frame_cache import FrameCache, clip_key
from coefvq.data.headers import name_in
from coefvq.data.media import BadClip, UnreadableClip
from coefvq.data.processes import cores, main_hidden, start_worker
from coefvq.data.reader import Reading, open_clip, read_media
from coefvq.types import Clip, InputSpec

_log = logging.getLogger(__name__)

POOL_FROM = 64
"""Fewer missing clips than this are decoded in this process: starting others takes seconds."""

MAX_WORKERS = 8
_CHUNK = 8

BAD_SHOWN = 20
"""With on_bad_clip=error, decoding stops after this many unreadable clips and lists them."""

_Result = tuple[int, Reading | str, str | None]


def read_ahead(
    cache: FrameCache | None,
    clips: Sequence[Clip],
    inputs: InputSpec,
    sampling: str,
    *,
    on_bad_clip: str = "error",
) -> list[BadClip]:
    """Find out before training which clips cannot be read.

    With a cache all clips are decoded into it, see `fill_cache`. Without one only missing files
    can be told in advance. Arguments, result and errors are those of `fill_cache`.
    """
    if cache is not None:
        return fill_cache(cache, clips, inputs, sampling, on_bad_clip=on_bad_clip)
    bad = [
        BadClip(clip.id, clip.path, "there is no such file")
        for clip in clips
        if not clip.path.is_file()
    ]
    if bad and on_bad_clip == "error":
        raise _refusal(bad, len(clips))
    return bad


def fill_cache(
    cache: FrameCache,
    clips: Sequence[Clip],
    inputs: InputSpec,
    sampling: str,
    *,
    on_bad_clip: str = "error",
    workers: int | None = None,
) -> list[BadClip]:
    """Decode the clips that are not in the cache yet.

    Args:
        cache: where they go, a shard at a time; an interrupted run goes on from the last shard.
        clips: all clips that will be needed.
        inputs: how to read them.
        sampling: the frame policy.
        on_bad_clip: `"error"` or `"skip"`.
        workers: processes; None: one per core, at most 8, none when little is missing.

    Returns:
        The clips that cannot be read, with the reasons; empty unless `on_bad_clip="skip"`.

    Raises:
        UnreadableClip: clips cannot be read and `on_bad_clip="error"`; the message lists them.
        OSError: the disk is full.
    """
    reasons: dict[str, str] = {}
    keys: list[str] = []
    missing: dict[str, Path] = {}
    for clip in clips:
        try:
            key = clip_key(clip.path)
        except OSError:
            key = f"missing {clip.path}"
            reasons[key] = "there is no such file"
        keys.append(key)
        if key not in cache and key not in reasons:
            missing[key] = clip.path
    if missing:
        cache.check_space(len(missing))
        if workers is None:
            workers = min(cores(), MAX_WORKERS) if len(missing) >= POOL_FROM else 0
        stop = BAD_SHOWN if on_bad_clip == "error" else None
        reasons |= _fill(cache, missing, inputs, sampling, workers, stop)
    bad = [
        BadClip(clip.id, clip.path, reasons[key])
        for clip, key in zip(clips, keys, strict=True)
        if key in reasons
    ]
    if bad and on_bad_clip == "error":
        raise _refusal(bad, len(clips))
    return bad


def _refusal(bad: Sequence[BadClip], total: int) -> UnreadableClip:
    """One error for several unreadable clips."""
    lines = [f"  {clip.id} ({clip.path}): {clip.reason}" for clip in bad[:BAD_SHOWN]]
    if len(bad) >= BAD_SHOWN:
        lines.append("  ... there may be more")
    head = (
        f"{len(bad)} of {total} clips cannot be read; repair or remove them, or set "
        "data.on_bad_clip=skip:"
    )
    return UnreadableClip("\n".join([head, *lines]), bad[0].path, bad[0].reason)


def _fill(
    cache: FrameCache,
    missing: dict[str, Path],
    inputs: InputSpec,
    sampling: str,
    workers: int,
    stop: int | None,
) -> dict[str, str]:
    """Decode and store; return reasons by key of what cannot be read, at most `stop` of them."""
    keys = list(missing)
    jobs = [(number, str(path)) for number, path in enumerate(missing.values())]
    rows: list[tuple[str, Reading]] = []
    reasons: dict[str, str] = {}
    colours: dict[str, str] = {}
    results = _decode(jobs, inputs, sampling, workers)
    try:
        with _bar() as bar, contextlib.closing(results):
            task = bar.add_task("Decoding clips", total=len(missing))
            for number, result, colour in results:
                if colour is not None:
                    colours[name_in(colours, missing[keys[number]])] = colour
                if isinstance(result, str):
                    reasons[keys[number]] = result
                    if stop is not None and len(reasons) >= stop:
                        break
                else:
                    rows.append((keys[number], result))
                    if len(rows) >= cache.shard_clips:
                        cache.append(rows)
                        rows = []
                bar.advance(task)
    finally:
        cache.append(rows)
    if note := colour_note(colours, len(missing)):
        _log.warning(note)
    return reasons


def _decode(
    jobs: list[tuple[int, str]], inputs: InputSpec, sampling: str, workers: int
) -> Generator[_Result, None, None]:
    """Yield results in any order; finish in this process what a broken pool leaves undone."""
    left = dict(jobs)
    if workers > 0:
        try:
            with contextlib.closing(_decode_in_pool(jobs, inputs, sampling, workers)) as results:
                for result in results:
                    del left[result[0]]
                    yield result
        except (BrokenProcessPool, RuntimeError, PermissionError) as error:
            _log.warning(
                "worker processes for decoding are not available (%s); going on in this one",
                str(error).splitlines()[0] if str(error) else type(error).__name__,
            )
    for job in left.items():
        yield from decode_files([job], inputs, sampling)


def _decode_in_pool(
    jobs: list[tuple[int, str]], inputs: InputSpec, sampling: str, workers: int
) -> Generator[_Result, None, None]:
    chunks = iter([jobs[start : start + _CHUNK] for start in range(0, len(jobs), _CHUNK)])
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_decoder)
    try:
        running: set[Future[list[_Result]]] = set()
        while True:
            with main_hidden():
                for chunk in islice(chunks, 2 * workers - len(running)):
                    running.add(pool.submit(decode_files, chunk, inputs, sampling))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield from future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def decode_files(
    jobs: Iterable[tuple[int, str]], inputs: InputSpec, sampling: str
) -> list[_Result]:
    """Decode files; runs in the worker processes.

    Returns:
        For each job its number, the decoded clip or the reason why there is none, and what
        `coefvq.data.colour.stream_colour` says of it.
    """
    results: list[_Result] = []
    for number, path in jobs:
        try:
            with open_clip(path, inputs) as media:
                reading = read_media(media, inputs, sampling)
                results.append((number, reading, stream_colour(media.video)))
        except UnreadableClip as error:
            results.append((number, error.reason, None))
    return results


def _start_decoder() -> None:
    import torch

    start_worker()
    torch.set_num_threads(1)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    )


__all__ = ["BAD_SHOWN", "POOL_FROM", "decode_files", "fill_cache", "read_ahead"]
