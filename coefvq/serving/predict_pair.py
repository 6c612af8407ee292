"""Judge one pair of files with an exported pairwise student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from coefvq.evaluation.operating_point import OperatingPoint
from coefvq.types import Clip, InputSpec, TaskSpec


@dataclass(frozen=True)
class PairVerdict:
    """What a student says of a pair.

    Args:
        score: calibrated probability that the candidate reproduces the query; where the student
            was exported without an operating point, its own probability.
        verdict: the class at the threshold; `other` and `reproduced` for labels 0 and 1.
        threshold: on the score; above 1 where none reached the precision on validation pairs.
        precision: share of right answers among such verdicts that the threshold had on validation
            pairs; None without an operating point (the threshold is that of the largest F1).
        doubt: why that precision may be another one in use; None: no reason.
    """

    score: float
    verdict: str
    threshold: float
    precision: float | None
    doubt: str | None = None

    def line(self) -> str:
        """What to print."""
        if self.threshold > 1 and self.precision is not None:
            how = (
                f"no threshold had a precision of {self.precision:.0%} on the validation pairs, so "
                "nothing is called a reproduction; train with a lower at_precision or more pairs"
            )
            return f"{self.verdict}  {self.score:.4f}  ({how})"
        how = (
            f"threshold {self.threshold:.3f}, the best F1 on validation pairs"
            if self.precision is None
            else f"threshold {self.threshold:.3f}, for a precision of {self.precision:.0%}"
        )
        how += "" if self.doubt is None else f"; {self.doubt}"
        return f"{self.verdict}  {self.score:.4f}  ({how})"


def judge_pair(
    model: str | Path,
    query: str | Path,
    candidate: str | Path,
    *,
    query_text: str | Mapping[str, str] = "",
    candidate_text: str | Mapping[str, str] = "",
    device: torch.device | str = "cpu",
) -> PairVerdict:
    """Say whether one file reproduces another.

    Args:
        model: a folder written by a run (`runs/…/student`) of a pairwise student.
        query: video file that is asked about.
        candidate: video file that it may have been made from.
        query_text: its title, which is the student's first text field, or all its texts by field.
        candidate_text: likewise.
        device: where to compute.

    Raises:
        ValueError: the student judges single clips or does not read such a text, or a file cannot
            be read.
    """
    from coefvq.data.media import UnreadableClip
    from coefvq.data.reader import ClipReader, collate
    from coefvq.data.text import load_tokenizer
    from coefvq.modules.pretrained import load_metadata
    from coefvq.pairs import PairBatch
    from coefvq.students.load import load_student

    _check_model(Path(model))
    try:
        device = torch.device(device)
    except RuntimeError:
        raise ValueError(f"device={device} is unknown; use auto, cpu or cuda") from None
    student, metadata = load_student(model).eval().to(device), load_metadata(model)
    task, inputs = TaskSpec(**metadata["task"]), InputSpec(**metadata["inputs"])
    reader = ClipReader(inputs, load_tokenizer(model) if inputs.text_fields else None)
    shape = getattr(student, "shape", None)
    reads = inputs.text_fields if "T" in getattr(shape, "modalities", "T") else ()
    sides = []
    for name, path, text in (
        ("query", query, query_text),
        ("candidate", candidate, candidate_text),
    ):
        texts = _texts(f"{name}_text", text, reads)
        clip = Clip(id=name, path=Path(path), text=texts)
        try:
            sides.append(collate([reader.read(clip)]))
        except UnreadableClip as error:
            raise ValueError(
                f"{name}={path} cannot be read: {error.reason}; give a video file"
            ) from error
    batch = PairBatch(("pair",), *sides).to(device).public()
    with torch.no_grad():
        logits = student(batch).logits.float().cpu()
    stored = metadata.get("operating_point")
    if stored is None:
        score, threshold, sure = float(logits.sigmoid()), metadata["threshold"], (None, None)
    else:
        point = OperatingPoint.from_dict(stored)
        score, threshold = float(point.score(logits)), point.threshold
        sure = point.precision, point.doubt
    # A table of one's own has labels 0 and 1, which on a line of numbers would be two more.
    words = ("other", "reproduced") if task.classes == ("0", "1") else task.classes
    return PairVerdict(score, words[int(score >= threshold)], threshold, *sure)


def _check_model(folder: Path) -> None:
    """Refuse what is no pairwise student, and say what it is."""
    from coefvq.modules.pretrained import read_config
    from coefvq.students.load import takes_pairs

    if (folder / "student" / "config.json").is_file():
        raise ValueError(f"model={folder} is a run; give its student, model={folder}/student")
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"model={folder} holds no saved model; give a student's folder, such as runs/…/student"
        )
    if not takes_pairs(folder):
        kind = read_config(folder)["class"]
        if kind == "MatchLM":
            raise ValueError(
                f"model={folder} holds a {kind}, a teacher; give the pairwise student of its run, "
                "runs/…/student"
            )
        raise ValueError(
            f"model={folder} holds a {kind}, which judges single clips; give clips=, a folder or a "
            "manifest, in place of query= and candidate="
        )


def _texts(word: str, given: Any, fields: Sequence[str]) -> dict[str, str]:
    """Texts by field; a student that reads no text, or not this one, must not seem to read it."""
    if not isinstance(given, Mapping):
        given = {} if given in (None, "") else {(fields[0] if fields else "title"): given}
    if unknown := [str(name) for name in given if name not in fields]:
        reads = f"the text fields {', '.join(fields)}" if fields else "no text"
        raise ValueError(
            f"{word} gives {', '.join(unknown)}, but the student reads {reads}; "
            + (f"write {word}={{{fields[0]}: …}}" if fields else f"leave {word} out")
        )
    return {str(name): str(text) for name, text in given.items() if text is not None}


__all__ = ["PairVerdict", "judge_pair"]
