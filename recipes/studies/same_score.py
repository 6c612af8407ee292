"""Same file, same score: a quality model asked again, in other batches, and in bf16.

    python recipes/studies/same_score.py model=runs/quality/student clips=folder

Says, in points of 0 to 100, how far scores move: over ten runs (each file decoded anew), over
batches of 1, 8 and all clips, and in bf16, with its weights in bf16 and under autocast.
"""

import sys

import numpy as np
import torch

from coefvq.data.clip_list import list_clips
from coefvq.data.reader import ClipReader, collate
from coefvq.evaluation.quality import krcc, srcc
from coefvq.evaluation.score_calibration import ScoreCalibration
from coefvq.modules.pretrained import load_metadata
from coefvq.students.load import load_student
from coefvq.types import InputSpec

RUNS = 10


def study(model: str, clips: str) -> dict[str, dict[str, float]]:
    """Differences in points by what was changed: the largest, the mean, and of two orders."""
    stored = load_metadata(model)
    unit = ScoreCalibration.from_dict(stored["score_calibration"])
    reader = ClipReader(InputSpec(**stored["inputs"]))
    student, half = load_student(model), load_student(model).bfloat16()
    paths = list_clips(clips)

    def read() -> list:
        return [reader.read(clip) for clip in paths]

    @torch.no_grad()
    def ask(network: torch.nn.Module, some: list, size: int = 8, cast: bool = False) -> np.ndarray:
        found = []
        for start in range(0, len(some), size):
            batch = collate(some[start : start + size]).public()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=cast):
                found.append(network(batch).logits.float())
        return unit.percent(torch.cat(found).double().numpy())

    some = read()
    first, sizes = ask(student, some), (1, 8, len(some))
    changed = {
        f"{RUNS} runs": [ask(student, read()) for _ in range(RUNS)],
        "batches of 1, 8, all": [ask(student, some, size) for size in sizes],
        "weights in bf16": [ask(half, some, size) for size in sizes],
        "autocast to bf16": [ask(student, some, size, cast=True) for size in sizes],
    }
    return {
        name: {
            "most": float(np.abs(np.stack(scores) - first).max()),
            "mean": float(np.abs(np.stack(scores) - first).mean()),
            "SRCC": min(srcc(row, first) for row in scores),
            "KRCC": min(krcc(row, first) for row in scores),
            "between batches": float(np.ptp(np.stack(scores), axis=0).max()),
        }
        for name, scores in changed.items()
    }


def main(words: list[str]) -> dict[str, dict[str, float]]:
    """Read `model=` and `clips=`, run, print."""
    given = dict(word.partition("=")[::2] for word in words)
    if set(given) != {"model", "clips"}:
        raise SystemExit("give model=<folder of a quality student> and clips=<folder of clips>")
    found = study(given["model"], given["clips"])
    print(f"{'changed':<22}" + "".join(f"{name:>17}" for name in next(iter(found.values()))))
    for name, row in found.items():
        print(f"{name:<22}" + "".join(f"{value:17.5f}" for value in row.values()))
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
