import copy
import subprocess
import sys
from pathlib import Path

import lightning
import pytest
import torch
from torch import nn
from toys import ToyStudent, ToyTeacher, toy_batches, toy_loader

from coefvq.distiller import Distiller
from coefvq.losses import CPFDLoss, LogitKDLoss, SupervisedLoss
from coefvq.objective import Objective
from coefvq.schedules import Schedule
from coefvq.types import Batch, StudentOutput, TaskSpec

TASK = TaskSpec("red", "binary", ("no", "yes"))
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")


def cpfd(**options):
    return Objective({"cpfd": CPFDLoss(task="binary", **options)}, {"cpfd": 1.0})


def supervised():
    return Objective({"task": SupervisedLoss(task="binary")}, {"task": 1.0})


def make(student=None, objective=None, teacher=None, lr=0.5, **options):
    return Distiller(
        ToyStudent() if student is None else student,
        objective or supervised(),
        teacher,
        task=TASK,
        optimizer=lambda groups: torch.optim.SGD(groups, lr=lr),
        **options,
    )


def trainer(tmp_path, **options):
    return lightning.Trainer(
        **{
            "accelerator": "cpu", "devices": 1, "logger": False, "enable_progress_bar": False,
            "enable_checkpointing": False, "enable_model_summary": False,
            "default_root_dir": tmp_path, "num_sanity_val_steps": 0, **options,
        }
    )  # fmt: skip


def test_it_overfits_sixteen_samples(tmp_path):
    module = make(lr=5.0)
    fit = trainer(tmp_path, max_epochs=300)
    fit.fit(module, toy_loader())
    assert fit.callback_metrics["train/loss"] < 0.05


def test_the_teacher_is_no_part_of_the_model(tmp_path):
    class Owned:
        def __init__(self):
            self.module = nn.Linear(2, 1)

        def __call__(self, batch):
            return ToyTeacher()(batch)

    module = make(objective=cpfd(), teacher=Owned())
    assert set(module.state_dict()) == {"student.head.weight", "student.head.bias"}
    module.trainer = trainer(tmp_path, max_epochs=1)
    optimizer = module.configure_optimizers()["optimizer"]
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2


def test_a_bare_module_as_teacher_is_refused():
    with pytest.raises(ValueError, match="wrap it: FrozenTeacher"):
        make(teacher=nn.Linear(2, 1))


def test_what_a_loss_learns_is_optimised_and_saved(tmp_path):
    class Projected(nn.Module):
        def __init__(self):
            super().__init__()
            self.projection = nn.Linear(3, 3)

        def forward(self, features):
            return self.projection(features).square().mean()

        def select(self, student, teacher, batch):
            return {"features": student.features}

    module = make(objective=Objective({"feature": Projected()}, {"feature": 1.0}))
    module.trainer = trainer(tmp_path, max_epochs=1)
    optimizer = module.configure_optimizers()["optimizer"]
    listed = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in module.objective.parameters()} <= listed
    assert any("projection" in name for name in module.state_dict())


def test_the_student_sees_nothing_private_and_the_teacher_everything(tmp_path):
    fit = trainer(tmp_path, max_epochs=1)
    fit.fit(make(objective=cpfd(), teacher=ToyTeacher()), toy_loader(), toy_loader())  # asserts

    class Privileged(ToyStudent):
        def forward(self, batch):
            assert batch.privileged is not None
            return StudentOutput(self.head(batch.privileged.repeat(1, 2)[:, :3]).squeeze(-1))

    trainer(tmp_path, max_epochs=1).fit(make(Privileged(), inputs=Batch.whole), toy_loader())


def test_privileged_features_cannot_reach_the_student():
    import dataclasses

    batch = toy_batches()[0]
    noisy = dataclasses.replace(batch, privileged=torch.randn_like(batch.privileged) * 100)
    module = make()
    assert torch.equal(module(batch).logits, module(noisy).logits)
    assert torch.equal(module(batch).logits, module(batch.public()).logits)


def test_a_term_of_weight_zero_leaves_the_gradient_alone():
    def gradient(objective):
        module = make(objective=objective, teacher=ToyTeacher())
        student = module(toy_batches()[0])
        batch = toy_batches()[0]
        total, _ = objective(student, ToyTeacher()(batch), batch)
        total.backward()
        return module.student.head.weight.grad

    watched = Objective(
        {"task": SupervisedLoss(task="binary"), "distill": LogitKDLoss(task="binary")},
        {"task": 1.0, "distill": 0.0},
    )
    assert torch.equal(gradient(supervised()), gradient(watched))


