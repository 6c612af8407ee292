from importlib import metadata

import pytest
import torch

import coefvq
from coefvq.versions import version_of, versions


def test_what_is_installed_is_named():
    found = versions()
    assert found["torch"] == torch.__version__
    assert {"python", "platform", "torchmetrics", "numpy"} <= set(found)
    assert version_of("there-is-no-such-package") is None


def test_a_bare_checkout_knows_its_own_version(monkeypatch):
    def distribution(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", distribution)
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version("torch")
    assert version_of("coefvq") == coefvq.__version__
    assert list(versions()) == ["python", "platform", "coefvq"]
