import numpy as np
import pytest

from coefvq.data.pairs.copies import GAP, Original, plan_copies, write_copies
from coefvq.data.pairs.drawing import File, overlap
from coefvq.data.pairs.plan import NothingApplies


def clip(name, path="x.mp4", **options):
    file = File(name, str(path), name, original=True, title="a b c", heard=name)
    return Original(file, path, name, **options)


def planned(seed, **options):
    donors = options.pop("donors", [clip("d1"), clip("d2")])
    original = clip("s", seconds=options.pop("seconds", 4.0))
    return plan_copies(original, donors, np.random.default_rng(seed), **options)


def test_equal_generators_plan_equal_copies():
    assert planned(1) == planned(1) != planned(2)
    assert [copy.file.id for copy in planned(1)] == ["s-copy0", "s-copy1", "s-copy2"]


def test_disjoint_parts():
    for seed in range(30):
        *_, first, second = planned(seed, segment_share=1.0)
        assert overlap(first.file, second.file) == 0
        assert second.file.start - first.file.end == pytest.approx(GAP, abs=1e-3)
        assert (first.file.start, second.file.end) == (0.0, 1.0)
    share = np.mean([overlap(*(c.file for c in planned(s)[1:])) == 0 for s in range(200)])
    assert 0.4 < share < 0.65  # 0.5, and a few by chance


def test_short_clips_have_no_parts():
    for seed in range(30):
        some = planned(seed, segment_share=1.0, seconds=1.0, among=["trim"])
        assert overlap(some[1].file, some[2].file) != 0 or some[1].file.start > 0


def test_what_is_taken_from_a_donor_is_written_down():
    seen = set()
    for seed in range(100):
        for copy in planned(seed):
            how, file = set(copy.file.how), copy.file
            assert (copy.donor is not None) == bool(how & {"splice", "audio_replaced"})
            assert bool(file.inserted) == ("splice" in how)
            if "audio_replaced" in how:
                assert file.heard in ("d1", "d2")
            else:
                assert file.heard == ("" if "audio_removed" in how else "s")
            assert (file.title != "a b c") == ("title" in how)
            seen |= how
    assert {"splice", "audio_replaced", "audio_removed", "title"} <= seen


def test_alone_nothing_is_taken():
    copies = [copy for seed in range(50) for copy in planned(seed, donors=[])]
    assert not any(set(copy.file.how) & {"splice", "audio_replaced"} for copy in copies)


@pytest.mark.parametrize("sound", [True, False])
def test_a_donor_has_sound_where_the_copy_needs_it(sound):
    """The one that is drawn first may be silent; another one is not."""
    donors = [clip(f"d{n}", f"{n}.mp4", sound=n == 3) for n in range(6)]
    seen = set()
    for seed in range(40):
        for copy in plan_copies(clip("s", sound=sound), donors, np.random.default_rng(seed), most=1,
                                segment_share=0, among=["splice", "audio_replaced"]):  # fmt: skip
            if copy.plan.how == ("audio_replaced",):
                assert copy.file.heard == "d3" and str(copy.donor) == "3.mp4"
            else:
                seen.add(copy.file.inserted)
    assert seen == ({"d3"} if sound else {f"d{n}" for n in range(6)})


def test_a_clip_is_spliced_into_a_silent_one_where_all_are():
    silent = [clip("d", sound=False)]
    (copy,) = planned(0, donors=silent, copies=1, most=1, among=["splice", "audio_replaced"])
    assert copy.plan.how == ("splice",) and (copy.file.inserted, copy.file.heard) == ("d", "s")
    with pytest.raises(NothingApplies, match="no other clip in its split has sound"):
        planned(0, donors=silent, copies=1, among=["audio_replaced"])


def test_copies_are_written_once(original, donor, tmp_path):
    file = File("s", str(original), "s", original=True, heard="s")
    source = Original(file, original, "s")
    other = clip("d", donor)
    plans = plan_copies(source, [other], np.random.default_rng(0), copies=2)
    done, bad = write_copies(plans, tmp_path)
    assert done == ["s-copy0", "s-copy1"] and bad == []
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == sorted(copy.file.path for copy in plans)
    first = tmp_path / plans[0].file.path
    first.write_bytes(b"kept")
    (tmp_path / plans[1].file.path).unlink()
    assert write_copies(plans, tmp_path) == (done, [])
    assert first.read_bytes() == b"kept" and (tmp_path / plans[1].file.path).stat().st_size > 1000


def test_what_cannot_be_read_is_named(tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    plans = plan_copies(clip("s", broken), [], np.random.default_rng(0), copies=1)
    done, (bad,) = write_copies(plans, tmp_path / "out")
    assert done == [] and bad.id == "s-copy0" and bad.path == broken
    assert "no media file" in bad.reason
