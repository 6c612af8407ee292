"""A pair table's flat words: each goes to its owner, and the config knows all that concern it."""

import inspect
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from coefvq.data import pairs
from coefvq.data.pairs.datamodule import PairDataModule
from coefvq.data.pairs.table import PairTable
from coefvq.data.pairs.table_data import pair_data
from coefvq.types import InputSpec


def test_each_word_goes_to_its_owner_and_shared_ones_to_all():
    data = pair_data(
        "pairs.csv", clips="clips.csv", sub_labels="cut_*", num_frames=3, audio=False,
        batch_size=5, labelled_per_batch=2, seed=7, cache_dir="there",
    )  # fmt: skip
    assert isinstance(data, PairDataModule) and isinstance(data.source, PairTable)
    assert data.source.files == {"train": "pairs.csv", "val": None, "test": None}
    assert data.source.clips == "clips.csv" and data.source.patterns == ("cut_*",)
    assert data.inputs == InputSpec(num_frames=3, audio=False)
    assert (data.batch_size, data.labelled_per_batch) == (5, 2)
    assert data.seed == data.source.seed == 7
    assert data.cache_dir == data.source.cache_dir == "there"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"colour": "red"}, "data options colour are unknown; there are .*clips"),
        ({"student_labels": 0.5}, "data options student_labels are unknown"),
        ({"sampling": "best"}, "sampling 'best' is unknown"),
        ({"batch_size": 0}, "data.batch_size must be a whole number of at least 1, got 0"),
    ],
)
def test_what_an_owner_refuses_is_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        pair_data("pairs.csv", **options)


def test_the_config_makes_it_and_names_all_options_of_table_and_batches():
    file = Path(__file__).parents[3] / "conf" / "data" / "pairs.yaml"
    values = OmegaConf.create(
        {"data": OmegaConf.load(file), "seed": 3, "cache_dir": "here", "train_on": "labelled"}
    )
    values.data.train = "pairs.parquet"
    data = instantiate(values.data)
    assert pairs.pair_data is pair_data and isinstance(data.source, PairTable)
    assert (data.seed, data.cache_dir, data.train_on) == (3, "here", "labelled")
    named = set(values.data) - {"_target_", "_convert_"}
    signatures = [inspect.signature(owner).parameters for owner in (PairTable, PairDataModule)]
    own = set().union(*signatures) - {"source", "inputs", "check_files"}
    assert own <= named
    assert named - own <= set(inspect.signature(InputSpec).parameters)
