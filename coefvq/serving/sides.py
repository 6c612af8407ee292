"""The two halves of a served cascade; each runs in processes of its own."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from coefvq.data.reader import ClipReader, Sample, collate
from coefvq.serving.answer_log import AnswerLog
from coefvq.serving.cascade_folder import load_half
from coefvq.serving.cascade_inference import Passed, check_options, in_audit, pass_light
from coefvq.serving.predict_cascade import answer_row
from coefvq.serving.served_model import reads_alike
from coefvq.serving.uploads import Limits, Refused, Upload, check_clip, clip_of, refusing

_NOT_FOR_ONE = ("id", "path", "audited", "audit_probability", "problem")


@dataclass
class Look:
    """What the light side made of an upload.

    Args:
        passed: the light model's answer and the route.
        ask: what `HeavySide` must be asked with; None where the clip is kept.
        audit: likewise for a kept clip that was drawn for the audit: its answer does not wait, and
            what the heavy side says goes to `LightSide.judge`.
        content: short hash of the video, for the log.
    """

    passed: Passed
    ask: bytes | None
    audit: bytes | None = None
    content: str = ""


class LightSide:
    """The light model and the policy.

    Args:
        cascade: the cascade's folder.
        limits: of uploads.
        device: for the model.
        audit: share of clips that both models see. Drawn by a hash of the video, so that a clip is
            always in or always out.
        audit_seed: who is in it.
        log: where each answer leaves a line with a short hash of the video, see
            `coefvq.serving.watch`; None: nowhere.

    Raises:
        ValueError: see `coefvq.serving.cascade_folder.load_half`; a share outside [0, 1], or an
            audit without a log.
    """

    def __init__(
        self,
        cascade: str | Path,
        limits: Limits,
        device: str = "cpu",
        *,
        audit: float = 0.0,
        audit_seed: int = 0,
        log: str | Path | None = None,
    ) -> None:
        check_options(1, audit, "skip")
        if audit and log is None:
            raise ValueError(f"audit={audit} writes down what it finds; give log=, a folder")
        self.audit, self.audit_seed = audit, audit_seed
        self._log = None if log is None else AnswerLog(log)
        half = load_half(cascade, "light")
        self.limits, self.policy, self.model = limits, half.policy, half.model.to(device)
        self._reader = half.model.reader()
        self._shared = reads_alike(half.model, half.other)
        fields = (*half.model.inputs.text_fields, *half.other.inputs.text_fields)
        self.text_fields = tuple(dict.fromkeys(fields))

    def look(self, upload: Upload) -> Look:
        """Read an upload, ask the light model, and route.

        Raises:
            Refused: 400 for a text field that no model reads, 413 for a clip that is too long or
                too large, 422 for one that cannot be decoded.
        """
        if unknown := [name for name in upload.text if name not in self.text_fields]:
            raise Refused(
                400,
                f"field {unknown[0]} is read by neither model; the fields are "
                f"{', '.join(self.text_fields) or '(none)'}",
            )
        start = time.perf_counter()
        with clip_of(upload, self.text_fields) as clip, refusing():
            check_clip(clip.path, self.limits)
            sample = self._reader.read(clip)
        spent = time.perf_counter() - start
        passed = pass_light(self.model, self.policy, [clip], [sample], [spent])[0]
        name = hashlib.sha256(upload.video).hexdigest()
        passed.audited = in_audit(name, self.audit, self.audit_seed)
        if not (passed.deferred or passed.audited):
            return Look(passed, None, content=name[:16])
        ask = _pack(sample) if self._shared else _pack_upload(upload)
        asks = (ask, None) if passed.deferred else (None, ask)
        return Look(passed, *asks, content=name[:16])

    def finish(self, look: Look, heavy: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Make the final answer, as plain values for JSON.

        Args:
            look: from `look`.
            heavy: what `HeavySide` said, where it was asked.

        Returns:
            The columns of `coefvq.serving.predict_cascade.predict_cascade`: route, reason, scores,
            prediction, uncertainty, and seconds of work (waiting in a queue is not in them).

        Raises:
            Refused: 422 where the heavy model could not read the clip.
        """
        passed = look.passed
        if look.ask is not None:
            assert heavy is not None, "a deferred clip is finished with the heavy side's answer"
            if "problem" in heavy:
                raise Refused(422, heavy["problem"])
            passed.heavy = np.asarray(heavy["logits"], np.float64)
            passed.seconds += heavy["seconds"]
        row = answer_row(passed.answer(self.policy, self.audit), self.policy, self.model.task)
        if self._log is not None and look.audit is None:
            self._log.add(row | {"content": look.content})
        return {name: value for name, value in row.items() if name not in _NOT_FOR_ONE}

    def judge(self, look: Look, heavy: Mapping[str, Any] | None) -> None:
        """Write down what the heavy side says of a kept clip that was drawn for the audit.

        Args:
            look: with an `audit`, after `finish`.
            heavy: what `HeavySide` said; None where it did not answer.
        """
        assert look.audit is not None and self._log is not None
        passed, failed = look.passed, heavy is None or "problem" in heavy
        if not failed:
            assert heavy is not None
            passed.heavy = np.asarray(heavy["logits"], np.float64)
        row = answer_row(passed.answer(self.policy, self.audit), self.policy, self.model.task)
        self._log.add(row | {"audit_failed": failed, "content": look.content})


