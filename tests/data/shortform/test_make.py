from pathlib import Path

import numpy as np
import pytest

from coefvq.data.shortform import codec, degrade, history, make, measures
from coefvq.data.shortform.data import Shortform
from coefvq.data.shortform.sources import KINDS, SAME_PICTURES

FEATURES = (*make.REFERENCE, *make.ENCODER, *history.NAMES)


def same(one, other):
    """Rows are equal; sums may differ in their last digit between machines."""
    assert list(one) == list(other)
    for name, value in one.items():
        if isinstance(value, float):
            assert value == pytest.approx(other[name], rel=1e-6, abs=1e-9, nan_ok=True), name
        else:
            assert value == other[name], name


def test_a_row_says_everything_about_its_clip(tmp_path):
    row = make.make_clip(tmp_path, 0, 5)
    doses = {f"dose_{name}" for name in degrade.Doses.__dataclass_fields__}
    own = {"index", "kind", "title", "mismatch", "distance", "sound_distance"}
    assert set(row) == own | doses | set(FEATURES)
    assert row["index"] == 5 and row["kind"] in KINDS and isinstance(row["mismatch"], bool)
    assert [path.name for path in tmp_path.iterdir()] == [make.clip_name(5)] == ["000005.mp4"]


@pytest.mark.parametrize("index", [0, 7])
def test_a_clip_follows_from_seed_and_index(tmp_path, index):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    make.make_clip(tmp_path / "b", 3, index + 1)  # what was made before does not matter
    same(make.make_clip(tmp_path / "a", 3, index), make.make_clip(tmp_path / "b", 3, index))
    one, other = (
        codec.read_back(tmp_path / name / make.clip_name(index))[0].astype(int) for name in "ab"
    )
    assert np.abs(one - other).mean() < 0.5, "x264 may differ a little"


def test_another_seed_or_index_is_another_clip(tmp_path):
    rows = [make.make_clip(tmp_path, seed, index) for seed, index in ((0, 1), (1, 0), (0, 2))]
    assert len({row["distance"] for row in rows}) == 3


def test_measures_are_those_of_the_file(table, clip_path):
    for i in range(4):
        _, _, features = codec.read_back(clip_path(i))
        for name, value in features.items():
            assert value == pytest.approx(table[name][i])


def test_values_are_in_range(table):
    assert table["distance"].min() >= 0 and table["sound_distance"].min() >= 0
    assert table["psnr_mean"].dropna().between(0, 60).all()
    assert table["ssim_mean"].dropna().between(-1, 1).all()
    assert (table["psnr_min"].dropna() <= table["psnr_mean"].dropna()).all()
    assert (table["ssim_min"].dropna() <= table["ssim_mean"].dropna()).all()
    assert table["si_sdr"].dropna().between(-30, 40).all()
    assert table[list(make.ENCODER)].notna().all().all()


def test_clean_clips_are_near_and_spoilt_ones_far(table):
    doses = table[[f"dose_{name}" for name in degrade.ARTEFACTS]]
    clean, spoilt = doses.max(axis=1) == 0, doses.max(axis=1) > 0.5
    assert clean.sum() > 3 and spoilt.sum() > 3
    assert table["distance"][clean].median() < table["distance"][spoilt].median() / 3


@pytest.fixture(scope="module")
def many():
    """Rows of 1 200 clips whose pictures and files are stand-ins: what is drawn is drawn alike."""
    still = np.zeros((24, 192, 128), np.uint8)
    encoder = dict.fromkeys(make.ENCODER, 1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make, "render", lambda picture, filters: (still, still))
        patch.setattr(make, "write_clip", lambda *args, **kwargs: None)
        patch.setattr(make, "read_back", lambda path: (still[:1, :128], np.zeros(32_000), encoder))
        patch.setattr(make.sources, "SIZE", 8)  # cuts the stand-ins, so that measuring is quick
        patch.setattr(make.sound, "make_sound", lambda rng: np.zeros(600, np.float32))
        for name, value in (("psnr", np.zeros(1)), ("ssim", np.zeros(1))):
            patch.setattr(measures, name, lambda *_, value=value: value)
        for name in ("perceptual_distance", "log_spectral_distance", "si_sdr", "segmental_snr"):
            patch.setattr(measures, name, lambda *_: 0.0)
        return [make.make_clip(Path("unused"), 0, i) for i in range(1200)]


def test_shares_are_as_stated(many, within):
    n = len(many)
    assert within(sum(row["mismatch"] for row in many), n, make.MISMATCH_SHARE)
    lost = {
        "psnr_mean": make.MISSING_REFERENCE, "views": make.MISSING_HISTORY,
    }  # fmt: skip
    gone = {name: [bool(np.isnan(row[name])) for row in many] for name in lost}
    for name, share in lost.items():
        assert within(sum(gone[name]), n, share)
    both = sum(a and b for a, b in zip(*gone.values(), strict=True))
    assert within(both, n, make.MISSING_REFERENCE * make.MISSING_HISTORY), "independent"


def test_what_is_missing_is_missing_as_a_group(many):
    for row in many:
        for group in (make.REFERENCE, history.NAMES):
            assert len({bool(np.isnan(row[name])) for name in group}) == 1
        assert not any(np.isnan(row[name]) for name in make.ENCODER)


def test_a_pool_grows_until_enough_clips_have_a_content_of_their_own(tmp_path):
    assert make.pool_for(41, 0, seed=0) == 41
    needed = make.pool_for(41, 40, seed=0)
    last = make.make_clip(tmp_path, 0, needed - 1)
    assert needed > 41 and last["kind"] not in SAME_PICTURES
    assert Shortform("degraded", labelled=1, unlabelled=0, val=20, test=20).pool == 41
    scores = {"task": "quality", "labelled": 1, "unlabelled": 0, "val": 20, "test": 20}
    assert Shortform(**scores).pool == needed
    with pytest.raises(ValueError, match=r"data\.pool=41 has fewer than the 40 clips of their own"):
        Shortform(**scores, pool=41)
