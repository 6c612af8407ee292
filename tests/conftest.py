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
