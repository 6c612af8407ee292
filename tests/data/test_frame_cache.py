import dataclasses
import errno
import multiprocessing
import os
import pickle
import time

import numpy as np
import pytest

from coefvq.data import frame_cache
from coefvq.data.frame_cache import FrameCache, clip_key, reading_name
from coefvq.data.reader import Reading, reading_shapes
from coefvq.types import InputSpec

INPUTS = InputSpec(num_frames=2, frame_size=8, audio_seconds=0.1, mel_bins=4)


def reading(number, inputs=INPUTS):
    shapes = reading_shapes(inputs)
    return Reading(*(np.full(shape, number % 2 if kind == "bool" else number, kind)
                     for shape, kind in shapes.values()))  # fmt: skip


def fill(cache, numbers):
    cache.append([(f"key{number}", reading(number)) for number in numbers])


def open_cache(folder, inputs=INPUTS):
    return FrameCache(inputs, "uniform", folder)


def test_what_is_written_is_read_in_any_order(tmp_path):
    cache = open_cache(tmp_path)
    fill(cache, range(5))
    fill(cache, range(5, 9))
    for seen in (cache, open_cache(tmp_path)):
        assert len(seen) == 9 and "key3" in seen and "key9" not in seen
        batch = seen.gather(["key7", "key0", "key4", "key7"])
        assert batch["frames"].shape == (4, 2, 3, 8, 8) and batch["frames"].dtype == np.uint8
        assert batch["frames"][:, 0, 0, 0, 0].tolist() == [7, 0, 4, 7]
        assert batch["audio"][:, 0, 0].tolist() == [7, 0, 4, 7]
        assert batch["audio_mask"].all(1).tolist() == [True, False, False, True]
        with pytest.raises(KeyError):
            seen.gather(["key9"])


def test_without_sound(tmp_path):
    inputs = dataclasses.replace(INPUTS, audio=False)
    cache = open_cache(tmp_path, inputs)
    cache.append([("a", reading(3, inputs))])
    assert open_cache(tmp_path, inputs).gather(["a"])["frames"].max() == 3


def test_a_batch_is_a_copy(tmp_path):
    cache = open_cache(tmp_path)
    fill(cache, range(2))
    cache.gather(["key1"])["frames"][:] = 99
    assert cache.gather(["key1"])["frames"].max() == 1


def test_the_key_follows_the_file(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"one")
    first = clip_key(path)
    assert clip_key(path) == first
    os.utime(path, ns=(1, 1))
    touched = clip_key(path)
    path.write_bytes(b"another")
    os.utime(path, ns=(1, 1))
    other = tmp_path / "b.mp4"
    other.write_bytes(b"another")
    os.utime(other, ns=(1, 1))
    assert len({first, touched, clip_key(path), clip_key(other)}) == 4
    with pytest.raises(OSError):
        clip_key(tmp_path / "gone.mp4")


def test_each_way_of_reading_has_its_own_folder():
    names = {reading_name(INPUTS, "uniform"), reading_name(INPUTS, "per_second")}
    for change in ({"num_frames": 3}, {"frame_size": 9}, {"fit": "squash"}, {"audio": False},
                   {"audio_seconds": 0.2}, {"mel_bins": 5}, {"hop_length": 80},
                   {"sample_rate": 8000}):  # fmt: skip
        names.add(reading_name(dataclasses.replace(INPUTS, **change), "uniform"))
    assert len(names) == 10
    # Text is not decoded, and the policy that is used is named apart.
    for change in ({"text_fields": ()}, {"max_text_length": 9}, {"train_sampling": "per_second"}):
        assert reading_name(dataclasses.replace(INPUTS, **change), "uniform") in names


def test_a_half_written_shard_is_not_read(tmp_path, monkeypatch):
    cache = open_cache(tmp_path)
    fill(cache, range(3))

    def killed(*_):
        raise KeyboardInterrupt

    # As if the process had been killed before it gave the shard its name.
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.rename", killed)
        with pytest.raises(KeyboardInterrupt):
            fill(cache, range(3, 6))
    assert any(path.name.startswith("draft-") for path in cache.folder.iterdir())
    again = open_cache(tmp_path)
    assert len(again) == 3
    fill(again, range(3, 6))
    assert len(open_cache(tmp_path)) == 6


def test_drafts_of_killed_runs_are_removed_after_a_day(tmp_path):
    cache = open_cache(tmp_path)
    fill(cache, range(1))
    fresh, stale = cache.folder / "draft-fresh", cache.folder / "draft-stale"
    fresh.mkdir()
    stale.mkdir()
    os.utime(stale, (time.time() - 2 * 24 * 3600,) * 2)
    assert len(open_cache(tmp_path)) == 1
    assert fresh.exists() and not stale.exists()


@pytest.mark.parametrize("harm", ["no index", "broken index", "short array", "no array"])
def test_a_shard_that_somebody_damaged_counts_as_missing(tmp_path, harm):
    cache = open_cache(tmp_path)
    fill(cache, range(2))
    fill(cache, range(2, 4))
    shard = next(path for path in cache.folder.iterdir())
    if harm == "no index":
        (shard / "index.json").unlink()
    elif harm == "broken index":
        (shard / "index.json").write_text('{"keys": ["ke')
    elif harm == "short array":
        (shard / "frames.npy").write_bytes((shard / "frames.npy").read_bytes()[:200])
    else:
        (shard / "audio.npy").unlink()
    again = open_cache(tmp_path)
    assert len(again) == 2
    again.gather([f"key{n}" for n in range(4) if f"key{n}" in again])


def _write(folder, start):
    cache = open_cache(folder)
    for first in range(start, start + 20, 5):
        fill(cache, range(first, first + 5))


def test_two_writers_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(tmp_path, start)) for start in (0, 10)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    cache = open_cache(tmp_path)
    assert len(cache) == 30  # ten of them were written twice
    batch = cache.gather([f"key{n}" for n in range(30)])
    assert batch["frames"][:, 0, 0, 0, 0].tolist() == list(range(30))


@pytest.mark.parametrize(
    "said", [(errno.ENOSPC, "No space left on device"), ("9 requested and 4 written",)]
)
def test_a_full_disk_is_said_with_the_folder_and_the_remedy(tmp_path, monkeypatch, said):
    cache = open_cache(tmp_path)

    def full(*_, **__):
        raise OSError(*said)

    with monkeypatch.context() as patch:
        patch.setattr(frame_cache.np, "save", full)
        with pytest.raises(OSError, match=r"no space left for decoded frames in .* set cache_dir"):
            fill(cache, range(2))
    assert not list(cache.folder.iterdir())  # nothing is left lying about
    with pytest.raises(OSError, match="GB needed"):
        cache.check_space(10**15)
    cache.check_space(10)


def test_large_frames_make_smaller_shards(tmp_path):
    assert open_cache(tmp_path).shard_clips == 256
    large = FrameCache(InputSpec(num_frames=64, frame_size=512), "uniform", tmp_path)
    assert 1 <= large.shard_clips < 256
    assert large.shard_clips * large.clip_bytes <= frame_cache.SHARD_BYTES


def test_a_worker_process_maps_the_arrays_itself(tmp_path):
    cache = open_cache(tmp_path)
    fill(cache, range(200))
    cache.gather(["key1"])
    packed = pickle.dumps(cache)
    assert len(packed) < 20_000 < cache.clip_bytes * 200
    assert pickle.loads(packed).gather(["key7"])["frames"].max() == 7
