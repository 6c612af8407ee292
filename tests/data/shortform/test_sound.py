import numpy as np
import pytest

from coefvq.data.shortform.sound import RATE, make_sound

CHORD, SYLLABLES, NOISE, LEAD = range(4)


def of_kind(kind, number=0):
    """Waveforms of one kind: the kind is what a generator draws first."""
    seeds = (s for s in range(10_000) if np.random.default_rng(s).integers(4) == kind)
    for _ in range(number):
        next(seeds)
    return make_sound(np.random.default_rng(next(seeds)))


@pytest.mark.parametrize("seed", range(12))
def test_a_waveform_is_two_seconds_with_head_room(seed):
    wave = make_sound(np.random.default_rng(seed))
    assert wave.shape == (2 * RATE,) and wave.dtype == np.float32
    assert 0.3 <= np.abs(wave).max() <= 0.8
    assert wave.std() > 0.01 and abs(wave.mean()) < 0.1


def test_its_length_follows_the_seconds():
    assert make_sound(np.random.default_rng(0), seconds=0.5).shape == (RATE // 2,)


def test_equal_generators_make_equal_sounds():
    a, b, c = (make_sound(np.random.default_rng(s)) for s in (3, 3, 4))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


@pytest.mark.parametrize("number", range(3))
def test_a_chord_has_four_notes(number):
    power = np.abs(np.fft.rfft(of_kind(CHORD, number))) ** 2
    # Two seconds: half a hertz per bin; tremolo of 0.5 to 4 Hz spreads a note over a few.
    notes = np.sort(power)[::-1][:80].sum()
    assert notes > 0.9 * power.sum()


@pytest.mark.parametrize("number", range(3))
def test_syllables_have_pauses(number):
    wave = of_kind(SYLLABLES, number)
    loudness = np.sqrt((wave.reshape(-1, 320) ** 2).mean(1))
    assert loudness.min() < 0.01 * loudness.max()


@pytest.mark.parametrize("number", range(3))
def test_noise_falls_with_frequency(number):
    power = np.abs(np.fft.rfft(of_kind(NOISE, number))) ** 2
    bands = [power[low : 2 * low].mean() for low in (200, 800, 3200)]
    assert bands[0] > bands[1] > bands[2]


def test_a_lead_is_rougher_than_a_chord():
    def flatness(wave):
        return np.abs(wave).mean() / np.abs(wave).max()

    assert np.mean([flatness(of_kind(LEAD, n)) for n in range(5)]) > 1.5 * np.mean(
        [flatness(of_kind(CHORD, n)) for n in range(5)]
    )
