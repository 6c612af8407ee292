"""Run a cascade over clips: everybody passes the light model, only deferred clips the heavy one."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from coefvq.cascade.policy import Policy
from coefvq.data.reader import Sample, UnreadableClip, collate
from coefvq.serving.cascade_folder import Cascade
from coefvq.serving.light_models import Light, light_logits
from coefvq.serving.prediction_parts import unreadable
from coefvq.types import Clip


@dataclass(frozen=True)
class Answer:
    """What a cascade says of one clip.

    Args:
        clip: what was asked about.
        logits: final and calibrated: a number, or (C,) or (L,).
        light_logits: the light model's own, as it gave them; of several light models their mean.
        heavy_logits: the heavy model's own; None where it was not asked.
        deferred: whether the heavy model's answer counts.
        reason: why it was deferred or kept.
        uncertainty: from the gate.
        audited: whether the clip was drawn for the audit, whose kept clips pass the heavy model,
            too, without changing their answer. False for one that the heavy model could not read.
        audit_probability: probability that the heavy model would see this clip: 1 for a deferred
            one. What `coefvq.cascade.monitor.miss_rate` weights by.
        seconds: decoding, and its share of the batches that it was in.
        heavy_answer: what `logits` would be had the clip been deferred; None where the heavy model
            was not asked. What an audit holds against the answer of a kept clip.
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
    heavy_answer: np.ndarray | None = None


@dataclass
class Passed:
    """A clip that the light model has answered, on its way.

    Args:
        clip: what was asked about.
        light: the light model's logits; (M, …) of M light models.
        deferred: whether the heavy model's answer will count.
        reason: why.
        uncertainty: from the gate.
        seconds: so far.
        audited: whether the heavy model sees it all the same.
        sample: as read for the heavy model; let go of as soon as nobody needs it.
        heavy: the heavy model's logits, once it was asked.
    """

    clip: Clip
    light: np.ndarray
    deferred: bool
    reason: str
    uncertainty: float
    seconds: float
    audited: bool = False
    sample: Sample | None = None
    heavy: np.ndarray | None = None

    def answer(self, policy: Policy, audit: float = 0.0) -> Answer:
        """Make both answers one, with the probability of the audit recorded."""
        several = policy.gate.several_models
        light = self.light[:, None] if several else self.light[None]
        own = self.light.mean(axis=0) if several else self.light
        heavy = np.full_like(own, np.nan)[None] if self.heavy is None else self.heavy[None]
        asked = None if self.heavy is None else policy.combine(light, heavy, [True])[0]
        return Answer(
            clip=self.clip,
            logits=policy.combine(light, heavy, [self.deferred])[0],
            light_logits=own,
            heavy_logits=self.heavy,
            deferred=self.deferred,
            reason=self.reason,
            uncertainty=self.uncertainty,
            audited=self.audited,
            audit_probability=1.0 if self.deferred else audit,
            seconds=self.seconds,
            heavy_answer=asked,
        )


def pass_light(
    light: Light,
    policy: Policy,
    clips: Sequence[Clip],
    samples: Sequence[Sample],
    seconds: Sequence[float],
) -> list[Passed]:
    """Ask the light model about a batch, and the policy where each clip goes.

    Args:
        light: the light model, or several.
        policy: fitted for it.
        clips: what is asked about.
        samples: the same, as read for the light model.
        seconds: that reading each took.
    """
    begin = time.perf_counter()
    logits = light_logits(light, collate(samples), clips).numpy().astype(np.float64)
    decision = policy.decide(logits)
    share = (time.perf_counter() - begin) / len(samples)
    if policy.gate.several_models:
        logits = np.moveaxis(logits, 1, 0)  # one row per clip
    rows = zip(
        clips, logits, decision.routes, decision.reasons, decision.uncertainty, seconds, strict=True
    )
    return [Passed(c, z, bool(d), why, float(u), s + share) for c, z, d, why, u, s in rows]


