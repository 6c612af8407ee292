"""Files, parts, locks and kills. Most pools here are of stand-in clips, which take no time."""

import errno
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas
import pytest

from coefvq.data.shortform import codec
from coefvq.data.shortform import pool as pools
from coefvq.data.shortform.make import clip_name
from coefvq.data.shortform.pool import CHUNK, Pool

ROOT = Path(__file__).resolve().parents[3]

STAND_IN = """
import os, sys, time
from coefvq.data.shortform import pool

def make_clip(folder, seed, index):
    time.sleep(float(sys.argv[2]))
    (folder / f".{index:06d}.mp4.{os.getpid()}.part").write_text("half")
    os.rename(folder / f".{index:06d}.mp4.{os.getpid()}.part", folder / f"{index:06d}.mp4")
    with open(folder.parent / "made.txt", "a") as made:
        made.write(f"{index}\\n")
    return {"index": index, "kind": "perlin"}

pool.make_clip = make_clip
rows = pool.Pool(0, sys.argv[1]).ensure(int(sys.argv[3]), workers=0)
print(rows["index"].tolist() == list(range(int(sys.argv[3]))))
"""


@pytest.fixture
def made(monkeypatch):
    """Indices of the stand-in clips that were made, in order."""
    indices = []

    def make_clip(folder, seed, index):
        indices.append(index)
        (folder / clip_name(index)).write_text(f"{seed} {index}")
        return {"index": index, "seed": seed}

    monkeypatch.setattr(pools, "make_clip", make_clip)
    return indices


