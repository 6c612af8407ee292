import math

import numpy as np
import pytest

from coefvq.data.shortform import codec, degrade, measures
from coefvq.data.shortform.sound import RATE, make_sound


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (2, 16, 24)).astype(np.float32)


@pytest.fixture(scope="module")
def shown(frames):
    noise = np.random.default_rng(1).normal(0, 20, frames.shape)
    return np.clip(frames + noise, 0, 255).astype(np.float32)


def test_psnr_of_a_constant_offset():
    reference = np.full((2, 8, 8), 100.0)
    off = reference + np.array([5.0, 51.0])[:, None, None]
    expected = [20 * math.log10(255 / 5), 20 * math.log10(5)]
    assert measures.psnr(reference, off) == pytest.approx(expected)


def test_psnr_of_equal_frames_is_its_ceiling(frames):
    assert measures.psnr(frames, frames).tolist() == [60.0, 60.0]


def slow_ssim(a, b, window=8):
    values = []
    for y in range(0, a.shape[0], window):
        for x in range(0, a.shape[1], window):
            p = [float(a[j, i]) for j in range(y, y + window) for i in range(x, x + window)]
            q = [float(b[j, i]) for j in range(y, y + window) for i in range(x, x + window)]
            n = len(p)
            mp, mq = sum(p) / n, sum(q) / n
            vp, vq = sum((v - mp) ** 2 for v in p) / n, sum((v - mq) ** 2 for v in q) / n
            cov = sum((v - mp) * (w - mq) for v, w in zip(p, q, strict=True)) / n
            c1, c2 = 2.55**2, 7.65**2
            luminance = (2 * mp * mq + c1) / (mp**2 + mq**2 + c1)
            values.append(luminance * (2 * cov + c2) / (vp + vq + c2))
    return sum(values) / len(values)


def test_ssim_against_plain_loops(frames, shown):
    expected = [slow_ssim(a, b) for a, b in zip(frames, shown, strict=True)]
    assert measures.ssim(frames, shown) == pytest.approx(expected, abs=1e-4)


def test_ssim_of_equal_and_of_inverted_frames(frames):
    assert measures.ssim(frames, frames) == pytest.approx(1.0, abs=1e-5)
    assert (measures.ssim(frames, 255 - frames) < 0).all()