def in_audit(clip_id: str, share: float, seed: int = 0) -> bool:
    """Whether a clip is in the random share that both models see.

    Decided by a hash of seed and id, so that a clip is always in or always out, whoever asks.
    """
    digest = hashlib.sha256(f"{seed}\0{clip_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def check_options(batch_size: int, audit: float, on_bad_clip: str) -> None:
    """Refuse what `answer_clips` would, before minutes are spent.

    Raises:
        ValueError: a share outside [0, 1], a batch of no clips, or an unknown word.
    """
    if not isinstance(audit, int | float) or not 0 <= audit <= 1:
        raise ValueError(f"audit is a share of clips in [0, 1], got {audit}")
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if on_bad_clip not in ("skip", "error"):
        raise ValueError(f"on_bad_clip is skip or error, got {on_bad_clip!r}")


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
        batch_size: of both models. A model's own arithmetic depends on it a little: differences of
            about 1e-7 in a probability were measured on a CPU, so that a clip that close to a
            threshold may change sides. From the same logits routes and scores are the same.
        audit: share of clips, in [0, 1], that both models see.
        audit_seed: who is in that share.
        on_bad_clip: `"skip"` yields an unreadable clip with the reason; `"error"` stops.

    Yields:
        An `Answer`, or (clip, problem).

    Raises:
        ValueError: a share outside [0, 1], a batch of no clips, an unknown word, or an unreadable
            clip where that is an error.
    """
    check_options(batch_size, audit, on_bad_clip)
    light_reader, heavy_reader = cascade.light.reader(), cascade.heavy.reader()
    once = cascade.one_reading
    waiting: list[Passed] = []

    def read(reader, clip):
        start = time.perf_counter()
        try:
            return reader.read(clip), time.perf_counter() - start
        except UnreadableClip as error:
            return unreadable(clip, error, on_bad_clip), 0.0

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
        batch = pass_light(cascade.light, cascade.policy, read_clips, samples, seconds)
        for passed, sample in zip(batch, samples, strict=True):
            passed.audited = in_audit(passed.clip.id, audit, audit_seed)
            if not (passed.deferred or passed.audited):
                yield passed.answer(cascade.policy, audit)
                continue
            again, spent = (sample, 0.0) if once else read(heavy_reader, passed.clip)
            if isinstance(again, str):
                if passed.deferred:
                    yield passed.clip, f"deferred, but the heavy model cannot read it: {again}"
                else:
                    passed.audited = False  # its answer stands; there is nothing to compare it with
                    yield passed.answer(cascade.policy, audit)
                continue
            passed.sample, passed.seconds = again, passed.seconds + spent
            waiting.append(passed)
        while len(waiting) >= batch_size:
            now, waiting = waiting[:batch_size], waiting[batch_size:]
            yield from _heavy(cascade, now, audit)
    if waiting:
        yield from _heavy(cascade, waiting, audit)


def _heavy(cascade: Cascade, passed: Sequence[Passed], audit: float) -> Iterator[Answer]:
    begin = time.perf_counter()
    samples = [p.sample for p in passed if p.sample is not None]
    logits = cascade.heavy.logits(collate(samples)).numpy().astype(np.float64)
    share = (time.perf_counter() - begin) / len(passed)
    for one, heavy in zip(passed, logits, strict=True):
        one.heavy, one.seconds, one.sample = heavy, one.seconds + share, None
        yield one.answer(cascade.policy, audit)


def probability_of(logits: np.ndarray, kind: str) -> torch.Tensor:
    """Probabilities of one clip's logits: a number, or (C,) or (L,)."""
    z = torch.as_tensor(logits)
    return z.softmax(-1) if kind == "multiclass" else z.sigmoid()


__all__ = [
    "Answer",
    "Passed",
    "answer_clips",
    "check_options",
    "in_audit",
    "pass_light",
    "probability_of",
]
