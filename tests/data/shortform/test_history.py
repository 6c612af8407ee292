import numpy as np
import pytest

from coefvq.data.shortform import history

DRAWS = 1500


@pytest.fixture(scope="module")
def audience():
    """Means over many clips of one quality."""

    def means(distance=0.0, sound_distance=0.0, mismatch=False):
        rng = np.random.default_rng(0)
        rows = [
            history.simulate(
                rng, distance=distance, sound_distance=sound_distance, mismatch=mismatch
            )
            for _ in range(DRAWS)
        ]
        return {name: np.array([row[name] for row in rows]) for name in history.NAMES}

    return means


def test_a_row_has_every_feature_in_range(audience):
    rows = audience(2.0, 5.0, True)
    assert tuple(rows) == history.NAMES
    assert rows["views"].min() >= 5 and np.all(rows["views"] % 1 == 0)
    for name in history.NAMES[1:]:
        assert rows[name].min() >= 0 and rows[name].max() <= 1
        counts = rows[name] * rows["views"]
        assert np.allclose(counts, np.round(counts)), "shares of whole viewers"


def test_views_are_few_with_a_median_of_40(audience):
    assert abs(np.median(audience()["views"]) - 40) < 4


@pytest.mark.parametrize(
    ("change", "rises", "falls", "same"),
    [
        ({"distance": 4.0}, ["report_rate"], ["completion_rate"], ["mute_rate", "misleading_rate"]),
        ({"sound_distance": 15.0}, ["mute_rate"], ["completion_rate"], ["report_rate"]),
        ({"mismatch": True}, ["misleading_rate"], ["completion_rate"], ["mute_rate"]),
    ],
)
def test_the_audience_follows_quality(audience, change, rises, falls, same):
    fine, bad = audience(), audience(**change)

    def step(name):
        error = np.sqrt((fine[name].var() + bad[name].var()) / DRAWS)
        return (bad[name].mean() - fine[name].mean()) / error

    assert all(step(name) > 8 for name in rises)
    assert all(step(name) < -8 for name in falls)
    assert all(abs(step(name)) < 4.5 for name in [*same, "views"])


def test_it_follows_its_generator():
    kwargs = {"distance": 1.0, "sound_distance": 1.0, "mismatch": False}
    once, again, other = (history.simulate(np.random.default_rng(s), **kwargs) for s in (3, 3, 4))
    assert once == again != other
