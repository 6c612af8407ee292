"""Compare the quality of two files with an exported quality model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from coefvq.serving.score_columns import calibration_of
from coefvq.types import Clip


@dataclass(frozen=True)
class ScoreLine:
    """One file's score.

    Args:
        path: the file.
        score: from 0 to 100.
        low: lower end of its interval.
        high: upper end.
        level: its word.
        remark: what it has to be read with, see `coefvq.data.reading_remarks`; empty: nothing.
    """

    path: str
    score: float
    low: float
    high: float
    level: str
    remark: str = ""


@dataclass(frozen=True)
class Comparison:
    """What a quality model says of two files.

    Args:
        first: the first file.
        second: the other one.
        better: probability that people would score the first one higher.
        coverage: share of labels that intervals are meant to hold.
    """

    first: ScoreLine
    second: ScoreLine
    better: float
    coverage: float

    def lines(self) -> str:
        """What to print."""
        both = (self.first, self.second)
        width = max(len(side.path) for side in both)
        said = []
        for side in both:
            interval = f"({side.low:.0f}–{side.high:.0f}, {self.coverage:.0%} interval)"
            line = f"{side.path:<{width}}  {side.score:5.1f}  {interval}  {side.level}"
            said.append(line + (f"  ({side.remark})" if side.remark else ""))
        if round(self.better, 2) == 0.5:
            said.append("either may be the better one: the probability is 0.50")
        else:
            name, sure = (
                (self.first.path, self.better)
                if self.better > 0.5
                else (self.second.path, 1 - self.better)
            )
            said.append(f"{name} is the better one with probability {sure:.2f}")
        return "\n".join(said)


def compare_files(
    model: str | Path, files: Sequence[str | Path], *, device: torch.device | str = "cpu"
) -> Comparison:
    """Score two files and say how likely the first is the better one.

    Args:
        model: a folder written by a run (`runs/…/student`) of a quality model.
        files: two video files.
        device: where to compute.

    Raises:
        ValueError: not two files, a file that cannot be read, a model that gives no scores or was
            saved without a calibration.
    """
    from coefvq.data.media import UnreadableClip
    from coefvq.data.reader import collate
    from coefvq.data.reading_remarks import reading_remarks
    from coefvq.modules.pretrained import load_metadata
    from coefvq.serving.served_model import load_served, read_interface
    from coefvq.students.load import takes_pairs

    files = [files] if isinstance(files, (str, Path)) else list(files)
    if len(files) != 2:
        raise ValueError(
            f"compare= takes two video files, got {len(files)}; write compare=a.mp4,b.mp4, or for "
            'names with commas \'compare=["a,1.mp4","b.mp4"]\''
        )
    if takes_pairs(model):
        raise ValueError(
            f"model={model} judges pairs; give query= and candidate= in place of compare=, which "
            "holds two scores of a quality model against each other"
        )
    metadata = load_metadata(model)
    task, calibration = read_interface(model).task, calibration_of(metadata)
    if task.kind != "regression" or calibration is None:
        raise ValueError(
            f"model={model} has no calibrated scores (task {task.name!r}, {task.kind}); give the "
            "student of a run (a teacher has none), a quality model that was trained with "
            "data.label_range and enough validation clips"
        )
    served = load_served(model).to(device)
    reader, raw, frames = served.reader(), [], []
    for path in files:
        try:
            # One at a time: then a file's score is to the bit what it gets in any comparison.
            sample = reader.read(Clip(id=str(path), path=Path(path)))
        except UnreadableClip as error:
            raise ValueError(
                f"compare={path} cannot be read: {error.reason}; give a video file"
            ) from error
        raw.append(float(served.logits(collate([sample]))))
        frames.append(int(sample.frame_mask.sum()))
    scores = np.array(raw)
    low, high = calibration.interval(scores)
    percent, words = calibration.percent(scores), calibration.words(scores)
    remarks = [
        reading_remarks(path, served.inputs, count, percent=float(score))
        for path, count, score in zip(files, frames, percent, strict=True)
    ]
    first, second = (
        ScoreLine(str(file), float(score), float(least), float(most), word, remark)
        for file, score, least, most, word, remark in zip(
            files, percent, low, high, words, remarks, strict=True
        )
    )
    return Comparison(first, second, calibration.better(raw[0], raw[1]), calibration.coverage)


__all__ = ["Comparison", "ScoreLine", "compare_files"]
