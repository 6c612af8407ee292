import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from toys import ToyStudent, toy_loader

from coefvq import engine
from coefvq.distiller import Distiller
from coefvq.losses import SupervisedLoss
from coefvq.objective import Objective
from coefvq.progress import StepProgress
from coefvq.types import TaskSpec


@pytest.fixture(autouse=True)
def _quiet():
    engine.quiet()


def fit(tmp_path, progress, *callbacks, **options):
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=4,
        logger=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        callbacks=[progress, *callbacks],
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        **options,
    )
    module = Distiller(
        ToyStudent(),
        Objective({"task": SupervisedLoss(task="binary")}, {"task": 1.0}),
        task=TaskSpec("redness", "binary", ("no", "yes")),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1),
    )
    trainer.fit(module, toy_loader(), toy_loader())
    return float(trainer.callback_metrics["train/loss"])


def test_where_there_is_no_terminal_one_line_is_written(tmp_path, capsys):
    loss = fit(tmp_path, StepProgress("student cpfd"))
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("student cpfd") and "4/4" in lines[0]
    assert f"loss {loss:.4f}" in lines[0]


def test_a_process_beside_the_first_shows_nothing(tmp_path, capsys):
    class Beside(StepProgress):
        def setup(self, trainer, pl_module, stage):
            self.disable()

    fit(tmp_path, Beside("student"))
    assert capsys.readouterr().err == ""


def test_it_can_be_shown_again(tmp_path, capsys):
    progress = StepProgress("student")
    progress.disable()
    progress.enable()
    fit(tmp_path, progress)
    assert "4/4" in capsys.readouterr().err


def test_it_closes_before_an_error_is_told(tmp_path, capsys):
    class Fail(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 2:
                raise RuntimeError("out of coffee")

    progress = StepProgress("student")
    with pytest.raises(RuntimeError, match="out of coffee"):
        fit(tmp_path, progress, Fail())
    assert progress._progress is None
    assert "2/4" in capsys.readouterr().err


def test_the_loss_is_read_only_when_it_is_logged(tmp_path, capsys):
    class Rarely(Callback):
        def on_train_start(self, trainer, pl_module):
            trainer.log_every_n_steps = 100

    fit(tmp_path, StepProgress("student"), Rarely())
    assert "loss -" in capsys.readouterr().err
