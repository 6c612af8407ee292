"""Embedded quality scores, pattern by pattern: is it look-alikes that students know?

    python -m coefvq.compare +table=quality seeds=5 out=quality
    python recipes/studies/quality_by_pattern.py runs=quality/runs

`only=blind_quality` takes the methods whose folder's name begins so. Patterns of `shortform` that
repeat their pictures are in no test split of scores, but clips of one pattern can look alike (a
mandelbrot is the same set at another place and zoom). The first table says how alike, for the test
split of the first run: the largest correlation, its sign aside, of the grey first picture of a test
clip with that of a training clip of its pattern, as the median over test clips and the share above
.8. The others have each student's SRCC on its own test split, on the clips of it that are not that
alike to any training clip, and by pattern.
"""

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from omegaconf import OmegaConf

from coefvq.data.shortform.pool import Pool
from coefvq.evaluation.gap import mean_interval
from coefvq.evaluation.quality import srcc
from coefvq.prepare import prepared_data
from coefvq.students.load import load_student

ALIKE = 0.8
SIDE = 64


def picture(path: Path) -> np.ndarray:
    """The first picture, grey, as numbers of mean 0 and length 1."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    grey = frame.reformat(SIDE, SIDE, "gray").to_ndarray().astype(float).ravel()
    grey -= grey.mean()
    return grey / max(float(np.linalg.norm(grey)), 1e-9)


def likeness(data: Any, kinds: list[str]) -> dict[str, float]:
    """For each test clip, its largest correlation with a training clip of its pattern."""
    known, found = defaultdict(list), {}
    for clip in data.splits["train"]:
        known[kinds[index(clip.id)]].append(picture(clip.path))
    for clip in data.splits["test"]:
        others, own = known[kinds[index(clip.id)]], picture(clip.path)
        found[clip.id] = max((abs(float(other @ own)) for other in others), default=0.0)
    return found


@torch.no_grad()
def by_pattern(
    student: torch.nn.Module, data: Any, kinds: list[str], near: dict[str, float]
) -> dict[str, float]:
    """SRCC on the test split: all, without look-alikes, and of each pattern."""
    scores, labels, names, rest = [], [], [], []
    for batch in data.test_dataloader():
        scores += student(batch.public()).logits.tolist()
        labels += batch.labels.tolist()
        names += [kinds[index(name)] for name in batch.ids]
        rest += [near[name] <= ALIKE for name in batch.ids]
    x, y, kind, own = map(np.array, (scores, labels, names, rest))
    found = {"all": srcc(x, y), "without look-alikes": srcc(x[own], y[own])}
    return found | {k: srcc(x[kind == k], y[kind == k]) for k in sorted(set(names))}


def index(name: str) -> int:
    """A clip's number in its pool."""
    return int(name.rpartition("-")[2])


def study(runs: Path, only: str = "") -> None:
    """Print both tables, in Markdown."""
    there = sorted(runs.iterdir()) if runs.is_dir() else []
    methods = {
        folder.name: finished
        for folder in there
        if folder.name.startswith(only)
        and (finished := sorted(run.parent for run in folder.glob("seed-*/report.json")))
    }
    if not methods:
        raise SystemExit(f"runs={runs} has no finished runs that begin with {only!r}; give the "
                         "folder runs of what compare wrote")  # fmt: skip
    kinds: dict[tuple[int, int], list[str]] = {}  # by pool
    near: dict[str, dict[str, float]] = {}  # by data set: every seed has its own split
    for method, finished in methods.items():
        rows = defaultdict(list)
        for run in finished:
            data = prepared_data(OmegaConf.load(run / "config.yaml"))
            source = data.source
            pool = (source.seed, source.pool)
            if pool not in kinds:
                table = Pool(source.seed, source.cache_dir).ensure(source.pool)
                kinds[pool] = table["kind"].tolist()
            split = f"{pool} {source.split_seed} {source.sizes}"
            if split not in near:
                near[split] = likeness(data, kinds[pool])
                if len(near) == 1:
                    _show(near[split], kinds[pool])
            student = load_student(run / "student").eval()
            for name, value in by_pattern(student, data, kinds[pool], near[split]).items():
                rows[name].append(value)
        print(f"| {method} | SRCC |\n|---|---|")
        for name, values in rows.items():
            mean, half = mean_interval(values)
            print(f"| {name} | {mean:.3f} ± {half:.3f} |")


def _show(near: dict[str, float], kinds: list[str]) -> None:
    by_kind = defaultdict(list)
    for name, value in near.items():
        by_kind[kinds[index(name)]].append(value)
    print("| pattern | test clips | nearest training picture | above .8 |\n|---|---|---|---|")
    for kind, values in sorted(by_kind.items()):
        above = np.mean(np.array(values) > ALIKE)
        print(f"| {kind} | {len(values)} | {np.median(values):.2f} | {above:.0%} |")
    print()


if __name__ == "__main__":
    words = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
    if not {"runs"} <= set(words) <= {"runs", "only"}:
        raise SystemExit("give runs=folder, and only=name where not every method is wanted")
    study(Path(words["runs"]), words.get("only", ""))
