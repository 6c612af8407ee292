import errno
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from coefvq.data import seen_clips
from coefvq.modules.pretrained import (
    SEEN_CLIPS,
    PretrainedMixin,
    check_weights,
    load_metadata,
    read_config,
)


class Line(PretrainedMixin, nn.Module):
    def __init__(self, width, slopes=(1, 2)):
        super().__init__()
        self.slopes = tuple(slopes)
        self.map = nn.Linear(width, 2)
        self.drop = nn.Dropout()

    @property
    def config(self):
        return {"width": self.map.in_features, "slopes": self.slopes}

    @classmethod
    def from_config(cls, values):
        return cls(**values)


class Curve(Line):
    pass


class FakeTokenizer:
    def save_pretrained(self, folder):
        Path(folder, "tokenizer.json").write_text("{}")


def test_round_trip_to_the_bit(tmp_path):
    model = Line(3)
    metadata = {"task": {"name": "größer", "classes": ["no", "yes"]}, "threshold": 0.25}
    folder = model.save_pretrained(tmp_path / "a" / "b", metadata=metadata)
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    again = Line.from_pretrained(folder)
    assert not again.training
    assert again.slopes == model.slopes
    assert all(torch.equal(again.state_dict()[k], v) for k, v in model.state_dict().items())
    assert load_metadata(folder) == metadata
    assert read_config(folder)["class"] == "Line"


def test_a_model_is_replaced_only_when_told(tmp_path):
    Line(3).save_pretrained(tmp_path, FakeTokenizer())
    with pytest.raises(ValueError, match="already holds a model; choose another or pass overwrite"):
        Line(4).save_pretrained(tmp_path)
    assert Line.from_pretrained(tmp_path).map.in_features == 3
    assert (tmp_path / "tokenizer.json").exists()
    (tmp_path / SEEN_CLIPS).write_bytes(b"the old model's clips")
    Line(4).save_pretrained(tmp_path, overwrite=True)
    assert not (tmp_path / SEEN_CLIPS).exists() and SEEN_CLIPS == seen_clips.SEEN_CLIPS
    assert Line.from_pretrained(tmp_path).map.in_features == 4
    assert not (tmp_path / "tokenizer.json").exists(), "the tokenizer was the old model's"


def test_a_full_disk_is_an_os_error_and_leaves_no_model(tmp_path, monkeypatch):
    def full(weights, path, **_):
        path.write_bytes(b"half")
        raise SafetensorError(  # its words, seen on a full file system
            "Error while serializing: I/O error: No space left on device (os error 28)"
        )

    monkeypatch.setattr("coefvq.modules.pretrained.save_file", full)
    with pytest.raises(OSError, match="No space left") as caught:
        Line(3).save_pretrained(tmp_path)
    assert caught.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="holds no model"):
        Line.from_pretrained(tmp_path)


def test_a_run_is_told_from_its_student(tmp_path):
    Line(3).save_pretrained(tmp_path / "student")
    with pytest.raises(ValueError, match=r"it is a run: give its student, .*student$"):
        Line.from_pretrained(tmp_path)


def test_load_into_a_model_names_what_differs(tmp_path):
    folder = Line(3).save_pretrained(tmp_path)
    model = Line(3)
    model.load_pretrained(folder)
    assert torch.equal(model.map.weight, Line.from_pretrained(folder).map.weight)
    with pytest.raises(
        ValueError,
        match=r"another architecture: slopes=\[1, 2\] \(expected \[5\]\), width=3 \(expected 4\)",
    ):
        Line(4, slopes=(5,)).load_pretrained(folder)


def test_another_class_is_refused(tmp_path):
    folder = Line(3).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds Line, expected Curve; load it with Line"):
        Curve.from_pretrained(folder)
    with pytest.raises(ValueError, match="holds Line, expected Curve"):
        Curve(3).load_pretrained(folder)


def test_weights_that_do_not_fit_their_config_are_refused(tmp_path):
    folder = Line(3).save_pretrained(tmp_path)
    path = folder / "model.safetensors"
    weights = load_file(path)
    save_file(weights | {"map.weight": torch.zeros(2, 5)}, path)
    with pytest.raises(ValueError, match=r"map.weight has shape \(2, 5\), expected \(2, 3\)"):
        Line.from_pretrained(folder)
    save_file(weights | {"more": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="1 weights are on one side only, first more"):
        Line.from_pretrained(folder)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        Line.from_pretrained(folder)
    path.unlink()
    with pytest.raises(ValueError, match=r"has no model\.safetensors"):
        Line.from_pretrained(folder)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "holds no model: config.json is missing"),
        ("{", "cannot be read"),
        ("[]", "keys class and config are missing"),
        (json.dumps({"model_type": "bert"}), "keys class and config are missing"),
    ],
)
def test_folders_that_hold_no_model(tmp_path, content, sentence):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    for read in (Line.from_pretrained, load_metadata):
        with pytest.raises(ValueError, match=sentence):
            read(tmp_path)


def test_metadata_must_be_plain(tmp_path):
    with pytest.raises(ValueError, match="metadata must be plain values for JSON"):
        Line(3).save_pretrained(tmp_path, metadata={"x": torch.ones(2)})
    assert not list(tmp_path.iterdir())


def test_weights_to_start_from_must_be_what_the_model_knows():
    check_weights(None, str)
    check_weights("folder", str)
    with pytest.raises(ValueError, match=r"pretrained is a str or null, got \{'vision': 'x'\};"):
        check_weights({"vision": "x"}, str)


@pytest.mark.skipif(os.name != "posix", reason="rights are a POSIX thing")
def test_whoever_may_read_the_config_may_read_the_weights(tmp_path):
    folder = Line(3).save_pretrained(tmp_path)
    modes = {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()}
    assert len(modes) > 1 and len(set(modes.values())) == 1