def slow_gradient_loss(a, b):
    def halved(x):
        return [
            [float(x[2 * j : 2 * j + 2, 2 * i : 2 * i + 2].astype(float).mean())
             for i in range(x.shape[1] // 2)]
            for j in range(x.shape[0] // 2)
        ]  # fmt: skip

    def magnitude(x, j, i):
        gx = sum(x[j + d][i + 1] - x[j + d][i - 1] for d in (-1, 0, 1)) / 3
        gy = sum(x[j + 1][i + d] - x[j - 1][i + d] for d in (-1, 0, 1)) / 3
        return math.hypot(gx, gy)

    p, q = halved(a), halved(b)
    loss = []
    for j in range(1, len(p) - 1):
        for i in range(1, len(p[0]) - 1):
            u, v = magnitude(p, j, i), magnitude(q, j, i)
            loss.append(1 - (2 * u * v + 170) / (u * u + v * v + 170))
    mean = sum(loss) / len(loss)
    return math.sqrt(sum((x - mean) ** 2 for x in loss) / len(loss)), mean


def test_gradient_similarity_against_plain_loops(frames, shown):
    deviation, mean = measures.gradient_similarity(frames, shown)
    for k in range(len(frames)):
        assert (deviation[k], mean[k]) == pytest.approx(
            slow_gradient_loss(frames[k], shown[k]), abs=1e-4
        )


def test_gradients_do_not_see_brightness(frames):
    deviation, mean = measures.gradient_similarity(frames, frames + 30)
    assert deviation == pytest.approx(0, abs=1e-4) and mean == pytest.approx(0, abs=1e-4)


class TestFreeze:
    def test_is_the_motion_missed_per_frame(self):
        reference = np.zeros((4, 2, 2)) + np.array([0.0, 5, 25, 125])[:, None, None]
        # Frames 1 and 2 repeat frame 0: motion of 5 and of 20 levels, the latter at the ceiling.
        shown = np.array([0, 0, 0, 3])
        assert measures.visible_freeze(reference, shown) == pytest.approx((0.25 + 1.0) / 4)

    def test_is_nothing_without_repeats_or_without_motion(self):
        reference = np.random.default_rng(0).random((4, 2, 2)) * 255
        assert measures.visible_freeze(reference, np.arange(4)) == 0
        still = np.repeat(reference[:1], 4, axis=0)
        assert measures.visible_freeze(still, np.array([0, 0, 0, 0])) == 0


class TestDistance:
    def distance(self, reference, shown, index=None):
        a, b = (x[:, :128].astype(np.float32) for x in (reference, shown))
        return measures.perceptual_distance(a, b, np.arange(24) if index is None else index)

    def test_of_a_clip_to_itself_is_zero(self, moving):
        assert self.distance(moving, moving) == pytest.approx(0, abs=1e-5)

    @pytest.mark.parametrize("name", ["blur", "noise"])
    @pytest.mark.parametrize("kind", ["mandelbrot", "testsrc2", "sierpinski"])
    def test_grows_with_the_dose(self, name, kind, picture_of):
        found = []
        for amount in (0.05, 0.35, 0.7, 1.0):
            doses = degrade.Doses(0.0, 0.0, 0.0, 0.0, 20.0, 0.0, 0.0, 0.0)
            object.__setattr__(doses, name, amount)
            pair = codec.render(picture_of(kind), degrade.picture_filters(doses, 1))
            found.append(self.distance(*pair))
        assert found == sorted(found) and found[0] > 0 and found[-1] > found[0] + 0.5

    def test_grows_with_compression(self, moving, tmp_path):
        found = []
        for crf in (18, 26, 34, 42, 50):
            path = tmp_path / f"{crf}.mp4"
            codec.write_clip(path, moving, np.zeros(2 * RATE, np.float32), RATE, crf=crf, title="")
            found.append(self.distance(moving, codec.read_back(path)[0]))
        assert found == sorted(found) and found[-1] > found[0] + 0.5

    def test_grows_with_a_freeze(self, moving):
        found = []
        for amount in (0.0, 0.3, 0.6, 1.0):
            index = degrade.frozen(np.random.default_rng(0), 24, amount)
            found.append(self.distance(moving, moving[index], index))
        assert found == sorted(found) and found[-1] > found[0] + 0.5


@pytest.fixture(scope="module")
def wave():
    return make_sound(np.random.default_rng(3)).astype(float)


class TestSound:
    def test_si_sdr_does_not_see_scale_or_offset(self, wave):
        assert measures.si_sdr(wave, 0.3 * wave) == 40
        assert measures.si_sdr(wave, 2 * wave + 0.1) == 40

    @pytest.mark.parametrize("ratio", [0.0, 10.0, 25.0])
    def test_si_sdr_of_known_noise(self, wave, ratio):
        wave = wave - wave.mean()
        noise = np.random.default_rng(0).normal(size=len(wave))
        noise -= noise.mean()
        noise -= (noise @ wave) / (wave @ wave) * wave  # orthogonal, so that the ratio is exact
        noise *= np.sqrt((wave @ wave) / (noise @ noise)) * 10 ** (-ratio / 20)
        assert measures.si_sdr(wave, wave + noise) == pytest.approx(ratio, abs=1e-6)

    def test_si_sdr_has_a_floor(self, wave):
        unrelated = np.random.default_rng(1).normal(size=len(wave))
        assert -30 <= measures.si_sdr(wave, unrelated) < -10
        assert measures.si_sdr(np.zeros(100), np.ones(100)) == -30
        assert measures.si_sdr(wave, np.zeros(len(wave))) <= 0

    def test_si_sdr_takes_the_common_length(self, wave):
        assert measures.si_sdr(wave, np.concatenate([wave, np.ones(500)])) == 40

    def test_segmental_snr_averages_decibels_and_leaves_pauses_out(self):
        sound = np.ones(4 * 512)
        sound[3 * 512 :] = 0.0  # a pause: whatever is heard there does not count
        heard = sound.copy()
        heard[:512] += 0.1  # 20 dB
        heard[512:1024] += 1.0  # 0 dB
        heard[3 * 512 :] += 1.0
        # The third segment is perfect, which counts as 35 dB.
        assert measures.segmental_snr(sound, heard) == pytest.approx((20 + 0 + 35) / 3)

    def test_segmental_snr_has_a_floor_and_takes_the_common_length(self, wave):
        assert measures.segmental_snr(np.zeros(1024), np.ones(1024)) == -10
        assert measures.segmental_snr(wave, -100 * wave) == -10
        assert measures.segmental_snr(wave, np.concatenate([wave, np.ones(500)])) == 35

    def test_spectral_distance_of_a_waveform_to_itself_is_zero(self, wave):
        assert measures.log_spectral_distance(wave, wave) == 0
        longer = np.concatenate([wave, np.ones(700)])
        assert measures.log_spectral_distance(wave, longer) == 0

    def test_spectral_distance_of_a_louder_copy_is_its_gain(self):
        # White noise is far above the floor everywhere, so 6 dB stay 6 dB.
        noise = np.random.default_rng(0).normal(size=RATE)
        assert measures.log_spectral_distance(noise, 2 * noise) == pytest.approx(6.02, abs=0.05)

    def test_spectral_distance_against_plain_loops(self, wave):
        heard = wave + np.random.default_rng(2).normal(0, 0.02, len(wave))
        window = [0.5 - 0.5 * math.cos(2 * math.pi * k / 511) for k in range(512)]

        def spectra(x):
            starts = range(0, len(x) - 511, 256)
            return [np.abs(np.fft.fft(x[s : s + 512] * window)[:257]) ** 2 for s in starts]

        a, b = spectra(wave), spectra(heard)
        floor = max(x.max() for x in a) * 1e-5
        rows = [
            math.sqrt(np.mean([(10 * math.log10((p + floor) / (q + floor))) ** 2
                               for p, q in zip(u, v, strict=True)]))
            for u, v in zip(a, b, strict=True)
        ]  # fmt: skip
        expected = sum(rows) / len(rows)
        assert measures.log_spectral_distance(wave, heard) == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize("level", [0.01, 0.1])
    def test_spectral_distance_grows_with_noise(self, wave, level):
        noise = np.random.default_rng(2).normal(size=len(wave))
        less, more = (
            measures.log_spectral_distance(wave, wave + factor * level * noise) for factor in (1, 3)
        )
        assert more > less > 0
