"""What a cached teacher costs: in a step of training, and while it is written.

    pytest -m benchmark -s tests/benchmarks/test_teacher_cache.py

Everything runs in one process and in turns. Aims: a CPFD step with a cached teacher at most 1.05 of
a supervised step; writing at least 0.9 of the clips per second of a bare loop over the teacher.
"""

import copy
import time
from statistics import median

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from coefvq import engine
from coefvq.compare import Job, compose
from coefvq.data.loader import as_is
from coefvq.losses import CPFDLoss, SupervisedLoss
from coefvq.objective import Objective
from coefvq.optim import parameter_groups
from coefvq.prepare import prepared_data
from coefvq.teacher_cache import CacheIdentity, TeacherCache
from coefvq.teacher_supply.caching import write_outputs
from coefvq.teachers.cached import CachedTeacher
from coefvq.teachers.frozen import FrozenTeacher

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore")]
STEPS, ROUNDS = 20, 7


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    words = ("+recipe=cpfd", "data.labelled=512", "data.unlabelled=0", "data.val=8", "data.test=8")
    cfg = compose(Job("benchmark", None, 1, words, tmp_path_factory.mktemp("run")))
    data = prepared_data(cfg)
    engine.quiet()
    engine.seed_everything(1)
    teacher = FrozenTeacher(engine.build(cfg.teacher.model))
    return engine.build(cfg.student), teacher, data


def trainer():
    return lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip


def cached(folder, teacher, data):
    cache = TeacherCache(folder, CacheIdentity({"dtype": "float32"}))
    write_outputs(teacher, [data.whole_split("train")], cache, trainer(), batch_size=64)
    return CachedTeacher(cache)


def steps(student, loss, teacher, batches):
    objective = Objective({"task": loss}, {"task": 1.0})
    optimizer = torch.optim.AdamW(parameter_groups(student), lr=1e-4)
    student.train()
    for batch in batches:
        answer = None if teacher is None else teacher(batch)
        total, _ = objective(student(batch.public()), answer, batch)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()


def seconds(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def report(capsys, what, ratios):
    with capsys.disabled():
        print(f"\n{what}: {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


def test_a_step_with_a_cached_teacher(setting, tmp_path, capsys):
    student, live, data = setting
    teacher = cached(tmp_path / "c", live, data)
    batches = [batch for _ in range(3) for batch in data.train_dataloader()][:STEPS]
    ways = [
        lambda s: steps(s, CPFDLoss(task="binary"), teacher, batches),
        lambda s: steps(s, SupervisedLoss(task="binary"), None, batches),
        lambda s: steps(s, CPFDLoss(task="binary"), live, batches),
    ]
    kept, asked = [], []
    for way in ways:
        way(copy.deepcopy(student))
    for _ in range(ROUNDS):
        taken = [seconds(lambda w=way: w(copy.deepcopy(student))) for way in ways]
        kept.append(taken[0] / taken[1])
        asked.append(taken[2] / taken[1])
    report(capsys, "CPFD step with cached teacher / supervised step", kept)
    report(capsys, "CPFD step with live teacher / supervised step", asked)
    assert median(kept) <= 1.10  # the aim is 1.05; the rest is for a noisy machine


def test_writing_a_cache(setting, tmp_path, capsys):
    _, live, data = setting
    dataset = data.whole_split("train")

    def bare():
        batches = [list(range(i, i + 64)) for i in range(0, 512, 64)]
        for batch in DataLoader(dataset, batch_sampler=batches, collate_fn=as_is):
            live(batch)

    bare()
    ratios = []
    for turn in range(ROUNDS):
        ours = seconds(lambda n=turn: cached(tmp_path / str(n), live, data))
        ratios.append(seconds(bare) / ours)
    report(capsys, "clips per second, writing a cache / bare loop", ratios)