def start(home, seconds=0.0, count=48):
    """Start a process that makes a pool of stand-in clips."""
    return subprocess.Popen(
        [sys.executable, "-c", STAND_IN, str(home), str(seconds), str(count)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def wait_for(condition):
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def times(folder):
    return {
        p.name: p.stat().st_mtime_ns for p in [*folder.glob("clips/*"), *folder.glob("table/*")]
    }


class TestRealClips:
    def test_there_is_a_file_per_row_in_order(self, pool, table):
        assert table["index"].tolist() == list(range(len(table)))
        assert table.index.tolist() == list(range(len(table)))
        for index in table["index"]:
            assert (pool.clips / clip_name(index)).stat().st_size > 2000
        assert not [*pool.folder.rglob(".*")], "nothing half-made is left"

    def test_other_processes_make_the_same(self, pool, table, tmp_path):
        other = Pool(0, tmp_path)
        rows = other.ensure(CHUNK, workers=1)
        pandas.testing.assert_frame_equal(rows, table.iloc[:CHUNK], rtol=1e-6)
        for index in range(CHUNK):
            one, two = (codec.read_back(p.clips / clip_name(index))[0] for p in (pool, other))
            assert np.abs(one.astype(int) - two).mean() < 0.5
        assert not [*other.folder.rglob(".*")]

    def test_what_a_version_stands_for_never_changes(self, table):
        """Users' disks hold pools that are found by their version alone.

        If this fails, the recipe has changed: raise VERSION, and write down the new digest.
        """
        drawn = ["index", "kind", "title", "mismatch", *table.filter(like="dose_")]
        text = table[drawn].iloc[:CHUNK].to_csv(index=False, float_format="%.3f")
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        assert (pools.VERSION, digest) == (2, "78036d6e79cbe017")

    def test_one_kind_has_not_taken_all(self, table):
        assert table["kind"].nunique() >= 6


class TestFolder:
    def test_is_named_after_recipe_and_seed(self, tmp_path, home):
        assert Pool(3, tmp_path).folder == tmp_path / "shortform" / f"v{pools.VERSION}-seed3"
        assert Pool(0).folder.is_relative_to(home), "COEFVQ_HOME counts"

    def test_seeds_do_not_share_clips(self, tmp_path, made):
        rows = [Pool(seed, tmp_path).ensure(CHUNK, workers=0) for seed in (0, 1)]
        assert len(made) == 2 * CHUNK and [set(r["seed"]) for r in rows] == [{0}, {1}]

    def test_asking_does_not_make_it(self, tmp_path):
        Pool(0, tmp_path / "home")
        assert not (tmp_path / "home").exists()


class TestMaking:
    @pytest.mark.parametrize("count", [1, CHUNK, CHUNK + 1])
    def test_whole_chunks_are_made_and_the_wanted_rows_returned(self, tmp_path, made, count):
        rows = Pool(0, tmp_path).ensure(count, workers=0)
        assert rows["index"].tolist() == list(range(count))
        assert made == list(range(-(-count // CHUNK) * CHUNK))

    def test_a_second_call_makes_nothing(self, tmp_path, made):
        first = Pool(0, tmp_path).ensure(20, workers=0)
        made.clear()
        pandas.testing.assert_frame_equal(Pool(0, tmp_path).ensure(20), first)
        assert not made
        assert len(Pool(0, tmp_path).ensure(5)) == 5 and not made

    def test_an_extension_leaves_old_files_alone(self, tmp_path, made):
        pool = Pool(0, tmp_path)
        first = pool.ensure(CHUNK, workers=0)
        before = times(pool.folder)
        made.clear()
        rows = pool.ensure(3 * CHUNK, workers=0)
        assert made == list(range(CHUNK, 3 * CHUNK))
        assert {name: t for name, t in times(pool.folder).items() if name in before} == before
        pandas.testing.assert_frame_equal(rows.iloc[:CHUNK], first)
        assert rows["index"].tolist() == list(range(3 * CHUNK))

    def test_a_lost_part_is_made_again_and_no_other(self, tmp_path, made):
        pool = Pool(0, tmp_path)
        pool.ensure(3 * CHUNK, workers=0)
        (pool.table / "000001.parquet").unlink()
        made.clear()
        assert pool.ensure(3 * CHUNK)["index"].tolist() == list(range(3 * CHUNK))
        assert made == list(range(CHUNK, 2 * CHUNK))

    def test_a_removed_clip_is_made_again(self, tmp_path, made):
        pool = Pool(0, tmp_path)
        pool.ensure(2 * CHUNK, workers=0)
        (pool.clips / clip_name(3)).unlink()
        made.clear()
        pool.ensure(2 * CHUNK)
        assert made == list(range(CHUNK)) and (pool.clips / clip_name(3)).exists()

    def test_temporary_files_of_a_killed_run_are_cleared(self, tmp_path, made):
        pool = Pool(0, tmp_path)
        pool.ensure(CHUNK, workers=0)
        left = [pool.clips / ".000017.mp4.123.part", pool.table / ".000001.parquet.123.part"]
        for path in left:
            path.write_text("half")
        pool.ensure(2 * CHUNK, workers=0)
        assert not any(path.exists() for path in left)

    def test_a_failure_keeps_what_is_whole(self, tmp_path, made, monkeypatch):
        pool = Pool(0, tmp_path)
        working = pools.make_clip

        def failing(folder, seed, index):
            if index == CHUNK + 3:
                raise OSError(errno.ENOSPC, "no space left on device")
            return working(folder, seed, index)

        monkeypatch.setattr(pools, "make_clip", failing)
        with pytest.raises(OSError, match="no space left"):
            pool.ensure(2 * CHUNK, workers=0)
        assert [p.name for p in pool.table.iterdir()] == ["000000.parquet"]
        monkeypatch.setattr(pools, "make_clip", working)
        made.clear()
        assert len(pool.ensure(2 * CHUNK, workers=0)) == 2 * CHUNK
        assert made == list(range(CHUNK, 2 * CHUNK))

    def test_a_full_disk_is_noticed_before_work_starts(self, tmp_path, made, monkeypatch):
        usage = type("Usage", (), {"free": 100_000})
        monkeypatch.setattr(pools.shutil, "disk_usage", lambda folder: usage)
        with pytest.raises(OSError, match=r"16 clips take about 1 MB, and .* has 0 MB left") as e:
            Pool(0, tmp_path).ensure(CHUNK, workers=0)
        assert e.value.errno == errno.ENOSPC and not made


class TestProcesses:
    def test_a_killed_run_goes_on_where_it_was(self, tmp_path, made):
        pool = Pool(0, tmp_path)
        process = start(tmp_path, seconds=0.02)
        wait_for((pool.table / "000000.parquet").exists)
        wait_for((pool.clips / clip_name(CHUNK + 2)).exists)
        process.kill()
        process.communicate()
        (pool.clips / f".{clip_name(CHUNK + 3)}.{process.pid}.part").write_text("half")
        assert not (pool.table / "000002.parquet").exists(), "it was killed in time"
        before = times(pool.folder)
        rows = pool.ensure(3 * CHUNK, workers=0)
        assert rows["index"].tolist() == list(range(3 * CHUNK))
        assert 0 not in made and 3 * CHUNK - 1 in made
        kept = ["000000.parquet", *map(clip_name, range(CHUNK))]
        assert {name: times(pool.folder)[name] for name in kept} == {n: before[n] for n in kept}
        assert not [*pool.folder.rglob(".*")]

    def test_of_two_at_once_one_waits_and_finds(self, tmp_path):
        both = [start(tmp_path, seconds=0.02) for _ in range(2)]
        answers = [process.communicate(timeout=60)[0] for process in both]
        assert answers == ["True\n", "True\n"] and [p.returncode for p in both] == [0, 0]
        made = (Pool(0, tmp_path).folder / "made.txt").read_text().split()
        assert sorted(map(int, made)) == list(range(48)), "each clip was made once"


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs /proc and signals of Linux")
@pytest.mark.slow
def test_workers_do_not_outlive_a_killed_parent(tmp_path):
    script = (
        f"from coefvq.data.shortform.pool import Pool\nPool(0, {str(tmp_path)!r}).ensure(128, 2)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.DEVNULL)
    clips = Pool(0, tmp_path).clips
    wait_for(lambda: clips.is_dir() and any(clips.glob("0*.mp4")))
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    parent.kill()
    parent.wait()

    def gone(pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
        except OSError:
            return True

    assert len(children) >= 2
    wait_for(lambda: all(map(gone, children)))
    assert Pool(0, tmp_path).ensure(128)["index"].tolist() == list(range(128))
