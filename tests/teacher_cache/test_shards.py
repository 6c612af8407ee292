import numpy as np
import pandas
import pytest

from coefvq.teacher_cache.shards import read_shard, write_shard

IDS, VIEWS = ["a", "b"], ["v", "v"]


def test_columns_come_back_to_the_bit(tmp_path):
    columns = {
        "logits": np.array([0.1, -3.5], np.float32),
        "features": np.array([[1, 2, 3], [4, 5, 6]], np.float16),
        "token_features": [np.ones((1, 2), np.float32), np.zeros((3, 2), np.float32)],
        "topk_tail": [np.array([0.5], np.float32), np.array([0.1, 0.2, 0.3], np.float32)],
    }
    write_shard(tmp_path / "x.arrow", IDS, VIEWS, columns)
    shard = read_shard(tmp_path / "x.arrow")
    assert (shard.ids, shard.views) == (IDS, VIEWS)
    for name in ("logits", "features"):
        assert shard.columns[name].dtype == columns[name].dtype
        np.testing.assert_array_equal(shard.columns[name], columns[name])
    np.testing.assert_array_equal(shard.offsets, [0, 1, 4])
    np.testing.assert_array_equal(
        shard.columns["token_features"], np.concatenate(columns["token_features"])
    )
    np.testing.assert_array_equal(shard.columns["topk_tail"], np.float32([0.5, 0.1, 0.2, 0.3]))


def test_a_file_is_mapped_not_copied(tmp_path):
    write_shard(tmp_path / "x.arrow", IDS, VIEWS, {"logits": np.zeros((2, 3), np.float32)})
    logits = read_shard(tmp_path / "x.arrow").columns["logits"]
    assert not logits.flags.owndata and not logits.flags.writeable


def test_pandas_reads_it_in_one_line(tmp_path):
    columns = {"logits": np.float32([1, 2]), "features": np.ones((2, 3), np.float32)}
    write_shard(tmp_path / "x.arrow", IDS, VIEWS, columns)
    frame = pandas.read_feather(tmp_path / "x.arrow")
    assert list(frame.columns) == ["id", "view", "logits", "features"]
    assert frame["logits"].tolist() == [1, 2] and list(frame["features"][1]) == [1, 1, 1]


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("coefvq.teacher_cache.shards.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_shard(tmp_path / "x.arrow", IDS, VIEWS, {"logits": np.zeros(2, np.float32)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [0, 100, -8])
def test_a_damaged_file_is_a_sentence(tmp_path, keep):
    path = tmp_path / "x.arrow"
    write_shard(path, IDS, VIEWS, {"logits": np.zeros(2, np.float32)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"x\.arrow is no readable part of a teacher cache"):
        read_shard(path)