def test_validation_logs_the_loss_its_terms_and_the_metrics(tmp_path):
    fit = trainer(tmp_path, max_epochs=1)
    fit.fit(make(objective=cpfd(), teacher=ToyTeacher()), toy_loader(), toy_loader(seed=1))
    logged = set(fit.callback_metrics)
    assert {"train/loss", "train/loss/cpfd", "val/loss", "val/loss/cpfd"} <= logged
    assert {"val/f1", "val/average_precision"} <= logged


def test_validation_f1_is_that_of_the_best_threshold(tmp_path):
    """Rare classes have no clip above one half, and F1 there would be 0 for every model."""
    module = make()
    with torch.no_grad():
        module.student.head.bias.fill_(-9)
    fit = trainer(tmp_path, max_epochs=1)
    fit.validate(module, toy_loader(seed=1), verbose=False)
    assert fit.callback_metrics["val/f1"] > 0.3


def test_a_killed_run_that_goes_on_equals_one_that_was_not(tmp_path):
    from lightning.pytorch.callbacks import ModelCheckpoint

    from coefvq.callbacks import StepSeed

    class Noisy(ToyStudent):
        """Its dropout needs the very random numbers that an uninterrupted run would draw."""

        def forward(self, batch):
            output = super().forward(batch)
            return StudentOutput(output.logits * (1 + 0.1 * torch.rand(len(batch))))

    def run(folder, epochs, resume=None):
        keep = ModelCheckpoint(folder, save_last=True, save_top_k=0)
        module = make(Noisy(), cpfd(), ToyTeacher())
        fit = trainer(tmp_path, max_epochs=epochs, callbacks=[StepSeed(3), keep],
                      enable_checkpointing=True)  # fmt: skip
        fit.fit(module, toy_loader(), ckpt_path=resume, weights_only=True if resume else None)
        return copy.deepcopy(module.student.state_dict())

    whole = run(tmp_path / "whole", 4)
    run(tmp_path / "part", 2)
    torch.manual_seed(1234)
    resumed = run(tmp_path / "part", 4, resume=tmp_path / "part" / "last.ckpt")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def scheduled(**schedules):
    terms = {"cpfd": CPFDLoss(task="binary", distill_weight=0.8)}
    return Objective(terms, {"cpfd": 1.0}, schedules)


class Seen(lightning.pytorch.loggers.logger.DummyLogger):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, metrics))


def test_a_schedule_is_followed_and_logged(tmp_path):
    used, seen = [], Seen()

    class Watching(CPFDLoss):
        def forward(self, *args, **kwargs):
            used.append((self.training, self.distill_weight))
            return super().forward(*args, **kwargs)

    terms = {"cpfd": Watching(task="binary", distill_weight=0.8)}
    schedules = {
        "distill_weight": Schedule("linear", until=0.5),  # 4 of 8 steps
        "weights.cpfd": Schedule("step", start=2.0, epoch=3),
    }
    objective = Objective(terms, {"cpfd": 1.0}, schedules)
    module = make(objective=objective, teacher=ToyTeacher())
    fit = trainer(tmp_path, max_epochs=4, logger=seen, log_every_n_steps=1)
    fit.fit(module, toy_loader(), toy_loader(seed=1))
    expected = pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0.8])
    assert [value for training, value in used if training] == expected
    # An epoch has two steps: its validation reads what its last step had.
    validation = [value for training, value in used if not training]
    assert validation[::2] == validation[1::2] == pytest.approx([0.2, 0.6, 0.8, 0.8])

    rows = [row for _, row in seen.rows if "train/schedule/distill_weight" in row]
    assert [row["train/schedule/distill_weight"] for row in rows] == expected
    assert [row["train/schedule/weights/cpfd"] for row in rows] == [2.0] * 6 + [1.0] * 2
    assert all("train/loss" in row for row in rows)  # one row with the step's loss


def test_a_schedule_counts_optimizer_steps(tmp_path):
    objective = scheduled(distill_weight=Schedule("linear", until=0.5))
    seen = Seen()
    fit = trainer(tmp_path, max_epochs=4, logger=seen, log_every_n_steps=1,
                  accumulate_grad_batches=2)  # fmt: skip
    fit.fit(make(objective=objective, teacher=ToyTeacher()), toy_loader())
    name = "train/schedule/distill_weight"
    logged = [row[name] for _, row in seen.rows if name in row]
    assert sorted(set(logged)) == pytest.approx([0.0, 0.4, 0.8])  # 2 of 4 steps


def test_a_constant_schedule_trains_the_same_weights_to_the_bit(tmp_path):
    def weights(objective):
        module = make(objective=objective, teacher=ToyTeacher())
        trainer(tmp_path, max_epochs=2).fit(module, toy_loader())
        return module.student.state_dict()

    plain = weights(cpfd(distill_weight=0.8))
    constant = weights(scheduled(distill_weight=Schedule("constant")))
    moving = weights(scheduled(distill_weight=Schedule("linear")))
    assert all(torch.equal(plain[name], constant[name]) for name in plain)
    assert not all(torch.equal(plain[name], moving[name]) for name in plain)


