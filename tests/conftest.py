"""No test may touch the network, the user's cache or another test's folders."""

import os

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """One cache folder for the whole session: the embedded clips are made once."""
    return tmp_path_factory.mktemp("coefvq-home")


@pytest.fixture(autouse=True)
def _own_home(home, monkeypatch):
    monkeypatch.setenv("COEFVQ_HOME", str(home))
    monkeypatch.delenv("COEFVQ_RUN_DIR", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)


SMALL = ("data.labelled=24", "data.unlabelled=8", "data.val=16", "data.test=16",
         "data.batch_size=8", "trainer.max_steps=2", "trainer.log_every_n_steps=1",
         "++teacher.training.max_steps=2")  # fmt: skip


@pytest.fixture(scope="session")
def small_words():
    """What makes a run of `coefvq.train` one that takes a second: few real clips, two steps."""
    return SMALL


@pytest.fixture(scope="session")
def small():
    """Compose the config of such a run: `small("+recipe=cpfd", folder=tmp_path / "run")`."""
    from coefvq.compare import Job, compose

    def config(*words, folder):
        return compose(Job("x", None, 1, (*SMALL, *words), folder))

    return config


@pytest.fixture(scope="session")
def finished_run(home, small, tmp_path_factory):
    """The folder of one small finished `+recipe=cpfd` run. Copy it before you change it."""
    from coefvq import pipeline

    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COEFVQ_HOME", str(home))
        pipeline.run(small("+recipe=cpfd", folder=folder), show=False)
    return folder
