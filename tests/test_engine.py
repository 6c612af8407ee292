import errno
import signal

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from omegaconf import OmegaConf
from torch import nn
from torch.utils.data import DataLoader
from toys import ToyStudent, toy_batches, toy_loader

from coefvq import engine
from coefvq.config import folder
from coefvq.data.loading import EpochShuffle
from coefvq.distiller import Distiller
from coefvq.losses import SupervisedLoss
from coefvq.objective import Objective
from coefvq.progress import StepProgress
from coefvq.types import Batch, TaskSpec

TRAINER = {
    "_target_": "lightning.Trainer",
    "accelerator": "cpu",
    "max_steps": 4,
    "max_epochs": -1,
    "log_every_n_steps": 1,
    "check_val_every_n_epoch": 1,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
}
CALLBACKS = OmegaConf.load(folder("conf") / "callbacks" / "default.yaml")


@pytest.fixture(autouse=True)
def _quiet():
    engine.quiet()


@pytest.fixture
def cfg():
    return OmegaConf.create({"seed": 1, "trainer": TRAINER, "callbacks": CALLBACKS})


def toy_distiller():
    return Distiller(
        ToyStudent(),
        Objective({"task": SupervisedLoss(task="binary")}, {"task": 1.0}),
        task=TaskSpec("redness", "binary", ("no", "yes")),
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=0.1),
    )


def shuffled_loader():
    samples = toy_batches(batch_size=1)
    columns = ("frames", "frame_mask", "labels", "label_mask", "privileged", "privileged_mask")

    def collate(some):
        tensors = {name: torch.cat([getattr(one, name) for one in some]) for name in columns}
        return Batch(ids=tuple(one.ids[0] for one in some), **tensors)

    shuffle = EpochShuffle(len(samples), seed=1)
    return DataLoader(samples, batch_size=8, sampler=shuffle, collate_fn=collate)


def fit(cfg, folder, module, *callbacks, **overrides):
    trainer = engine.make_trainer(cfg, folder, **overrides)
    trainer.callbacks.extend(callbacks)
    last = folder / "checkpoints" / "last.ckpt"
    engine.fit(trainer, module, shuffled_loader(), toy_loader(), last)
    return trainer


def test_an_object_says_itself_what_is_wrong_with_its_arguments():
    node = OmegaConf.create({"_target_": "coefvq.losses.CPFDLoss", "task": "binary"})
    with pytest.raises(ValueError, match="distill_weight") as caught:
        engine.build(node, distill_weight=2.0)
    assert "Error in call to target" not in str(caught.value)


def test_what_a_user_cannot_mend_stays_hydras():
    with pytest.raises(Exception, match="unexpected keyword"):
        engine.build(OmegaConf.create({"_target_": "torch.nn.Linear", "colour": "red"}))


def test_a_list_arrives_as_a_list():
    node = OmegaConf.create({"_target_": "builtins.dict", "sizes": [1, 2], "more": {"a": 1}})
    built = engine.build(node)
    assert type(built["sizes"]) is list and type(built["more"]) is dict


def test_the_trainer_gets_the_callbacks_of_the_config_and_ours(cfg, tmp_path):
    trainer = engine.make_trainer(cfg, tmp_path, label="student cpfd", max_steps=7)
    names = [type(callback).__name__ for callback in trainer.callbacks]
    assert {"StepSeed", "FiniteLoss", "StepProgress", "ModelCheckpoint"} <= set(names)
    (progress,) = [c for c in trainer.callbacks if isinstance(c, StepProgress)]
    assert progress.label == "student cpfd"
    assert trainer.checkpoint_callback.dirpath == str(tmp_path / "checkpoints")
    assert trainer.max_steps == 7
    assert isinstance(trainer.strategy.checkpoint_io, engine.WholeCheckpointIO)