class HeavySide:
    """The heavy model, for a process of its own.

    Args:
        cascade: the cascade's folder.
        device: for the model.

    Raises:
        ValueError: see `coefvq.serving.cascade_folder.load_half`.
    """

    def __init__(self, cascade: str | Path, device: str = "cpu") -> None:
        half = load_half(cascade, "heavy")
        self.model = half.model.to(device)
        self._reader = half.model.reader()

    def answers(self, asks: Sequence[bytes]) -> list[dict[str, Any]]:
        """Answer what light sides ask, in one batch.

        Args:
            asks: each a `Look.ask`.

        Returns:
            For each, `logits` and `seconds`, or the `problem` of a clip that cannot be read.
        """
        answers: list[dict[str, Any]] = []
        samples = []
        for ask in asks:
            start = time.perf_counter()
            try:
                samples.append(_unpack(ask, self._reader))
                answers.append({"seconds": time.perf_counter() - start})
            except Refused as error:
                answers.append({"problem": str(error)})
        good = [answer for answer in answers if "problem" not in answer]
        if samples:
            start = time.perf_counter()
            logits = self.model.logits(collate(samples)).tolist()
            share = (time.perf_counter() - start) / len(samples)
            for answer, own in zip(good, logits, strict=True):
                answer |= {"logits": own, "seconds": answer["seconds"] + share}
        return answers


def _pack(sample: Sample) -> bytes:
    """A sample between processes, without pickle: only tensors can be in it."""
    tensors = {
        f.name: value.contiguous()
        for f in dataclasses.fields(sample)
        if isinstance(value := getattr(sample, f.name), torch.Tensor)
    }
    return safetensors.torch.save(tensors)


def _pack_upload(upload: Upload) -> bytes:
    text = json.dumps(dict(upload.text)).encode()
    parts = {"video": upload.video, "text": text}
    return safetensors.torch.save(
        {name: torch.frombuffer(bytearray(part), dtype=torch.uint8) for name, part in parts.items()}
    )


def _unpack(ask: bytes, reader: ClipReader) -> Sample:
    tensors = safetensors.torch.load(ask)
    if "video" not in tensors:
        return Sample("upload", **tensors)
    parts = {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
    upload = Upload(parts["video"], json.loads(parts["text"]))
    with clip_of(upload, reader.inputs.text_fields) as clip, refusing():
        return reader.read(clip)


__all__ = ["HeavySide", "LightSide", "Look"]
