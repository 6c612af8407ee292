import numpy as np

from coefvq.data.pairs.tune import make_tune


def tune(seed, seconds=2.0):
    return make_tune(np.random.default_rng(seed), seconds, 16_000)


def test_length_peak_and_seed():
    for seed in range(20):
        wave = tune(seed)
        assert wave.shape == (32_000,) and wave.dtype == np.float32
        assert 0.3 <= np.abs(wave).max() <= 0.8001
    assert np.array_equal(tune(3), tune(3)) and not np.array_equal(tune(3), tune(4))
    assert len(tune(0, 0.33)) == 5280


def test_tunes_and_their_halves_differ():
    """No two of twenty halves of ten tunes have the same loudest frequency."""
    halves = [half for seed in range(10) for half in np.split(tune(seed), 2)]
    loudest = [int(np.abs(np.fft.rfft(half)).argmax()) for half in halves]  # in Hz
    assert len(set(loudest)) >= 18
