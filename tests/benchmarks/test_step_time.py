"""A training step of the Distiller against the same step in a bare PyTorch loop.

    pytest -m benchmark -s tests/benchmarks/test_step_time.py

Both train the same X-VLM (`tiny`) on the same batches in one process, in turns, so that a machine
that slows down slows both. What is printed is the ratio; the aim is at most 1.05.
"""

import copy
import time
from statistics import median

import lightning
import numpy
import pytest
import torch
from torch.utils.data import DataLoader

from coefvq import engine
from coefvq.callbacks import FiniteLoss, StepSeed
from coefvq.compare import Job, compose
from coefvq.distiller import Distiller
from coefvq.losses import SupervisedLoss, supervised_loss
from coefvq.objective import Objective
from coefvq.optim import parameter_groups
from coefvq.prepare import prepared_data

pytestmark = pytest.mark.benchmark
STEPS, ROUNDS = 20, 10


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    words = ("+recipe=supervised", "data.labelled=128", "data.unlabelled=0", "data.val=8",
             "data.test=8")  # fmt: skip
    cfg = compose(Job("benchmark", None, 1, words, tmp_path_factory.mktemp("run")))
    data = prepared_data(cfg)
    engine.seed_everything(1)
    (batch, *_) = list(data.train_dataloader())
    return engine.build(cfg.student), batch, data.task


def adamw(groups):
    return torch.optim.AdamW(groups, lr=1e-4)


def bare(student, batches, seeded=False):
    optimizer = adamw(parameter_groups(student))
    student.train()
    for i, batch in enumerate(batches):
        if seeded:  # the crops that StepSeed gives
            torch.manual_seed(int(numpy.random.SeedSequence([1, 0, i, 0]).generate_state(1)[0]))
        loss = supervised_loss(student(batch.public()).logits, batch.labels, task="binary")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()


def distilled(student, batches, task):
    objective = Objective({"task": SupervisedLoss(task="binary")}, {"task": 1.0})
    module = Distiller(student, objective, task=task, optimizer=adamw)
    trainer = lightning.Trainer(
        accelerator="cpu", max_epochs=1, gradient_clip_val=1.0, logger=False,
        enable_progress_bar=False, enable_checkpointing=False, enable_model_summary=False,
        callbacks=[StepSeed(1), FiniteLoss()],
    )  # fmt: skip
    trainer.fit(module, DataLoader(batches, batch_size=None))


class Stamped(list):
    """Batches that note when each of them is asked for: a step is the time between two."""

    def __init__(self, batches):
        super().__init__(batches)
        self.times = []

    def __getitem__(self, index):
        self.times.append(time.perf_counter())
        return super().__getitem__(index)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def steps(self):
        """The first two are those of a loop that warms up."""
        return [b - a for a, b in zip(self.times[2:], self.times[3:], strict=False)]


@pytest.mark.filterwarnings("ignore")
def test_a_step_of_the_distiller(setting, capsys):
    student, batch, task = setting
    loops = [lambda s, n: distilled(s, n, task), bare]
    steps, ratios = ([], []), []
    for turn in range(ROUNDS):
        middle = {}
        for index in (0, 1) if turn % 2 else (1, 0):
            batches = Stamped([batch] * STEPS)
            loops[index](copy.deepcopy(student), batches)
            steps[index].extend(batches.steps())
            middle[index] = median(batches.steps())
        ratios.append(middle[0] / middle[1])
    with capsys.disabled():
        ours, theirs = map(median, steps)
        print(
            f"\nDistiller / bare loop, median step: {ours / theirs:.3f} ({1000 * ours:.1f} ms to "
            f"{1000 * theirs:.1f} ms; of single rounds {min(ratios):.3f} to {max(ratios):.3f})"
        )


@pytest.mark.filterwarnings("ignore")
def test_both_loops_do_the_same(setting):
    student, batch, task = setting
    ours, theirs = copy.deepcopy(student), copy.deepcopy(student)
    distilled(ours, [batch] * 3, task)
    bare(theirs, [batch] * 3, seeded=True)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)