def test_every_epoch_leaves_a_checkpoint_to_go_on_from(cfg, tmp_path):
    seen = []

    class Look(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            path = tmp_path / "checkpoints" / "last.ckpt"
            there = path.exists()
            seen.append(torch.load(path, weights_only=True)["global_step"] if there else None)

    fit(cfg, tmp_path, toy_distiller(), Look(), max_steps=5)
    path = tmp_path / "checkpoints" / "last.ckpt"
    assert seen == [None, 2, 4] and torch.load(path, weights_only=True)["global_step"] == 5
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("killed_at", [3, 5, 8, 9])
def test_a_run_that_goes_on_equals_one_that_never_stopped(cfg, tmp_path, every, killed_at):
    steps: list[tuple] = []

    class Look(Callback):
        stop = None

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == self.stop:
                raise RuntimeError("killed")
            epoch = trainer.train_dataloader.sampler.epoch
            steps.append((trainer.global_step, trainer.current_epoch, epoch, batch_idx, batch.ids))

        def on_train_batch_end(self, trainer, *_):
            logged.append(trainer.fit_loop.epoch_loop._batches_that_stepped)  # steps of the logs

    logged: list[int] = []
    look, options = Look(), {"max_steps": 12, "check_val_every_n_epoch": every}
    whole, resumed = toy_distiller(), toy_distiller()
    fit(cfg, tmp_path / "whole", whole, look, **options)
    assert logged == list(range(12))
    expected, steps[:], logged[:] = list(steps), [], []
    look.stop = killed_at
    with pytest.raises(RuntimeError, match="killed"):
        fit(cfg, tmp_path / "killed", toy_distiller(), look, **options)
    done = len(steps) // 2 * 2  # whole epochs; what came after is trained again
    look.stop, steps[:], logged[:] = None, steps[:done], logged[:done]
    fit(cfg, tmp_path / "killed", resumed, look, **options)
    assert steps == expected and [step[0] for step in steps] == list(range(12))
    assert logged == list(range(12))
    assert torch.equal(whole.student.head.weight, resumed.student.head.weight)


def test_a_fit_that_was_finished_comes_back_with_its_weights(cfg, tmp_path):
    first, second = toy_distiller(), toy_distiller()
    fit(cfg, tmp_path, first)
    fit(cfg, tmp_path, second)
    assert torch.equal(first.student.head.weight, second.student.head.weight)


def test_the_average_of_the_weights_comes_back_too(cfg, tmp_path):
    cfg.callbacks.ema = {
        "_target_": "lightning.pytorch.callbacks.EMAWeightAveraging",
        "decay": 0.5,
    }
    first, second = toy_distiller(), toy_distiller()
    fit(cfg, tmp_path, first)
    fit(cfg, tmp_path, second)
    assert torch.equal(first.student.head.weight, second.student.head.weight)


def test_ctrl_c_stays_ctrl_c(cfg, tmp_path):
    class Press(Callback):
        def on_train_batch_end(self, trainer, *rest):
            if trainer.global_step == 3:
                signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(cfg, tmp_path, toy_distiller(), Press())
    assert signal.getsignal(signal.SIGINT) is handler
    assert (tmp_path / "checkpoints" / "last.ckpt").exists()


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "checkpoints" / "last.ckpt"
    files = engine.WholeCheckpointIO()
    files.save_checkpoint({"step": 1}, path)

    def full(self, data):
        with self.open("wb") as file:
            file.write(bytes(data)[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError) as caught:
        files.save_checkpoint({"step": 2}, path)
    assert caught.value.errno == errno.ENOSPC
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("devices", [2, [0, 1], "auto"])
def test_a_sweep_over_several_devices_is_refused(cfg, devices, monkeypatch):
    cfg.trainer.devices = devices
    engine.check_launch(cfg)  # no sweep
    monkeypatch.setattr(engine.HydraConfig, "initialized", staticmethod(lambda: True))
    swept = OmegaConf.create({"mode": engine.RunMode.MULTIRUN})
    monkeypatch.setattr(engine.HydraConfig, "get", staticmethod(lambda: swept))
    with pytest.raises(ValueError, match=r"trainer\.devices=.* needs processes of its own"):
        engine.check_launch(cfg)
    cfg.trainer.devices = 1
    engine.check_launch(cfg)


def test_a_gpu_that_is_not_there_is_said_at_once(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    cfg = OmegaConf.create({"trainer": {"accelerator": "gpu", "devices": 1}})
    with pytest.raises(ValueError, match=r"accelerator=gpu, but .* no GPU here; use trainer=cpu"):
        engine.check_launch(cfg)
    cfg.trainer.accelerator = "cpu"
    engine.check_launch(cfg)


def test_a_partial_node_is_a_callable():
    node = OmegaConf.create({"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.5})
    optimizer = engine.build(node, momentum=0.25)(nn.Linear(1, 1).parameters())
    assert optimizer.defaults["lr"] == 0.5 and optimizer.defaults["momentum"] == 0.25


def test_seeding_is_repeatable():
    engine.seed_everything(3)
    first = torch.rand(2)
    engine.seed_everything(3)
    assert torch.equal(first, torch.rand(2))
