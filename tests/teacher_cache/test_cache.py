import dataclasses
import errno
import json
import os
import shutil
import threading

import pandas
import pyarrow.dataset
import pyarrow.feather
import pytest
import torch

from coefvq import launch
from coefvq.teacher_cache import CacheIdentity, TeacherCache
from coefvq.teacher_cache import cache as module
from coefvq.types import TeacherOutput

IDS = [f"clip{i}" for i in range(10)]


def rows(output, index):
    return TeacherOutput(
        **{f.name: None if (v := getattr(output, f.name)) is None else v[index]
           for f in dataclasses.fields(output)}
    )  # fmt: skip


def fill(cache, output, parts=((0, 4), (4, 10)), ids=IDS, view="v"):
    """Several files, so that a lookup has to cross them."""
    with cache.writing():
        for start, end in parts:
            cache.add(ids[start:end], view, rows(output, slice(start, end)))
            cache.flush()


def test_any_order_any_size_any_subset(cache, outputs, identity):
    output = outputs(10)
    fill(cache, output)
    for reader in (cache, TeacherCache(cache.folder, identity), TeacherCache(cache.folder)):
        for order in ([3], [9, 0, 4, 2], torch.randperm(10).tolist(), [5, 5]):
            found = reader.lookup([IDS[i] for i in order], "v")
            assert torch.equal(found.logits, output.logits[order])
            assert torch.equal(found.features, output.features[order])
            assert found.topk_indices is None
        assert len(reader) == 10 and ("clip3", "v") in reader
        assert reader.missing(["clip3", "new"], "v") == ["new"]
        assert reader.missing(["clip3"], "w") == ["clip3"]


def test_ragged_rows_keep_their_lengths(cache, outputs):
    output = outputs(10, ragged=True)
    fill(cache, output)
    order = [7, 0, 5]
    found = cache.lookup([IDS[i] for i in order], "v")
    assert torch.equal(found.token_mask, output.token_mask[order])
    mask = found.token_mask
    assert torch.equal(found.token_features[mask], output.token_features[order][mask])
    assert torch.equal(found.topk_indices[mask], output.topk_indices[order][mask])
    assert torch.equal(found.topk_logprobs[mask], output.topk_logprobs[order][mask])
    assert (found.token_features[~mask] == 0).all()
    short = cache.lookup([IDS[0], IDS[4]], "v")  # one token each
    assert short.token_features.shape == (2, 1, 2)


def test_the_tail_of_top_k_is_kept(cache, outputs):
    output = outputs(10, ragged=True)
    fill(cache, output)
    frame = pyarrow.dataset.dataset(
        cache.folder, format="feather", exclude_invalid_files=True
    ).to_table().to_pandas()  # fmt: skip
    assert sorted(frame["id"]) == sorted(IDS)
    row = frame[frame["id"] == "clip3"].iloc[0]
    expected = 1 - output.topk_logprobs[3].exp().sum(-1)
    assert list(row["topk_tail"]) == pytest.approx(expected.tolist(), abs=1e-6)


def test_every_clip_has_its_own_view(cache, outputs):
    first, second = outputs(10, seed=1), outputs(10, seed=2)
    fill(cache, first, view="a")
    fill(cache, second, view="b")
    found = cache.lookup(["clip1", "clip1", "clip2"], ["b", "a", "b"])
    expected = torch.stack([second.logits[1], first.logits[1], second.logits[2]])
    assert torch.equal(found.logits, expected)


def test_a_missing_row_names_clip_and_view(cache, outputs):
    fill(cache, outputs(10))
    with pytest.raises(ValueError, match=r"no row for clip 'new', view v; add what is missing"):
        cache.lookup(["clip1", "new"], "v")


def test_what_is_there_is_not_written_again(cache, outputs):
    output = outputs(10)
    fill(cache, output)
    before = {p.name: p.stat().st_mtime_ns for p in cache.folder.glob("*.arrow")}
    fill(cache, outputs(10, seed=9))
    assert before == {p.name: p.stat().st_mtime_ns for p in cache.folder.glob("*.arrow")}
    assert torch.equal(cache.lookup(IDS, "v").logits, output.logits)


def test_a_clip_twice_in_a_batch_is_one_row(cache, outputs):
    output = outputs(3)
    with cache.writing():
        cache.add(["a", "b", "a"], "v", output)
    assert len(cache) == 2
    assert torch.equal(cache.lookup(["a"], "v").logits, output.logits[:1])


def test_another_identity_is_refused_with_what_differs(cache, outputs, identity):
    fill(cache, outputs(10))
    other = CacheIdentity({**identity.parts, "teacher": {"class": "Toy", "width": 4}})
    with pytest.raises(ValueError, match=r"made for something else \(teacher\.width: 4 -> 3: ours"):
        TeacherCache(cache.folder, other)


def test_two_caches_in_one_folder_are_refused(cache, outputs, identity, tmp_path):
    fill(cache, outputs(10))
    other = TeacherCache(tmp_path / "other", identity)
    fill(other, outputs(10), parts=((2, 3),))
    shutil.copy(next(other.folder.glob("*.arrow")), cache.folder / "shard-copied.arrow")
    with pytest.raises(ValueError, match=r"has clip 'clip2' \(view v\) in .* and in"):
        TeacherCache(cache.folder, identity)


