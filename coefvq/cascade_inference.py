"""Run a cascade over clips: everybody passes the light model, only deferred clips the heavy one."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from coefvq.cascade_folder import Cascade
from coefvq.data.reader import Sample, UnreadableClip, collate
from coefvq.types import Clip


@dataclass(frozen=True)
class Answer:
    """What a cascade says of one clip.

    Args:
        clip: what was asked about.
        logits: final and calibrated: a number, or (C,) or (L,).
        light_logits: the light model's own, as it gave them.
        heavy_logits: the heavy model's own; None where it was not asked.
        deferred: whether the heavy model's answer counts.
        reason: why it was deferred or kept.
        uncertainty: from the gate.
        audited: whether the clip was drawn for the audit, whose kept clips pass the heavy model,
            too, without changing their answer. False for one that the heavy model could not read.
        audit_probability: probability that the heavy model would see this clip: 1 for a deferred
            one. What `coefvq.cascade.monitor.miss_rate` weights by.
        seconds: decoding, and its share of the batches that it was in.
    """

    clip: Clip
    logits: np.ndarray
    light_logits: np.ndarray
    heavy_logits: np.ndarray | None
    deferred: bool
    reason: str
    uncertainty: float
    audited: bool
    audit_probability: float
    seconds: float


@dataclass
class _Passed:
    """A clip that the light model has answered."""

    clip: Clip
    sample: Sample | None  # let go of as soon as nobody needs it
    light: np.ndarray
    deferred: bool
    reason: str
    uncertainty: float
    audited: bool
    seconds: float
    heavy: np.ndarray | None = None


def in_audit(clip_id: str, share: float, seed: int = 0) -> bool:
    """Whether a clip is in the random share that both models see.

    Decided by a hash of seed and id, so that a clip is always in or always out, whoever asks.
    """
    digest = hashlib.sha256(f"{seed}\0{clip_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def answer_clips(
    cascade: Cascade,
    clips: Sequence[Clip],
    *,
    batch_size: int = 16,
    audit: float = 0.0,
    audit_seed: int = 0,
    on_bad_clip: str = "skip",
) -> Iterator[Answer | tuple[Clip, str]]:
    """Answer clips, in no particular order; at most two batches of clips are in memory.

    Where both models read a clip alike it is decoded once; otherwise a deferred clip is decoded
    again, as the heavy model wants it.

    Args:
        cascade: loaded.
        clips: what to answer.
        batch_size: of both models; answers do not depend on it.
        audit: share of clips, in [0, 1], that both models see.
        audit_seed: who is in that share.
        on_bad_clip: `"skip"` yields an unreadable clip with the reason; `"error"` stops.

    Yields:
        An `Answer`, or (clip, problem).

    Raises:
        ValueError: a share outside [0, 1], a batch of no clips, an unknown word, or an unreadable
            clip where that is an error.
    """
    if not 0 <= audit <= 1:
        raise ValueError(f"audit is a share of clips in [0, 1], got {audit}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if on_bad_clip not in ("skip", "error"):
        raise ValueError(f"on_bad_clip is skip or error, got {on_bad_clip!r}")
    light_reader, heavy_reader = cascade.light.reader(), cascade.heavy.reader()
    once = cascade.one_reading
    waiting: list[_Passed] = []

    def read(reader, clip):
        start = time.perf_counter()
        try:
            return reader.read(clip), time.perf_counter() - start
        except UnreadableClip as error:
            if on_bad_clip == "error":
                raise ValueError(
                    f"clip {clip.id} ({clip.path}) cannot be read: {error.reason}; repair or "
                    "remove it, or set on_bad_clip=skip"
                ) from error
            return str(error), 0.0

    for start in range(0, len(clips), batch_size):
        samples, seconds, read_clips = [], [], []
        for clip in clips[start : start + batch_size]:
            sample, spent = read(light_reader, clip)
            if isinstance(sample, str):
                yield clip, sample
                continue
            samples.append(sample)
            seconds.append(spent)
            read_clips.append(clip)
        if not samples:
            continue
        begin = time.perf_counter()
        light = cascade.light.logits(collate(samples)).numpy().astype(np.float64)
        decision = cascade.policy.decide(light)
        share = (time.perf_counter() - begin) / len(samples)
        for i, (clip, reason) in enumerate(zip(read_clips, decision.reasons, strict=True)):
            audited = in_audit(clip.id, audit, audit_seed)
            passed = _Passed(
                clip, None, light[i], bool(decision.routes[i]), reason,
                float(decision.uncertainty[i]), audited, seconds[i] + share,
            )  # fmt: skip
            if not (passed.deferred or audited):
                yield _answer(cascade, passed, audit)
                continue
            sample, spent = (samples[i], 0.0) if once else read(heavy_reader, clip)
            if isinstance(sample, str):
                if passed.deferred:
                    yield clip, f"deferred, but the heavy model cannot read it: {sample}"
                else:
                    passed.audited = False  # its answer stands; there is nothing to compare it with
                    yield _answer(cascade, passed, audit)
                continue
            passed.sample, passed.seconds = sample, passed.seconds + spent
            waiting.append(passed)
        while len(waiting) >= batch_size:
            now, waiting = waiting[:batch_size], waiting[batch_size:]
            yield from _heavy(cascade, now, audit)
    if waiting:
        yield from _heavy(cascade, waiting, audit)


def _heavy(cascade: Cascade, passed: Sequence[_Passed], audit: float) -> Iterator[Answer]:
    begin = time.perf_counter()
    samples = [p.sample for p in passed if p.sample is not None]
    logits = cascade.heavy.logits(collate(samples)).numpy().astype(np.float64)
    share = (time.perf_counter() - begin) / len(passed)
    for one, heavy in zip(passed, logits, strict=True):
        one.heavy, one.seconds, one.sample = heavy, one.seconds + share, None
        yield _answer(cascade, one, audit)


def _answer(cascade: Cascade, passed: _Passed, audit: float) -> Answer:
    light = passed.light[None]
    heavy = np.full_like(light, np.nan) if passed.heavy is None else passed.heavy[None]
    final = cascade.policy.combine(light, heavy, np.array([passed.deferred]))
    return Answer(
        clip=passed.clip,
        logits=final[0],
        light_logits=passed.light,
        heavy_logits=passed.heavy,
        deferred=passed.deferred,
        reason=passed.reason,
        uncertainty=passed.uncertainty,
        audited=passed.audited,
        audit_probability=1.0 if passed.deferred else audit,
        seconds=passed.seconds,
    )


def probability_of(logits: np.ndarray, kind: str) -> torch.Tensor:
    """Probabilities of one clip's logits: a number, or (C,) or (L,)."""
    z = torch.as_tensor(logits)
    return z.softmax(-1) if kind == "multiclass" else z.sigmoid()


__all__ = ["Answer", "answer_clips", "in_audit", "probability_of"]
