import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import lightning
import pyarrow.dataset
import pytest
import torch

from coefvq.teacher_cache import CacheIdentity, TeacherCache
from coefvq.teacher_supply.caching import CachingProgress, fixed_batches, write_outputs
from coefvq.types import Batch, TeacherOutput


class Clips:
    """As much of a `ClipDataset` as caching looks at."""

    def __init__(self, n, view="v"):
        self.ids = [f"clip{i}" for i in range(n)]
        self.view = view

    def view_names(self, ids):
        return (self.view,) * len(ids)

    def __getitems__(self, indices):
        ids = tuple(self.ids[i] for i in indices)
        frames = torch.tensor(list(indices), dtype=torch.uint8).view(-1, 1, 1, 1, 1)
        mask = torch.ones(len(ids), 1, dtype=torch.bool)
        return Batch(ids=ids, frames=frames, frame_mask=mask, views=self.view_names(ids))


class Counting:
    """Says the number of a clip, and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, batch):
        self.asked.append(batch.ids)
        return TeacherOutput(batch.frames.flatten().float() + 0.1)


@pytest.fixture
def trainer():
    def make(**options):
        plain = {"logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
        plain |= {"enable_model_summary": False, "use_distributed_sampler": False}
        return lightning.Trainer(**plain, **{"enable_progress_bar": False, **options})

    return make


@pytest.fixture
def cache(tmp_path):
    return TeacherCache(tmp_path / "cache", CacheIdentity({"dtype": "float32"}))


def test_each_clip_is_asked_about_once(cache, trainer):
    teacher, sets = Counting(), [Clips(10, "a"), Clips(5, "b")]
    result = write_outputs(teacher, sets, cache, trainer(), batch_size=4)
    assert (result.written, result.found, result.max_errors) == (15, 0, {"logits": 0.0})
    # Batches of one size: the last is filled with its own clips.
    assert [len(ids) for ids in teacher.asked] == [4] * 5
    assert teacher.asked[2] == ("clip8", "clip9", "clip8", "clip9")
    assert cache.lookup(["clip9", "clip0"], "a").logits.tolist() == pytest.approx([9.1, 0.1])
    again = write_outputs(teacher, sets, cache, trainer(), batch_size=4)
    assert (again.written, again.found) == (0, 15) and len(teacher.asked) == 5


def test_only_batches_with_a_missing_clip_are_asked_again(cache, trainer):
    write_outputs(Counting(), [Clips(8)], cache, trainer(), batch_size=4)
    teacher = Counting()
    write_outputs(teacher, [Clips(12)], cache, trainer(), batch_size=4)
    assert teacher.asked == [("clip8", "clip9", "clip10", "clip11")]
    assert fixed_batches(Clips(6), ["clip5"], 4) == [[4, 5, 4, 5]]


def test_rows_can_be_filed_under_one_view(cache, trainer):
    write_outputs(Counting(), [Clips(4, "random#1")], cache, trainer(), batch_size=4, view="any")
    assert cache.missing(["clip0"], "any") == []


def test_the_error_of_half_precision_is_measured(tmp_path, trainer):
    half = TeacherCache(tmp_path / "half", CacheIdentity({"dtype": "float16"}))
    result = write_outputs(Counting(), [Clips(8)], half, trainer(), batch_size=4)
    assert 0 < result.max_errors["logits"] < 0.005


def test_a_bar_shows_how_far_it_is(cache, trainer, capfd):
    bar = CachingProgress("asking toy")
    shown = trainer(enable_progress_bar=True, callbacks=[bar])
    write_outputs(Counting(), [Clips(8)], cache, shown, batch_size=4)
    said = capfd.readouterr().err
    assert "asking toy" in said and "2/2" in said


SCRIPT = """
import sys, time
sys.path.insert(0, {here!r})
import lightning, torch
from test_caching import Clips, Counting
from coefvq import engine
from coefvq.teacher_supply.caching import write_outputs
from coefvq.teacher_cache import CacheIdentity, TeacherCache, cache as module
module.SHARD_SECONDS = {flush}
engine.quiet()

class Slow(Counting):
    def __call__(self, batch):
        time.sleep({pause})
        return TeacherOutput(torch.sin(batch.frames.flatten().float() * 1.7))

from coefvq.types import TeacherOutput
cache = TeacherCache({folder!r}, CacheIdentity({{"dtype": "float32"}}))
trainer = lightning.Trainer(
    logger=False, enable_checkpointing=False, accelerator="cpu", enable_progress_bar=False,
    enable_model_summary=False, use_distributed_sampler=False, devices={devices},
    strategy="{strategy}")
print("ready", flush=True)
write_outputs(Slow(), [Clips(90, "a"), Clips({few}, "b")], cache, trainer, batch_size=4)
"""


def script(tmp_path, folder, pause=0.0, devices=1, strategy="auto", flush=0.15, few=30):
    path = tmp_path / "write.py"
    path.write_text(
        SCRIPT.format(
            here=str(Path(__file__).parent), folder=str(folder), pause=pause, devices=devices,
            strategy=strategy, flush=flush, few=few,
        )
    )  # fmt: skip
    return [sys.executable, str(path)]


def rows(folder):
    """Bytes of every row, whatever file it is in."""
    table = pyarrow.dataset.dataset(folder, format="feather", exclude_invalid_files=True).to_table()
    frame = table.to_pandas()
    assert not frame.duplicated(["id", "view"]).any()
    keys = zip(frame["id"], frame["view"], strict=True)
    values = (value.tobytes() for value in frame["logits"].to_numpy())
    return dict(zip(keys, values, strict=True))


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
def test_killed_at_ten_random_moments(tmp_path):
    """Whoever was killed goes on to the same bytes."""
    whole = tmp_path / "whole"
    subprocess.run(script(tmp_path, whole), check=True, capture_output=True, timeout=120)
    expected, table = rows(whole), []
    assert len(expected) == 120
    for number in range(10):
        folder = tmp_path / f"killed{number}"
        process = subprocess.Popen(
            script(tmp_path, folder, pause=0.05), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        process.stdout.readline()
        after = random.Random(number).uniform(0.3, 1.8)
        time.sleep(after)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        kept = len(TeacherCache(folder, CacheIdentity({"dtype": "float32"})))
        subprocess.run(script(tmp_path, folder), check=True, capture_output=True, timeout=120)
        table.append((after, kept, rows(folder) == expected))
    print("\nkilled after s | rows kept of 120 | resumed equal")
    for after, kept, equal in table:
        print(f"{after:14.2f} | {kept:16d} | {equal}")
    assert all(equal for *_, equal in table) and any(kept < 120 for _, kept, _ in table)


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_share_the_work(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"  # the second data set is a single batch
    subprocess.run(script(tmp_path, one, few=2), check=True, capture_output=True, timeout=120)
    result = subprocess.run(
        script(tmp_path, two, devices=2, strategy="ddp", flush=30.0, few=2),
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert rows(one) == rows(two)
    assert len(list(two.glob("*.arrow"))) == 2  # each process wrote its own
    stored = json.loads((two / "_identity.json").read_text())
    assert stored["parts"] == {"dtype": "float32"}