def test_no_cache_is_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="holds no teacher cache"):
        TeacherCache(tmp_path)
    (tmp_path / "_identity.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        TeacherCache(tmp_path)
    (tmp_path / "_identity.json").write_text("[]")
    with pytest.raises(ValueError, match="cannot be read"):
        TeacherCache(tmp_path)


def test_an_identity_that_was_edited_is_refused(cache, outputs):
    fill(cache, outputs(10))
    path = cache.folder / "_identity.json"
    content = json.loads(path.read_text())
    for parts in ({**content["parts"], "temperature": 4.0}, {"dtype": "float32"}):
        path.write_text(json.dumps({**content, "parts": parts}))
        with pytest.raises(ValueError, match="was changed after it was written"):
            TeacherCache(cache.folder)
    # Edited with care, it still is not what the rows were written for.
    parts = {**content["parts"], "temperature": 4.0}
    edited = {"parts": parts, "fingerprint": CacheIdentity(parts).fingerprint}
    path.write_text(json.dumps(edited))
    with pytest.raises(ValueError, match=r"shard-.*\.arrow belongs to another teacher cache"):
        TeacherCache(cache.folder)


def test_a_file_of_another_cache_is_refused(cache, outputs, tmp_path):
    fill(cache, outputs(10))
    other = TeacherCache(tmp_path / "other", CacheIdentity({"dtype": "float32", "weights": "x"}))
    fill(other, outputs(2), parts=((0, 2),), ids=["new1", "new2"])
    shutil.copy(next(other.folder.glob("*.arrow")), cache.folder)
    with pytest.raises(ValueError, match=r"belongs to another teacher cache .* move it back"):
        TeacherCache(cache.folder)


def test_a_file_in_place_of_the_folder_is_named_without_bad_advice(cache, outputs):
    fill(cache, outputs(10))
    shard = next(cache.folder.glob("*.arrow"))
    with pytest.raises(ValueError, match=f"is a file, .*; give {cache.folder}, where it lies"):
        TeacherCache(shard)


def test_the_readme_line_opens_a_whole_cache(cache, outputs):
    output = outputs(10)
    fill(cache, output)
    folder = cache.folder
    for frame in (
        pandas.concat(map(pandas.read_feather, folder.glob("*.arrow"))),
        pyarrow.dataset.dataset(folder, format="arrow").to_table().to_pandas(),
    ):
        assert sorted(frame["id"]) == sorted(IDS)
        row = frame[frame["id"] == "clip3"].iloc[0]
        assert torch.equal(torch.tensor(row["logits"]), output.logits[3])


def test_half_precision_halves_the_rows_and_says_its_error(tmp_path, outputs):
    output, sizes, errors = outputs(10), {}, {}
    for dtype in ("float16", "float32"):
        cache = TeacherCache(tmp_path / dtype, CacheIdentity({"dtype": dtype}))
        fill(cache, output, parts=((0, 10),))
        sizes[dtype] = cache.lookup(IDS, "v").logits
        errors[dtype] = TeacherCache(cache.folder).errors()  # also for whoever finds it written
        assert cache.stats().rows == 10 and cache.stats().bytes_per_row > 0
    assert sizes["float16"].dtype == torch.float32
    error = (sizes["float16"] - output.logits).abs().amax(-1)
    assert 0 < error.max() < 2e-3
    assert errors["float16"]["logits"] == error.max() and errors["float16"]["features"] > 0
    assert errors["float32"] == {"logits": 0.0, "features": 0.0}


def test_what_was_in_a_clip_is_kept(cache, outputs, identity):
    with cache.writing():
        cache.add(IDS[:4], "v", outputs(4), {name: name.upper() for name in IDS}.__getitem__)
        cache.flush()
        cache.add(IDS[4:6], "v", outputs(2))
    again = TeacherCache(cache.folder, identity)
    assert again.content("clip2", "v") == "CLIP2"
    assert again.content("clip5", "v") is None and again.content("clip2", "w") is None
    assert len(again.lookup(IDS[:6], "v").logits) == 6


def test_what_is_no_number_is_refused_and_not_written(tmp_path):
    cache = TeacherCache(tmp_path / "c", CacheIdentity({"dtype": "float16"}))
    with pytest.raises(ValueError, match="logits hold 100000, which is too"), cache.writing():
        cache.add(["a"], "v", TeacherOutput(torch.tensor([1e5])))
    assert len(cache) == 0


def test_the_error_of_every_column_is_said_and_padding_has_none(tmp_path, outputs):
    output = outputs(10, ragged=True)
    output.token_features[~output.token_mask] = 1e9  # nobody reads it
    cache = TeacherCache(tmp_path / "c", CacheIdentity({"dtype": "float16"}))
    fill(cache, output)
    errors = cache.errors()
    assert set(errors) == {"logits", "features", "token_features", "topk_logprobs"}
    assert all(0 < error < 0.01 for error in errors.values())
    assert cache.columns == {*errors, "topk_indices", "topk_tail"}
    assert cache.views_of("clip3") == ["v"] and cache.views_of("nobody") == []


@pytest.mark.parametrize("column", ["logits", "id", "token_features"])
def test_rows_in_another_order_are_refused__permuted_cache_rows(cache, outputs, identity, column):
    fill(cache, outputs(10, ragged=True), parts=((0, 10),))
    (path,) = cache.folder.glob("*.arrow")
    table = pyarrow.feather.read_table(path, memory_map=False)
    place = table.column_names.index(column)
    turned = table.column(column).take(list(reversed(range(10))))
    changed = table.set_column(place, table.field(place), turned)
    with pyarrow.ipc.new_file(path, changed.schema) as writer:  # with the old metadata
        writer.write_table(changed.combine_chunks())
    with pytest.raises(ValueError, match=r"its rows are not the ones that were written\); remove"):
        TeacherCache(cache.folder, identity)


def test_a_flipped_bit_is_noticed(cache, outputs, identity):
    fill(cache, outputs(10), parts=((0, 10),))
    (path,) = cache.folder.glob("*.arrow")
    value = outputs(10).logits[4, 1].numpy().tobytes()
    content = bytearray(path.read_bytes())
    content[bytes(content).index(value)] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is no readable part of a teacher cache"):
        TeacherCache(cache.folder, identity)


def test_levels_and_doubts_of_a_teacher_of_scores_are_kept(cache):
    levels, std = torch.randn(2, 5).log_softmax(-1), torch.tensor([0.5, 3.0])
    output = TeacherOutput(torch.tensor([40.0, 60.0]), level_logits=levels, score_std=std)
    cache.add(["a", "b"], ["v", "v"], output)
    cache.flush()
    found = cache.lookup(["b", "a"], "v")
    assert torch.equal(found.level_logits, levels[[1, 0]])
    assert torch.equal(found.score_std, std[[1, 0]])


def test_a_masked_class_is_kept(cache):
    output = TeacherOutput(torch.tensor([[1.0, -torch.inf, 0.0]]))
    with cache.writing():
        cache.add(["a"], "v", output)
    assert torch.equal(cache.lookup(["a"], "v").logits, output.logits)


def test_rows_of_another_kind_are_refused(cache, outputs):
    fill(cache, outputs(10))
    sentence = r"answers with \['logits'\], but the cache"
    with pytest.raises(ValueError, match=sentence), cache.writing():
        cache.add(["new"], "v", TeacherOutput(torch.zeros(1, 3)))


def test_what_is_finished_stays_when_somebody_stops_us(cache, outputs):
    with pytest.raises(KeyboardInterrupt), cache.writing():
        cache.add(IDS, "v", outputs(10))
        raise KeyboardInterrupt
    assert len(cache) == 10


def test_a_full_disk_loses_nothing(cache, outputs, identity, monkeypatch, capsys):
    output = outputs(10)
    fill(cache, output, parts=((0, 4),))

    def full(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_shard", full)
        with pytest.raises(OSError, match=r"no space left for .* 4 rows are safe there: free"):
            fill(cache, output, parts=((4, 10),))
        with pytest.raises(SystemExit), launch.one_sentence():
            fill(cache, output, parts=((4, 10),))
    said = capsys.readouterr().err
    assert said.count("safe there") == 1 and "Errno" not in said and "on the device" not in said
    again = TeacherCache(cache.folder, identity)
    assert len(again) == 4
    fill(again, output)
    assert torch.equal(again.lookup(IDS, "v").logits, output.logits)


def test_rows_reach_the_disk_without_being_asked(cache, outputs, monkeypatch):
    monkeypatch.setattr(module, "SHARD_ROWS", 4)
    output = outputs(10)
    with cache.writing():
        cache.add(IDS[:3], "v", rows(output, slice(0, 3)))
        assert len(cache) == 0
        cache.add(IDS[3:6], "v", rows(output, slice(3, 6)))
        assert len(cache) == 6
        monkeypatch.setattr(module, "SHARD_SECONDS", -1.0)
        cache.add(IDS[6:7], "v", rows(output, slice(6, 7)))
        assert len(cache) == 7


def test_what_a_killed_writer_left_is_swept_away(cache, outputs):
    cache.folder.mkdir(parents=True)
    (cache.folder / ".shard-x.arrow.part").write_bytes(b"half")
    fill(cache, outputs(10))
    assert not list(cache.folder.glob(".*.part"))


def test_a_second_writer_waits_and_finds_the_rows(cache, identity):
    started, waiting, waited = threading.Event(), threading.Event(), []

    def write_until_somebody_waits():
        other = TeacherCache(cache.folder, identity)
        with other.writing():
            started.set()
            assert waiting.wait(60)
            other.add(["a"], "v", TeacherOutput(torch.tensor([1.0])))

    def wait():
        waited.append(1)
        waiting.set()

    first = threading.Thread(target=write_until_somebody_waits)
    first.start()
    assert started.wait(60)
    with cache.writing(wait=wait):
        assert cache.missing(["a", "b"], "v") == ["b"]
    first.join()
    assert waited == [1]