def test_a_resumed_schedule_equals_an_uninterrupted_one(tmp_path):
    from lightning.pytorch.callbacks import LambdaCallback, ModelCheckpoint

    schedules = {
        "distill_weight": Schedule("cosine", until=0.9),
        "temperature": Schedule("step", start=4.0, epoch=3),
    }

    def run(folder, resume=None, stop=False):
        keep = ModelCheckpoint(folder, save_last=True, save_top_k=0)

        def end_after_two(trainer, module):
            trainer.should_stop = stop and trainer.current_epoch == 1

        # The whole run's length is known to both parts, as it is when a run is killed.
        end = LambdaCallback(on_train_epoch_end=end_after_two)
        module = make(objective=scheduled(**schedules), teacher=ToyTeacher())
        seen = Seen()
        fit = trainer(tmp_path, max_epochs=5, callbacks=[keep, end], logger=seen,
                      log_every_n_steps=1, enable_checkpointing=True)  # fmt: skip
        fit.fit(module, toy_loader(), ckpt_path=resume, weights_only=True if resume else None)
        logged = {
            step: {name: value for name, value in row.items() if "schedule" in name}
            for step, row in seen.rows
        }
        return copy.deepcopy(module.student.state_dict()), logged

    whole, expected = run(tmp_path / "whole")
    _, first = run(tmp_path / "part", stop=True)
    resumed, second = run(tmp_path / "part", resume=tmp_path / "part" / "last.ckpt")
    assert sorted(first) == [0, 1, 2, 3]
    assert sorted(second) == [4, 5, 6, 7, 8, 9]
    assert first | second == expected
    assert len({tuple(row.items()) for row in expected.values()}) == 10  # no two steps alike
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


SCRIPT = """
import os, sys, warnings
warnings.simplefilter("ignore")
import lightning, torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler
sys.path.insert(0, {tests!r})
from toys import ToyStudent, ToyTeacher, toy_batches, toy_loader
from coefvq.distiller import Distiller
from coefvq.losses import CPFDLoss
from coefvq.objective import Objective
from coefvq.types import Batch, TaskSpec
import dataclasses

class Rows(Dataset):
    rows = toy_batches(n=16, batch_size=1)
    def __len__(self): return 16
    def __getitem__(self, i): return self.rows[i]

def collate(rows):
    return Batch(**{{
        f.name: sum((r.ids for r in rows), ()) if f.name == "ids"
        else None if getattr(rows[0], f.name) is None
        else torch.cat([getattr(r, f.name) for r in rows])
        for f in dataclasses.fields(Batch)
    }})

if __name__ == "__main__":
    devices = int(sys.argv[1])
    rank = int(os.environ.get("LOCAL_RANK", 0))
    # In order, so that step for step both processes together see what one process sees.
    sampler = DistributedSampler(Rows(), devices, rank, shuffle=False)
    loader = DataLoader(Rows(), batch_size=8 // devices, sampler=sampler, collate_fn=collate)
    objective = Objective({{"cpfd": CPFDLoss(task="binary")}}, {{"cpfd": 1.0}})
    module = Distiller(ToyStudent(), objective, ToyTeacher(),
                       task=TaskSpec("r", "binary", ("n", "y")),
                       optimizer=lambda groups: torch.optim.SGD(groups, lr=0.5))
    trainer = lightning.Trainer(accelerator="cpu", devices=devices, max_epochs=3, logger=False,
        strategy="ddp" if devices > 1 else "auto", enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False, default_root_dir=sys.argv[2],
        use_distributed_sampler=False)
    trainer.fit(module, loader)
    seen = trainer.validate(module, loader, verbose=False)[0]
    if trainer.is_global_zero:
        numbers = {{name: torch.tensor(value) for name, value in seen.items()}}
        torch.save(module.student.state_dict() | numbers, sys.argv[2] + "/weights.pt")
"""


@pytest.mark.distributed
@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    """SGD on purpose: Adam would hide a gradient of the wrong scale."""
    script = tmp_path / "fit.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent)))
    weights = []
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        folder.mkdir()
        command = [sys.executable, str(script), str(devices), str(folder)]
        subprocess.run(command, check=True, capture_output=True, timeout=240)
        weights.append(torch.load(folder / "weights.pt", weights_only=True))
    assert "val/average_precision" in weights[0]  # of all clips, whoever read them
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-5, atol=1e-6, equal_nan=True)
