"""A manifest's flat words: each goes to its owner, and the config has every one of them."""

import dataclasses
import inspect
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from coefvq.data.datamodule import ClipDataModule
from coefvq.data.manifest_data import manifest_data
from coefvq.data.manifest_source import ManifestSource
from coefvq.types import InputSpec


def test_each_word_goes_to_its_owner_and_shared_ones_to_all():
    data = manifest_data(
        "clips.csv", val="val.csv", privileged="dense_*", log1p="dense_b", num_frames=3,
        fit="squash", batch_size=5, train_on="labelled", seed=7, cache_dir="there",
    )  # fmt: skip
    assert isinstance(data, ClipDataModule) and isinstance(data.source, ManifestSource)
    assert data.source.files == {"train": "clips.csv", "val": "val.csv", "test": None}
    assert data.source.privileged == ("dense_*",) and data.source.log1p == ("dense_b",)
    assert data.inputs == InputSpec(num_frames=3, fit="squash")
    assert (data.batch_size, data.train_on) == (5, "labelled")
    assert data.seed == data.source.seed == 7
    assert data.cache_dir == data.source.cache_dir == "there"


def test_clips_may_have_no_text():
    silent = manifest_data("clips.csv", text=[])
    assert silent.source.text == silent.inputs.text_fields == ()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"frame_sise": 3}, "data options frame_sise are unknown; there are .*frame_size"),
        ({"text_fields": []}, r"data.text_fields=\[\] is a word of .* with data.text="),
        ({"task": "ranking"}, "data.task=ranking is unknown"),
        ({"sampling": "best"}, "sampling 'best' is unknown"),
        ({"batch_size": 0}, "data.batch_size must be a whole number of at least 1, got 0"),
        ({"motion_frames": -1}, "chunks of video have 0 or more pictures"),
    ],
)
def test_what_an_owner_refuses_is_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        manifest_data("clips.csv", **options)


def test_the_config_names_every_option_and_nothing_else(write_manifest, rows, clip_files, tmp_path):
    file = Path(__file__).parents[2] / "conf" / "data" / "manifest.yaml"
    values = OmegaConf.create(
        {"data": OmegaConf.load(file), "seed": 1, "cache_dir": str(tmp_path), "train_on": "all"}
    )
    values.data.train, values.data.root = str(write_manifest(rows)), str(clip_files)
    data = instantiate(values.data)
    data.prepare()
    assert data.inputs == dataclasses.replace(InputSpec(), text_fields=("title",))
    known = {
        name
        for owner in (ManifestSource, InputSpec, ClipDataModule)
        for name in inspect.signature(owner).parameters
    }
    known -= {"source", "inputs", "check_files", "text_fields"}
    known -= {"evaluation_only"}  # not for training: coefvq.fit_cascade sets it
    assert set(values.data) - {"_target_", "_convert_"} == known
