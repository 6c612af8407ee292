"""Score clips with a cascade: route, reason, score and cost of each, streamed to Parquet."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import torch
from rich.console import Console
from rich.progress import Progress

from coefvq.cascade.policy import Policy
from coefvq.data.clip_list import list_clips
from coefvq.serving.cascade_folder import POLICY, Cascade, load_cascade
from coefvq.serving.cascade_inference import Answer, answer_clips, check_options, probability_of
from coefvq.serving.prediction_parts import PART, Parts, check_out
from coefvq.serving.score_columns import score_columns
from coefvq.serving.served_model import pick_device
from coefvq.types import TaskSpec


def predict_cascade(
    model: str | Path,
    clips: str | Path,
    *,
    out: str | Path,
    root: str | Path | None = None,
    overwrite: bool = False,
    batch_size: int = 16,
    device: str = "auto",
    on_bad_clip: str = "skip",
    audit: float = 0.0,
    audit_seed: int = 0,
) -> pandas.DataFrame:
    """Score clips with a cascade and write one row per clip; a killed call goes on.

    Args:
        model: a cascade's folder.
        clips: a folder of video files, or a manifest with both models' text fields.
        out: a Parquet file.
        root: where a manifest's paths start; default: the manifest's folder.
        overwrite: replace `out` if it exists.
        batch_size: of both models; scores differ by about 1e-7 with it.
        device: `"auto"`, `"cpu"` or `"cuda"`.
        on_bad_clip: `"skip"` gives an unreadable clip a row with the reason; `"error"` stops.
        audit: share of clips that both models see, for `coefvq.cascade.monitor`.
        audit_seed: who is in it.

    Returns:
        Columns id, path, route (`light` or `heavy`), reason, the final scores (see
        `coefvq.serving.score_columns`), the same of the light and, where it was asked, of the heavy
        model uncalibrated with a prefix, heavy_prediction (what would be answered had the clip been
        deferred; empty where the heavy model was not asked), uncertainty, audited (bool; missing
        where a clip could not be read), audit_probability, seconds, problem.

    Raises:
        ValueError: nothing to score, `out` exists, or models that the policy was not fitted for.
    """
    out = check_out(out, overwrite)
    check_options(batch_size, audit, on_bad_clip)
    cascade = load_cascade(model)
    target = torch.device(pick_device(device))
    cascade.light.to(target)
    cascade.heavy.to(target)
    fields = [*cascade.light.inputs.text_fields]
    fields += [name for name in cascade.heavy.inputs.text_fields if name not in fields]
    found = list_clips(clips, root=root, text=fields, for_model=True)
    identity = hashlib.sha256((Path(model) / POLICY).read_bytes()).hexdigest()
    parts = Parts(out, f"{identity} {audit} {audit_seed}", found, overwrite=overwrite)
    todo = [clip for clip in found if clip.id not in parts.done]
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("clips", total=len(found), completed=len(parts.done))
        for i in range(0, len(todo), PART):
            rows = []
            for answer in answer_clips(
                cascade, todo[i : i + PART], batch_size=batch_size, audit=audit,
                audit_seed=audit_seed, on_bad_clip=on_bad_clip,
            ):  # fmt: skip
                if isinstance(answer, Answer):
                    rows.append(answer_row(answer, cascade.policy, cascade.light.task))
                else:
                    clip, problem = answer
                    rows.append({"id": clip.id, "path": str(clip.path), "problem": problem})
                progress.advance(bar)
            parts.add(_table(rows))
    return parts.finish(_columns(cascade))


def _table(rows: list[dict[str, Any]]) -> pandas.DataFrame:
    """A part whose flags stay flags, whichever of its clips could be read."""
    table = pandas.DataFrame(rows)
    audited = table.get("audited", pandas.Series(None, index=table.index, dtype=object))
    return table.assign(audited=audited.astype("boolean"))


def _columns(cascade: Cascade) -> list[str]:
    task = cascade.light.task
    width = (0,) if task.num_outputs == 1 else (0, task.num_outputs)
    final = list(score_columns(torch.zeros(width), task, 0.5))
    own = [name for name in final if name != "prediction"]
    return [
        "id", "path", "route", "reason", *final, *(f"light_{n}" for n in own),
        *(f"heavy_{n}" for n in own), "heavy_prediction", "uncertainty", "audited",
        "audit_probability", "seconds", "problem",
    ]  # fmt: skip


def answer_row(answer: Answer, policy: Policy, task: TaskSpec) -> dict[str, Any]:
    """One clip's row as plain values, see `predict_cascade`; serving answers with the same."""
    cut = policy.decision_threshold
    final = score_columns(torch.from_numpy(answer.logits[None]), task, 0.5 if cut is None else cut)
    row: dict[str, Any] = {
        "id": answer.clip.id,
        "path": str(answer.clip.path),
        "route": "heavy" if answer.deferred else "light",
        "reason": answer.reason,
        **{name: values[0] for name, values in final.items()},
    }
    for who, logits in (("light", answer.light_logits), ("heavy", answer.heavy_logits)):
        if logits is not None:
            row |= {f"{who}_{name}": value for name, value in _own(logits, task).items()}
    if answer.heavy_answer is not None:
        asked = torch.from_numpy(answer.heavy_answer[None])
        named = score_columns(asked, task, 0.5 if cut is None else cut)
        row["heavy_prediction"] = named["prediction"][0]
    return row | {
        "uncertainty": answer.uncertainty,
        "audited": answer.audited,
        "audit_probability": answer.audit_probability,
        "seconds": answer.seconds,
        "problem": "",
    }


def _own(logits: np.ndarray, task: TaskSpec) -> dict[str, float]:
    p = probability_of(logits, task.kind)
    if task.kind == "binary":
        return {"probability": float(p)}
    return {f"p_{name}": float(p[i]) for i, name in enumerate(task.classes)}


__all__ = ["answer_row", "predict_cascade"]
