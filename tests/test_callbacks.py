import lightning
import pytest
import torch
from toys import ToyStudent, toy_batches, toy_loader

from coefvq.callbacks import FiniteLoss, NonFiniteLossError, StepSeed
from coefvq.distiller import Distiller
from coefvq.losses import SupervisedLoss
from coefvq.objective import Objective
from coefvq.types import TaskSpec

TASK = TaskSpec("red", "binary", ("no", "yes"))


def fit(student, callback, tmp_path, epochs=2):
    objective = Objective({"task": SupervisedLoss(task="binary")}, {"task": 1.0})
    module = Distiller(
        student, objective, task=TASK, optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1)
    )
    trainer = lightning.Trainer(
        accelerator="cpu", max_epochs=epochs, callbacks=[callback], logger=False,
        enable_progress_bar=False, enable_checkpointing=False, enable_model_summary=False,
        default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, toy_loader())
    return module


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_a_loss_that_is_not_finite_stops_the_run_and_names_its_clips(tmp_path):
    class Breaks(ToyStudent):
        calls = 0

        def forward(self, batch):
            self.calls += 1
            output = super().forward(batch)
            bad = torch.tensor(float("nan") if self.calls == 2 else 1.0)
            return type(output)(output.logits * bad, output.features)

    with pytest.raises(NonFiniteLossError, match=r"term task .*clips clip8, clip9"):
        fit(Breaks(), FiniteLoss(), tmp_path)


def test_other_devices_are_checked_one_step_late():
    class Trainer:
        global_step = 3

    callback = FiniteLoss("teacher.training.lr")
    values = {"loss": torch.tensor(float("nan"), device="meta"), "task": torch.tensor(1.0)}
    batch = toy_batches()[0]
    callback.on_train_batch_end(Trainer(), None, values, batch, 0)  # waits, does not look
    assert callback._last[2] == batch.ids
    callback._last = (3, {"loss": torch.tensor(float("nan")), "task": torch.tensor(1.0)}, ("a",))
    with pytest.raises(
        NonFiniteLossError, match=r"the weighted sum of finite terms.*lower teacher\.training\.lr"
    ):
        callback.on_train_epoch_end(Trainer(), None)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_randomness_depends_on_seed_and_step_only(tmp_path):
    class Draws(ToyStudent):
        def __init__(self):
            super().__init__()
            self.drawn = []

        def forward(self, batch):
            self.drawn.append(torch.rand(()).item())
            return super().forward(batch)

    first, second, other = Draws(), Draws(), Draws()
    fit(first, StepSeed(1), tmp_path)
    torch.manual_seed(99)
    fit(second, StepSeed(1), tmp_path)
    fit(other, StepSeed(2), tmp_path)
    assert first.drawn == second.drawn != other.drawn
    assert len(set(first.drawn)) == 4  # every step of every epoch has its own
