"""Real scores: dense features teach students on light ones, with few labels and many clips without.

    python recipes/studies/konvid_features.py path=konvid1k_features.parquet

Words, with what they are when they are not given: `splits=20`, `labels=0.15` (the share of the
training videos that keep their score), `seed=1`, `loss=smooth_l1` (or `squared`: the one distance
between scores that everybody is trained with).

The table is your own copy, a Parquet file with one row per KoNViD-1k video: `mos` (1 to 5,
people's), `dense_*` (VIDEVAL features at full size: a minute of computing per video), `light_*`
(the same from small pictures), `brisque_*`. In every split 80 % of the videos are for training.
A teacher reads dense features, a student light or BRISQUE ones. Perceptrons have one size and the
same steps; those were set once, by looking at splits of another seed (of the same videos: there
are no others). Gaussian processes, as teachers and as students, choose their two numbers by the
likelihood of what they are told. Scores are points from 0 to 100.
"""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas
import torch
from torch import Tensor, nn

from coefvq.evaluation.quality import pearson, srcc
from coefvq.evaluation.quality_splits import summarise
from coefvq.losses import fidelity_rank_loss, plcc_loss, score_cpfd_loss, score_kd_loss
from coefvq.losses.regression_confidence import StdConfidence, agreement_std

OPTIONS = {"path": "", "splits": 20, "labels": 0.15, "seed": 1, "loss": "smooth_l1"}
KINDS = ("dense", "light", "brisque")
MEMBERS, HIDDEN, STEPS, BATCH, LR = 5, 64, 250, 128, 1e-2
BETAS = {"smooth_l1": 10.0, "squared": 1e4}  # points; nobody is off by 1e4, so that is d² / 2β
LENGTHS, NOISES = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0), (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)


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
    for kind in KINDS:
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


def distances(loss: str) -> tuple[float, float]:
    """β of smooth L1 and what to multiply it by, so that small differences cost the same."""
    return BETAS[loss], BETAS[loss] / BETAS["smooth_l1"]


def supervised(split: Split, loss: str) -> Loss:
    """The objective without a teacher, in the same distance as those with one."""
    beta, scale = distances(loss)
    return lambda z, i: scale * score_kd_loss(z, split.points[i], beta=beta)


def losses(split: Split, teacher: Tensor, spread: Tensor, loss: str) -> dict[str, Loss]:
    """The students' objectives, told in the losses of the library.

    Args:
        split: labels are read where `labelled`.
        teacher: (n,) the teacher's points for the training videos.
        spread: (n,) how far it holds them to be off.
        loss: a name of `BETAS`.
    """
    y, mask = split.points, split.labelled
    beta, scale = distances(loss)

    def cpfd(trust: Tensor | None) -> Loss:
        return lambda z, i: (
            scale
            * score_cpfd_loss(
                z, teacher[i], y[i], None if trust is None else trust[i], beta=beta,
                label_mask=mask[i],
            )
        )  # fmt: skip

    pfd, sure = cpfd(None), cpfd(trusted(teacher, spread))
    rank: Loss = lambda z, i: fidelity_rank_loss(z, teacher[i], student_std=10.0, teacher_std=10.0)  # noqa: E731
    return {
        "score KD": lambda z, i: scale * score_kd_loss(z, teacher[i], beta=beta),
        "PFD": pfd,
        "CPFD": sure,
        "PFD + rank KD": lambda z, i: pfd(z, i) + 30 * rank(z, i),
        "PFD + PLCC": lambda z, i: pfd(z, i) + 10 * plcc_loss(z, teacher[i]),
    }


def trusted(teacher: Tensor, spread: Tensor) -> Tensor:
    """CPFD's confidence: half where the spread is the median one; on average as strong as PFD."""
    trust = StdConfidence(spread.median().item())(teacher, None, score_std=spread)
    return trust / trust.mean()


