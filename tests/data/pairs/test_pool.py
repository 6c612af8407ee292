import hashlib
import json

import numpy as np
import pandas
import pytest

from coefvq.data.pairs.drawing import File
from coefvq.data.pairs.pool import BLOCK, COPIES, VERSION, PairPool, make_block
from coefvq.data.pairs.tune import make_tune
from coefvq.data.video import probe


def test_blocks_hold_sources_and_copies(pair_pool):
    blocks = pair_pool.ensure(2)
    assert [len(block) for block in blocks] == [BLOCK * (1 + COPIES)] * 2
    for block in blocks:
        names = {file.source for file in block}
        assert len(names) == BLOCK
        # What is borrowed comes from the same block: a split never divides one.
        assert {f.inserted for f in block} | {f.heard for f in block} <= names | {""}
        for file in block:
            assert (pair_pool.clips / file.path).is_file()
    assert not {f.source for f in blocks[0]} & {f.source for f in blocks[1]}


def test_files_are_what_the_table_says(pair_pool):
    for file in pair_pool.ensure(1)[0][:16]:
        info = probe(pair_pool.clips / file.path)
        if file.original:
            assert (info.width, info.num_frames, info.codec) == (128, 24, "h264")
        assert info.has_sound == bool(file.heard)
        if file.how == ("trim",):
            assert info.seconds == pytest.approx(2 * (file.end - file.start), abs=0.12)


def test_halves_of_a_source_sound_different(pair_pool):
    """Sound tells another segment of a source from a copy of it."""
    from coefvq.data.audio import decode_audio

    for file in [f for f in pair_pool.ensure(1)[0] if f.original][:4]:
        wave = decode_audio(pair_pool.clips / file.path, 16_000, 2.0)
        early, late = (np.abs(np.fft.rfft(part)) for part in (wave[:16_000], wave[16_000:32_000]))
        assert (early * late).sum() / np.linalg.norm(early) / np.linalg.norm(late) < 0.9


def test_a_killed_run_goes_on_and_gives_the_same(pair_pool, tmp_path):
    """Half a block: some clips, no table, and a draft of another clip."""
    pool = PairPool(0, tmp_path)
    pool.clips.mkdir(parents=True)
    pool.table.mkdir()
    wanted = pair_pool.ensure(1)[0]
    for file in wanted[:20]:
        (pool.clips / file.path).write_bytes((pair_pool.clips / file.path).read_bytes())
    stamps = {f.path: (pool.clips / f.path).stat().st_mtime_ns for f in wanted[:20]}
    (pool.clips / ".x.mp4.1.part").write_bytes(b"half")
    assert pool.ensure(1, workers=0)[0] == wanted
    assert not list(pool.clips.glob(".*"))
    assert stamps == {name: (pool.clips / name).stat().st_mtime_ns for name in stamps}
    # A clip that somebody has removed is made again.
    (pool.clips / wanted[3].path).unlink()
    assert pool.ensure(1)[0] == wanted and (pool.clips / wanted[3].path).is_file()


def test_what_is_there_is_not_made_again(pair_pool, monkeypatch):
    monkeypatch.setattr(PairPool, "_make", lambda *_: pytest.fail("made again"))
    pair_pool.ensure(4)


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    from collections import namedtuple

    usage = namedtuple("usage", "free")
    monkeypatch.setattr("coefvq.data.pairs.pool.shutil.disk_usage", lambda _: usage(10))
    with pytest.raises(OSError, match="8 sources with their copies take about 3 MB"):
        PairPool(0, tmp_path).ensure(1)


def test_a_part_lists_everything(pair_pool):
    table = pandas.read_parquet(pair_pool.table / "000000.parquet")
    assert [File.from_dict(row) for row in table.to_dict("records")] == pair_pool.ensure(1)[0]
    assert callable(make_block)


def test_what_a_version_stands_for_never_changes(pair_pool):
    """Users' disks hold pools that are found by their version alone.

    If this fails, the recipe has changed: raise VERSION, and write down the new digest.
    """
    rows = [file.to_dict() for file in pair_pool.ensure(1)[0]]
    content = [{k: round(v, 4) if isinstance(v, float) else v for k, v in r.items()} for r in rows]
    tune = make_tune(np.random.default_rng(0), 2.0, 16_000)[::500]
    content.append([round(float(x), 3) for x in tune])
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    assert (VERSION, digest) == (3, "14534fb2cbc30fab")
