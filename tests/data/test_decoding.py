import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from coefvq.data import decoding, frame_cache
from coefvq.data.decoding import fill_cache, read_ahead
from coefvq.data.frame_cache import FrameCache, clip_key
from coefvq.data.media import UnreadableClip
from coefvq.data.reader import read_file
from coefvq.types import Clip, InputSpec

INPUTS = InputSpec(num_frames=2, frame_size=16, audio_seconds=0.5, mel_bins=8)


@pytest.fixture
def clips(clip_files):
    return [Clip(path.stem, path) for path in sorted(clip_files.glob("clip*.mp4"))]


@pytest.fixture
def cache(tmp_path):
    return FrameCache(INPUTS, "uniform", tmp_path)


def damaged(folder, count):
    made = []
    for number in range(count):
        path = folder / f"bad{number}.mp4"
        path.write_bytes(b"no video")
        made.append(Clip(f"bad{number}", path))
    return made


def check(cache, clips):
    batch = cache.gather([clip_key(clip.path) for clip in clips])
    for row, clip in enumerate(clips):
        expected = read_file(clip.path, INPUTS, "uniform")
        for field, value in expected._asdict().items():
            if field == "motion":  # not asked for, so not kept
                assert field not in batch and not value.size
                continue
            assert np.array_equal(batch[field][row], value)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_cache_holds_what_reading_gives_to_the_bit(workers, cache, clips):
    assert fill_cache(cache, clips, INPUTS, "uniform", workers=workers) == []
    assert len(cache) == 12
    check(cache, clips)


def test_only_what_is_missing_is_decoded(cache, clips, monkeypatch):
    fill_cache(cache, clips[:5], INPUTS, "uniform")
    asked = []
    original = decoding.open_clip
    monkeypatch.setattr(
        decoding,
        "open_clip",
        lambda path, *rest: asked.append(Path(path).stem) or original(path, *rest),
    )
    fill_cache(cache, clips, INPUTS, "uniform")
    assert asked == [clip.id for clip in clips[5:]]
    fill_cache(cache, clips, INPUTS, "uniform")
    assert len(asked) == 7


def test_an_interrupted_run_goes_on_from_its_last_shard(cache, clips, tmp_path, monkeypatch):
    monkeypatch.setattr(frame_cache, "SHARD_CLIPS", 4)
    original, count = decoding.open_clip, 0

    def interrupted(path, *rest):
        nonlocal count
        count += 1
        if count == 11:
            raise SystemExit
        return original(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "open_clip", interrupted)
        # SIGKILL gives no chance to write what is there; neither does this.
        patch.setattr(
            FrameCache,
            "append",
            lambda self, rows, a=FrameCache.append: a(self, rows) if len(rows) == 4 else None,
        )
        with pytest.raises(SystemExit):
            fill_cache(cache, clips, INPUTS, "uniform")
    again = FrameCache(INPUTS, "uniform", tmp_path)
    assert len(again) == 8
    fill_cache(again, clips, INPUTS, "uniform")
    check(again, clips)


def test_bad_clips_are_all_listed(cache, clips, tmp_path):
    bad = [*damaged(tmp_path, 2), Clip("gone", tmp_path / "gone.mp4")]
    mixed = [bad[0], *clips[:3], *bad[1:]]
    with pytest.raises(UnreadableClip) as caught:
        fill_cache(cache, mixed, INPUTS, "uniform")
    lines = str(caught.value).splitlines()
    assert lines[0] == (
        "3 of 6 clips cannot be read; repair or remove them, or set data.on_bad_clip=skip:"
    )
    assert [line.split()[0] for line in lines[1:]] == ["bad0", "bad1", "gone"]
    assert "no media file that can be opened" in lines[1] and "no such file" in lines[3]
    skipped = fill_cache(cache, mixed, INPUTS, "uniform", on_bad_clip="skip")
    assert [clip.id for clip in skipped] == ["bad0", "bad1", "gone"]
    check(cache, clips[:3])


def test_hopeless_data_sets_end_early(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "BAD_SHOWN", 4)
    with pytest.raises(UnreadableClip, match=r"^4 of 30 clips cannot be read"):
        fill_cache(cache, damaged(tmp_path, 30), INPUTS, "uniform")
    assert (
        len(fill_cache(cache, damaged(tmp_path, 30), INPUTS, "uniform", on_bad_clip="skip")) == 30
    )


def test_two_clips_of_one_file(cache, clips, tmp_path):
    bad = damaged(tmp_path, 1)[0]
    twice = [clips[0], Clip("again", clips[0].path), bad, Clip("bad again", bad.path)]
    skipped = fill_cache(cache, twice, INPUTS, "uniform", on_bad_clip="skip")
    assert [clip.id for clip in skipped] == ["bad0", "bad again"]
    assert len(cache) == 1


def test_a_broken_pool_is_replaced_by_this_process(cache, clips, monkeypatch, caplog):
    from concurrent.futures.process import BrokenProcessPool

    def breaks(jobs, *_):
        yield from decoding.decode_files(jobs[:3], INPUTS, "uniform")
        raise BrokenProcessPool("a worker died")

    monkeypatch.setattr(decoding, "_decode_in_pool", breaks)
    with caplog.at_level(logging.WARNING):
        fill_cache(cache, clips, INPUTS, "uniform", workers=2)
    assert "worker processes for decoding are not available (a worker died)" in caplog.text
    check(cache, clips)


@pytest.mark.slow
def test_a_script_needs_no_main_guard(clip_files, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from coefvq.data.decoding import fill_cache\n"
        "from coefvq.data.frame_cache import FrameCache\n"
        "from coefvq.types import Clip, InputSpec\n"
        "print('main runs')\n"
        "inputs = InputSpec(num_frames=1, frame_size=8, audio=False)\n"
        f"clips = [Clip(p.stem, p) for p in Path({str(clip_files)!r}).glob('*.mp4')]\n"
        f"cache = FrameCache(inputs, 'uniform', {str(tmp_path)!r})\n"
        "fill_cache(cache, clips, inputs, 'uniform', workers=2)\n"
        "print(len(cache), Path(__file__).name)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout.count("main runs") == 1
    assert done.stdout.strip().endswith("12 script.py")
    assert done.stderr == ""


def test_without_a_cache_only_missing_files_are_known(clips, tmp_path):
    gone = Clip("gone", tmp_path / "gone.mp4")
    assert read_ahead(None, [*clips, *damaged(tmp_path, 1)], INPUTS, "uniform") == []
    with pytest.raises(UnreadableClip, match="1 of 13 clips cannot be read"):
        read_ahead(None, [*clips, gone], INPUTS, "uniform")
    found = read_ahead(None, [*clips, gone], INPUTS, "uniform", on_bad_clip="skip")
    assert [clip.id for clip in found] == ["gone"]