class Process:
    """A Gaussian process with an RBF kernel; length and noise of the largest likelihood.

    Args:
        x: (n, P) standardised features.
        y: (n,) points.
        weight: (n,) how often a point counts; None: once.
    """

    def __init__(self, x: Tensor, y: Tensor, weight: Tensor | None = None) -> None:
        self.x, self.mean = x.double(), y.double().mean()
        rest = y.double() - self.mean
        noise = torch.ones_like(rest) if weight is None else 1 / weight.double()
        best = -math.inf
        for length in LENGTHS:
            kernel = self._kernel(self.x, length)
            for share in NOISES:
                factor = torch.linalg.cholesky(kernel + torch.diag(share * noise))
                weights = torch.cholesky_solve(rest[:, None], factor)[:, 0]
                size = (rest @ weights / len(rest)).clamp_min(1e-12)
                likely = float(-len(rest) / 2 * size.log() - factor.diagonal().log().sum())
                if likely > best:
                    best, self.length = likely, length
                    self.factor, self.weights, self.size = factor, weights, size

    def _kernel(self, x: Tensor, length: float) -> Tensor:
        off = torch.cdist(x, self.x).square() / (2 * length**2 * x.shape[1])
        return (-off).exp()

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(m, P) features to (m,) points and how far each is held to be off."""
        near = self._kernel(x.double(), self.length)
        known = (near * torch.cholesky_solve(near.T, self.factor).T).sum(1)
        std = (self.size * (1 - known).clamp_min(1e-6)).sqrt()
        return (self.mean + near @ self.weights).float(), std.float()


def one_split(
    split: Split, seed: int, few_of: str, loss: str
) -> dict[tuple[str, str], dict[str, float]]:
    """Train everybody on one split; SRCC and PLCC on its test videos by (who, inputs)."""
    y, everyone, few = split.points, torch.arange(len(split.points)), split.labelled.nonzero()[:, 0]
    hard = supervised(split, loss)
    found: dict[tuple[str, str], dict[str, float]] = {}

    def keep(who: str, kind: str, scores: Tensor) -> None:
        points = scores.detach().double().numpy()
        found[who, kind] = {
            "srcc": srcc(points, split.wanted),
            "plcc": pearson(points, split.wanted),
        }

    def train(kind: str, rows: Tensor, told: Loss, members: int = 1) -> Scorers:
        return fit(split.train[kind], y[few], rows, told, members, seed)

    def tested(model: Scorers, kind: str) -> Tensor:
        return model(split.test[kind]).mean(0)

    teachers: dict[str, tuple[Tensor, Tensor]] = {}
    for name, rows in ((few_of, few), ("all", everyone)):
        model = train("dense", rows, hard, MEMBERS)
        keep(f"teacher, perceptrons, {name} of the labels", "dense", tested(model, "dense"))
        with torch.no_grad():
            answers = model(split.train["dense"])
        teachers[name] = answers.mean(0), agreement_std(answers)
    processes = {kind: Process(split.train[kind][few], y[few]) for kind in KINDS}
    keep(f"teacher, process, {few_of} of the labels", "dense",
         processes["dense"](split.test["dense"])[0])  # fmt: skip
    for kind in KINDS[1:]:
        x = split.train[kind]
        keep(f"no KD, {few_of} of the labels", kind, tested(train(kind, few, hard), kind))
        keep("no KD, all labels", kind, tested(train(kind, everyone, hard), kind))
        keep(f"process, no KD, {few_of} of the labels", kind,
             processes[kind](split.test[kind])[0])  # fmt: skip
        keep("process, no KD, all labels", kind, Process(x, y)(split.test[kind])[0])
        both = ("PFD", "CPFD")
        for who, answers, wanted in (
            (f"perceptrons, {few_of}", teachers[few_of], (*both, "score KD", "PFD + rank KD",
                                                          "PFD + PLCC")),
            (f"process, {few_of}", processes["dense"](split.train["dense"]), both),
            (f"process on its own features, {few_of}", processes[kind](x), ("PFD",)),
            ("perceptrons, all", teachers["all"], ("PFD",)),
        ):  # fmt: skip
            told = losses(split, *answers, loss)
            for method in wanted:
                model = train(kind, everyone, told[method])
                keep(f"{method}, teacher: {who}", kind, tested(model, kind))
                if method in both:
                    trust = trusted(*answers) if method == "CPFD" else torch.ones_like(y)
                    student = Process(x, *mixture(split, answers[0], trust))
                    keep(f"process, {method}, teacher: {who}", kind,
                         student(split.test[kind])[0])  # fmt: skip
    return found


def mixture(split: Split, teacher: Tensor, trust: Tensor) -> tuple[Tensor, Tensor]:
    """CPFD of squared errors in closed form: what each video is told, and how much it counts.

    ½ of the mean over the labelled ones and ½ of the trusted mean over all, as `score_cpfd_loss`.
    """
    hard = split.labelled / split.labelled.sum()
    soft = trust / len(trust)
    told = torch.where(
        split.labelled, (hard * split.points + soft * teacher) / (hard + soft), teacher
    )
    return told, (hard + soft) * split.labelled.sum()


def study(
    frame: pandas.DataFrame, splits: int, share: float, seed: int, loss: str
) -> pandas.DataFrame:
    """All splits: one row per who and inputs, with medians, 95 % intervals and paired gains."""
    few_of = f"{100 * share:g} %"
    rows = [
        one_split(
            draw_split(frame, share, np.random.default_rng([seed, number])), number, few_of, loss
        )
        for number in range(splits)
    ]
    table = []
    for who, kind in rows[0]:
        spread = summarise([row[who, kind] for row in rows])
        process = "process, " if who.startswith("process") else ""
        own = (f"{process}no KD, {few_of} of the labels", kind)
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


def read_table(path: str) -> pandas.DataFrame:
    """Open the table and refuse what is not one."""
    wanted = f"a Parquet file with the columns mos, {', '.join(f'{kind}_*' for kind in KINDS)}"
    if not path:
        raise SystemExit(f"no table was given; say path=… of {wanted} (--help says more)")
    if not Path(path).is_file():
        raise SystemExit(f"path={path} is not a file; give {wanted}")
    try:
        frame = pandas.read_parquet(path)
    except (OSError, ValueError) as error:
        raise SystemExit(f"path={path} cannot be read ({error}); give {wanted}") from None
    names = [str(name) for name in frame.columns]
    missing = [kind for kind in KINDS if not any(n.startswith(f"{kind}_") for n in names)]
    missing += [] if "mos" in names else ["mos"]
    if missing:
        raise SystemExit(f"path={path} has no {', '.join(missing)}; give {wanted}")
    return frame


def read_words(words: list[str]) -> dict[str, str | int | float]:
    """Read `name=value` words; `--help` prints what is at the top of this file."""
    options = dict(OPTIONS)
    for word in words:
        if word in ("-h", "--help"):
            print(__doc__)
            raise SystemExit(0)
        name, _, value = word.partition("=")
        if name not in options or not value:
            raise SystemExit(f"{word!r} is unknown; give {', '.join(f'{n}=…' for n in OPTIONS)}")
        kind = type(OPTIONS[name])
        try:
            options[name] = kind(value)
        except ValueError:
            raise SystemExit(f"{word!r} is no number; give {name}={OPTIONS[name]!r}") from None
    if int(options["splits"]) < 1 or not 0 < float(options["labels"]) <= 1:
        raise SystemExit("splits must be 1 or more and labels a share above 0, at most 1")
    if options["loss"] not in BETAS:
        raise SystemExit(f"loss={options['loss']} is unknown; give one of {', '.join(BETAS)}")
    return options


def main(words: list[str]) -> pandas.DataFrame:
    """Read `name=value` words, run, print."""
    options = read_words(words)
    frame = read_table(str(options["path"]))
    start = time.perf_counter()
    splits, loss = int(options["splits"]), str(options["loss"])
    table = study(frame, splits, float(options["labels"]), int(options["seed"]), loss)
    print(table.drop(columns="srcc").to_string(index=False))
    seconds = time.perf_counter() - start
    print(
        f"loss={loss}; median and 95 % interval over {splits} splits; gain: mean and deviation of "
        "SRCC less that of no KD with few labels, of the same kind of student, in the same split; "
        f"{seconds:.0f} s"
    )
    return table


if __name__ == "__main__":
    main(sys.argv[1:])
