"""Real scores: dense features teach students on light ones, with few labels and many clips without.

    python recipes/studies/konvid_features.py path=konvid1k_features.parquet splits=20

The table has one row per KoNViD-1k video: `mos` (1 to 5, people's), `dense_*` (VIDEVAL features at
full size: a minute of computing per video), `light_*` (the same from small pictures), `brisque_*`.
In every split 80 % of the videos are for training, and 15 % of these keep their score. A teacher
reads dense features, a student light or BRISQUE ones. All are small multi-layer perceptrons, and
scores are points from 0 to 100. Everybody has the same size and steps; those were set once, by
looking at splits of another seed (of the same videos: there are no others).
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas
import torch
from torch import Tensor, nn

from coefvq.evaluation.quality import pearson, srcc
from coefvq.evaluation.quality_splits import summarise
from coefvq.losses import (
    fidelity_rank_loss,
    plcc_loss,
    score_cpfd_loss,
    score_kd_loss,
    supervised_loss,
)
from coefvq.losses.regression_confidence import StdConfidence, agreement_std

OPTIONS = {"path": "konvid1k_features.parquet", "splits": 20, "labels": 0.15, "seed": 1}
MEMBERS, HIDDEN, STEPS, BATCH, LR = 5, 64, 250, 128, 1e-2
BETA = 10.0  # points


@dataclass(frozen=True)
class Split:
    """One split, features standardised on its training videos.

    Args:
        train: (n, P) features by kind.
        test: (m, P) likewise.
        points: (n,) labels in points; all of them, whatever `labelled` says.
        labelled: (n,) bool.
        wanted: (m,) test labels.
    """

    train: dict[str, Tensor]
    test: dict[str, Tensor]
    points: Tensor
    labelled: Tensor
    wanted: np.ndarray


def draw_split(frame: pandas.DataFrame, share: float, rng: np.random.Generator) -> Split:
    """Draw 80 % for training, and the share of them whose label is known."""
    order = rng.permutation(len(frame))
    cut = round(0.8 * len(frame))
    rows, test_rows = order[:cut], order[cut:]
    train, test = {}, {}
    for kind in ("dense", "light", "brisque"):
        x = frame.filter(like=f"{kind}_").to_numpy(np.float64)
        mean, std = np.nanmean(x[rows], 0), np.nanstd(x[rows], 0) + 1e-9
        x = np.nan_to_num((x - mean) / std).clip(-5, 5)
        train[kind], test[kind] = (
            torch.tensor(x[i], dtype=torch.float32) for i in (rows, test_rows)
        )
    points = torch.tensor(25 * (frame["mos"].to_numpy(np.float64) - 1), dtype=torch.float32)
    labelled = torch.zeros(cut, dtype=torch.bool)
    labelled[: round(share * cut)] = True  # rows are in random order
    return Split(train, test, points[rows], labelled, points[test_rows].double().numpy())


class Scorers(nn.Module):
    """K independent perceptrons of one hidden layer: (B, P) -> (K, B) points."""

    def __init__(self, inputs: int, members: int, mean: float, std: float) -> None:
        super().__init__()
        self.hidden = nn.Parameter(torch.randn(members, inputs, HIDDEN) / inputs**0.5)
        self.bias = nn.Parameter(torch.zeros(members, 1, HIDDEN))
        self.output = nn.Parameter(torch.randn(members, HIDDEN) / HIDDEN**0.5)
        self.mean, self.std = mean, std

    def forward(self, x: Tensor) -> Tensor:
        """Score (B, P) features."""
        x = nn.functional.dropout(x.expand(len(self.hidden), -1, -1), 0.2, self.training)
        x = nn.functional.gelu(x @ self.hidden + self.bias)
        scores = (nn.functional.dropout(x, 0.2, self.training) @ self.output[..., None])[..., 0]
        return self.mean + self.std * scores


Loss = Callable[[Tensor, Tensor], Tensor]
"""Of the (B,) scores of a scorer and the rows of the training videos that they are of."""


def fit(x: Tensor, known: Tensor, rows: Tensor, loss: Loss, members: int, seed: int) -> Scorers:
    """Train scorers on some rows; `known` are labels that say where scores lie."""
    torch.manual_seed(seed)
    model = Scorers(x.shape[1], members, known.mean().item(), known.std().item())
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, STEPS)
    for _ in range(STEPS):
        drawn = rows[torch.randperm(len(rows))[:BATCH]]
        total = torch.stack([loss(scores, drawn) for scores in model(x[drawn])]).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def losses(split: Split, teacher: Tensor, spread: Tensor) -> dict[str, Loss]:
    """The students' objectives, told in the losses of the library.

    Args:
        split: labels are read where `labelled`.
        teacher: (n,) the teacher's points for the training videos.
        spread: (n,) how far its members lie apart.
    """
    y, mask = split.points, split.labelled

    def cpfd(trust: Tensor | None) -> Loss:
        return lambda z, i: score_cpfd_loss(
            z, teacher[i], y[i], None if trust is None else trust[i], beta=BETA, label_mask=mask[i]
        )

    trust = StdConfidence(spread.median().item())(teacher, None, score_std=spread)
    trust = trust / trust.mean()  # on average as strong as PFD
    pfd, sure = cpfd(None), cpfd(trust)
    rank: Loss = lambda z, i: fidelity_rank_loss(z, teacher[i], student_std=10.0, teacher_std=10.0)  # noqa: E731
    return {
        "score KD": lambda z, i: score_kd_loss(z, teacher[i], beta=BETA),
        "PFD": pfd,
        "CPFD, agreement": sure,
        "PFD + rank KD": lambda z, i: pfd(z, i) + 30 * rank(z, i),
        "PFD + PLCC": lambda z, i: pfd(z, i) + 10 * plcc_loss(z, teacher[i]),
    }


def one_split(split: Split, seed: int) -> dict[tuple[str, str], dict[str, float]]:
    """Train everybody on one split; SRCC and PLCC on its test videos by (who, inputs)."""
    y, everyone, few = split.points, torch.arange(len(split.points)), split.labelled.nonzero()[:, 0]

    def hard(z: Tensor, i: Tensor) -> Tensor:
        return supervised_loss(z, y[i], task="regression") / BETA

    found: dict[tuple[str, str], dict[str, float]] = {}

    def keep(who: str, kind: str, model: Scorers) -> None:
        with torch.no_grad():
            scores = model(split.test[kind]).mean(0).double().numpy()
        found[who, kind] = {
            "srcc": srcc(scores, split.wanted),
            "plcc": pearson(scores, split.wanted),
        }

    teachers = {}
    for name, rows in (("15 %", few), ("all", everyone)):
        x = split.train["dense"]
        teacher = fit(x, y[few], rows, hard, MEMBERS, seed)
        keep(f"teacher, {name} of the labels", "dense", teacher)
        with torch.no_grad():
            answers = teacher(x)
        teachers[name] = answers.mean(0), agreement_std(answers)
    for kind in ("light", "brisque"):
        x = split.train[kind]
        keep("no KD, 15 % of the labels", kind, fit(x, y[few], few, hard, 1, seed))
        keep("no KD, all labels", kind, fit(x, y[few], everyone, hard, 1, seed))
        for name, answers in teachers.items():
            for who, loss in losses(split, *answers).items():
                if name == "all" and who != "PFD":
                    continue  # what a better teacher is worth, once
                model = fit(x, y[few], everyone, loss, 1, seed)
                keep(f"{who}, teacher of {name}", kind, model)
    return found


def study(frame: pandas.DataFrame, splits: int, share: float, seed: int) -> pandas.DataFrame:
    """All splits: one row per who and inputs, with medians, 95 % intervals and paired gains."""
    rows = [
        one_split(draw_split(frame, share, np.random.default_rng([seed, number])), number)
        for number in range(splits)
    ]
    table = []
    for who, kind in rows[0]:
        spread = summarise([row[who, kind] for row in rows])
        own = ("no KD, 15 % of the labels", kind)
        gains = (
            [row[who, kind]["srcc"] - row[own]["srcc"] for row in rows] if own in rows[0] else []
        )
        table.append({
            "features": kind, "who": who,
            "SRCC": spread["srcc"].line(), "PLCC": spread["plcc"].line(),
            "gain": f"{np.mean(gains):+.3f} ± {np.std(gains):.3f}" if gains else "",
            "srcc": spread["srcc"].median,
        })  # fmt: skip
    return pandas.DataFrame(table)


def main(words: list[str]) -> pandas.DataFrame:
    """Read `name=value` words, run, print."""
    options = dict(OPTIONS)
    for word in words:
        name, _, value = word.partition("=")
        if name not in options or not value:
            raise SystemExit(f"{word!r} is unknown; give {', '.join(f'{n}=…' for n in OPTIONS)}")
        options[name] = type(OPTIONS[name])(value)
    start = time.perf_counter()
    frame = pandas.read_parquet(str(options["path"]))
    table = study(frame, int(options["splits"]), float(options["labels"]), int(options["seed"]))
    print(table.drop(columns="srcc").to_string(index=False))
    seconds = time.perf_counter() - start
    print(
        f"median and 95 % interval over {options['splits']} splits; gain: mean and deviation of "
        f"SRCC less that of no KD, 15 % in the same split; {seconds:.0f} s"
    )
    return table


if __name__ == "__main__":
    main(sys.argv[1:])
