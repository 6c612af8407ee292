import dataclasses

import numpy as np
import pytest

from coefvq.data.shortform import codec, degrade
from coefvq.data.shortform.measures import si_sdr
from coefvq.data.shortform.sound import RATE, make_sound

NONE = degrade.Doses(0.0, 0.0, 0.0, 0.0, 20.0, 0.0, 0.0, 0.0)


def dose(**doses):
    return dataclasses.replace(NONE, **doses)


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(0)
    return [degrade.draw_doses(rng) for _ in range(4000)]


@pytest.mark.parametrize("name", [*degrade.ARTEFACTS, "clipping", "hiss", "dropouts"])
def test_doses_have_their_share_and_range(name, drawn, within):
    values = np.array([getattr(doses, name) for doses in drawn])
    there = values[values > 0]
    assert within(len(there), len(values), degrade.SHARE.get(name, 0.08))
    assert there.min() >= 0.05 and there.max() <= 1.0
    assert abs(there.mean() - 0.525) < 4.5 * 0.275 / np.sqrt(len(there))


def test_degradations_occur_together_as_independent_ones_do(drawn, within):
    both = sum(doses.blur > 0 and doses.freeze > 0 for doses in drawn)
    assert within(both, len(drawn), degrade.SHARE["blur"] * degrade.SHARE["freeze"])


def test_crf_says_whether_a_clip_is_compressed_hard(drawn):
    for doses in drawn:
        if doses.compression:
            assert doses.crf == pytest.approx(32 + 18 * doses.compression)
        else:
            assert 18 <= doses.crf <= 26


def test_doses_become_plain_numbers():
    doses = degrade.draw_doses(np.random.default_rng(5))
    row = doses.to_dict()
    assert row["dose_blur"] == doses.blur and row["dose_crf"] == doses.crf
    assert all(key.startswith("dose_") for key in row) and len(row) == 8
    assert doses == degrade.draw_doses(np.random.default_rng(5))


def test_filters_follow_the_doses():
    assert degrade.picture_filters(NONE, 1) == []
    chain = degrade.picture_filters(dose(blur=0.5, noise=0.5), 7)
    assert chain == [("gblur", "sigma=1.800"), ("noise", "alls=23:allf=t:all_seed=7")]


def test_filtered_pictures_are_blurred_and_noisy(picture_of):
    picture = picture_of("testsrc2")

    def filtered(**doses):
        pair = codec.render(picture, degrade.picture_filters(dose(**doses), 3))
        return [frames[:, :128].astype(float) for frames in pair]

    clean, blurred = filtered(blur=1.0)
    assert np.abs(np.diff(blurred, axis=2)).mean() < 0.6 * np.abs(np.diff(clean, axis=2)).mean()
    clean, noisy = filtered(noise=1.0)
    error = noisy - clean
    assert error.std() > 5 and np.corrcoef(error[0].ravel(), error[1].ravel())[0, 1] < 0.3
    assert np.array_equal(noisy, filtered(noise=1.0)[1]), "noise has a seed"


@pytest.mark.parametrize("amount", [0.05, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_freeze_is_one_run_of_repeats(amount, seed):
    shown = degrade.frozen(np.random.default_rng(seed), 24, amount)
    repeats = np.flatnonzero(np.diff(shown) == 0) + 1
    assert len(repeats) == round(24 * (0.2 + 0.6 * amount))
    assert np.array_equal(np.diff(repeats), np.ones(len(repeats) - 1))
    others = np.setdiff1d(np.arange(24), repeats)
    assert shown[0] == 0 and np.array_equal(shown[others], others)


def test_without_a_freeze_every_frame_is_shown():
    assert np.array_equal(degrade.frozen(np.random.default_rng(0), 24, 0.0), np.arange(24))


@pytest.fixture(scope="module")
def wave():
    return make_sound(np.random.default_rng(1))


class TestSound:
    def degraded(self, wave, seed=0, **doses):
        return degrade.degrade_sound(np.random.default_rng(seed), wave, RATE, dose(**doses))

    def test_nothing_is_done_without_a_dose(self, wave):
        out = self.degraded(wave)
        assert np.array_equal(out, wave) and out.dtype == np.float32 and out is not wave

    def test_clipping_cuts_at_its_level(self, wave):
        peak = np.abs(wave).max()
        out = self.degraded(wave, clipping=1.0)
        # Cut at 0.03 of the peak, then brought back to half of it.
        assert np.abs(out).max() == pytest.approx(0.5 * peak, rel=1e-5)
        cut = np.abs(wave) > 0.03 * peak
        assert np.allclose(np.abs(out[cut]), 0.5 * peak, rtol=1e-5)
        assert np.allclose(out[~cut], wave[~cut] * 0.5 / 0.03, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("amount", [0.2, 0.6, 1.0])
    def test_hiss_has_its_level(self, wave, amount):
        noise = (self.degraded(wave, hiss=amount) - wave).astype(float)
        quiet = np.abs(wave) < 0.2  # where the sum is not cut at 1
        ratio = 10 * np.log10(np.mean(wave.astype(float) ** 2) / np.mean(noise[quiet] ** 2))
        assert ratio == pytest.approx(25 - 25 * amount, abs=0.7)

    @pytest.mark.parametrize("amount", [0.05, 1.0])
    def test_dropouts_silence_their_share(self, amount):
        wave = np.full(2 * RATE, 0.5, np.float32)
        shares = [(self.degraded(wave, seed, dropouts=amount) == 0).mean() for seed in range(60)]
        wanted = 0.1 + 0.4 * amount
        # The last hole goes over it by half of itself, and holes overlap.
        assert max(shares) <= wanted + 0.075
        assert 0.7 * wanted < np.mean(shares) < wanted + 0.05

    @pytest.mark.parametrize("kind", ["clipping", "hiss", "dropouts"])
    def test_more_is_worse(self, wave, kind):
        ratios = [si_sdr(wave, self.degraded(wave, **{kind: amount})) for amount in (0.1, 0.9)]
        assert 40 > ratios[0] > ratios[1] + 1

    def test_it_stays_in_range_and_follows_its_generator(self, wave):
        doses = {"clipping": 0.5, "hiss": 1.0, "dropouts": 0.5}
        out = self.degraded(wave / np.abs(wave).max(), **doses)
        assert np.abs(out).max() <= 1
        assert np.array_equal(out, self.degraded(wave / np.abs(wave).max(), **doses))
        assert not np.array_equal(out, self.degraded(wave / np.abs(wave).max(), 1, **doses))
