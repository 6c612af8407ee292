"""Fit the temperature of a teacher on validation clips (`teacher.calibration=temperature`)."""

from __future__ import annotations

import hashlib
import json

import torch
from torch import Tensor

from coefvq.evaluation.calibration import fit_temperature
from coefvq.evaluation.metrics import compute_metrics
from coefvq.evaluation.scores import checked
from coefvq.files import write_json
from coefvq.teacher_cache import TeacherCache
from coefvq.teachers.calibrated import Calibration
from coefvq.types import TaskSpec

CALIBRATION = "_calibration.json"
"""The file of a cache's folder that holds what its logits are to be divided by."""

COLDEST, HOTTEST = 0.1, 10.0
"""Temperatures stay in this range. A teacher that separates a small validation split perfectly has
its best likelihood at temperature 0, where it would teach nothing but its hard decisions."""


def fit_calibration(
    logits: Tensor, labels: Tensor, task: TaskSpec, *, label_mask: Tensor | None = None
) -> Calibration:
    """Minimise the negative log-likelihood of logits / temperature.

    One temperature; for multilabel one per label. In [`COLDEST`, `HOTTEST`]: the likelihood is
    convex in 1 / temperature, so where the best lies outside, the nearer end is the best inside.
    A label (binary: a task) of which the split has only one answer keeps temperature 1.

    Source: Guo, Pleiss, Sun and Weinberger, ICML 2017, section 4.2.

    Args:
        logits: (N,), (N, C) or (N, L) of *validation* clips.
        labels: (N,), or (N, L) for multilabel.
        task: what both mean; a regression has no probabilities and is refused.
        label_mask: (N,) bool, True where the label counts.

    Raises:
        ValueError: a regression, no labelled clip, or inputs that do not fit.
    """
    if task.kind == "regression":
        raise ValueError(
            f"teacher.calibration needs probabilities, but {task.name!r} is a regression; set "
            "teacher.calibration=null"
        )
    logits, labels = checked(logits, labels, task, label_mask)
    if len(labels) == 0:
        raise ValueError(
            "teacher.calibration needs labelled validation clips and there are none; give some, or "
            "set teacher.calibration=null"
        )
    if task.kind == "multilabel":
        temperatures = tuple(
            _fit(logits[:, k], labels[:, k], TaskSpec(name, "binary", (f"not {name}", name)))
            for k, name in enumerate(task.classes)
        )
    else:
        temperatures = (_fit(logits, labels, task),)
    after = logits / torch.tensor(temperatures, dtype=logits.dtype)
    return Calibration(
        temperatures=temperatures,
        clips=len(labels),
        nll_before=_nll(logits, labels, task),
        nll_after=_nll(after, labels, task),
        ece_before=compute_metrics(logits, labels, task)["ece"],
        ece_after=compute_metrics(after, labels, task)["ece"],
    )


def store_calibration(cache: TeacherCache, calibration: Calibration, data: str) -> None:
    """Put a calibration beside the rows it was fitted to, which stay as the teacher gave them.

    Args:
        cache: whose rows were calibrated.
        calibration: what `teacher=cached teacher.calibration=stored` applies.
        data: fingerprint of the data whose validation clips it was fitted on.
    """
    content = {"cache": cache.identity.fingerprint, "data": data, **calibration.to_dict()}
    content["checksum"] = _checksum(content)
    path = cache.folder / CALIBRATION
    if not path.exists() or json.loads(path.read_text(encoding="utf-8")) != content:
        write_json(path, content)


def stored_calibration(cache: TeacherCache) -> Calibration | None:
    """The calibration that lies in a cache's folder; None where there is none.

    Raises:
        ValueError: it is damaged, or was fitted for another cache.
    """
    path = cache.folder / CALIBRATION
    way = "remove this file, and fit again with teacher.calibration=temperature"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("checksum") != _checksum(content):
            raise ValueError("it is not what was written")
        owner, _ = content.pop("cache"), content.pop("data")
        found = Calibration.from_dict(content)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read ({error}); {way}") from None
    if owner != cache.identity.fingerprint:
        raise ValueError(f"{path} was fitted for another teacher cache; {way}")
    return found


def _checksum(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _fit(logits: Tensor, labels: Tensor, task: TaskSpec) -> float:
    if (labels == labels[0]).all():
        return 1.0
    return min(max(fit_temperature(logits, labels, task), COLDEST), HOTTEST)


def _nll(logits: Tensor, labels: Tensor, task: TaskSpec) -> float:
    if task.kind == "multiclass":
        return torch.nn.functional.cross_entropy(logits, labels).item()
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.double()).item()


__all__ = [
    "CALIBRATION",
    "COLDEST",
    "HOTTEST",
    "fit_calibration",
    "store_calibration",
    "stored_calibration",
]
