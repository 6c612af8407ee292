import numpy as np
import pandas
import pytest

from coefvq.data.shortform.degrade import ARTEFACTS
from coefvq.data.shortform.pool import Pool
from coefvq.data.shortform.tasks import NOISE, RATERS, TASKS, RaterNoise, make_labels, make_opinions

BINARY = ("degraded", "bad_sound", "title_mismatch")
# Scales at both sides of each cut; what lies on a cut is below it, but for `level`.
BY_HAND = pandas.DataFrame(
    {
        "distance": [0.0, 0.49, 0.5, 1.5, 1.51, 1.99, 2.0, 9.0],
        "sound_distance": [0.0, 6.4, 6.5, 6.6, 30.0, 0.0, 0.0, 6.51],
        "mismatch": [False, True, False, True, False, True, False, True],
        "dose_compression": [0.0, 0.25, 0.26, 1.0, 0.0, 0.0, 0.0, 0.5],
        "dose_blur": [0.0, 0.0, 0.0, 1.0, 0.3, 0.0, 0.0, 0.5],
        "dose_noise": [0.0, 0.0, 0.0, 0.0, 0.0, 0.3, 0.1, 0.5],
        "dose_freeze": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.3, 0.5],
    }
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def big(n=8000):
    """A table far from every cut, so that only flips change labels."""
    half = np.arange(n) % 2
    columns = {"distance": half * 8.0, "sound_distance": half * 40.0 - 16, "mismatch": half > 0}
    columns |= {f"dose_{name}": half * 5.0 - 2 for name in ARTEFACTS}
    return pandas.DataFrame(columns)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("degraded", [0, 0, 0, 0, 1, 1, 1, 1]),
        ("level", [0, 0, 1, 1, 1, 1, 2, 2]),
        ("bad_sound", [0, 0, 0, 1, 1, 0, 0, 1]),
        ("title_mismatch", [0, 1, 0, 1, 0, 1, 0, 1]),
    ],
)
def test_gold_labels_are_cut_where_stated(task, expected, rng):
    assert make_labels(BY_HAND, task, NOISE["none"], rng) == expected


def test_gold_artefacts_are_the_doses_that_can_be_seen(rng):
    labels = make_labels(BY_HAND, "artefacts", NOISE["none"], rng)
    assert labels == [
        (0, 0, 0, 0), (0, 0, 0, 0), (1, 0, 0, 0), (1, 1, 0, 0),
        (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (1, 1, 1, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_labels_have_the_type_of_their_task(task, rng):
    spec = TASKS[task]
    assert spec.name == task
    for noise in NOISE.values():
        for label in make_labels(BY_HAND, task, noise, rng):
            if spec.kind == "multilabel":
                assert isinstance(label, tuple) and len(label) == len(spec.classes)
                assert set(label) <= {0, 1} and {type(x) for x in label} == {int}
            elif spec.kind == "regression":
                assert type(label) is float and 1 <= label <= 5
            else:
                assert label in range(len(spec.classes))
                assert type(label) is (int if spec.kind == "multiclass" else float)


def test_the_six_tasks_differ_in_kind():
    kinds = {name: spec.kind for name, spec in TASKS.items()}
    assert kinds == dict.fromkeys(BINARY, "binary") | {
        "level": "multiclass", "artefacts": "multilabel", "quality": "regression",
    }  # fmt: skip
    assert TASKS["artefacts"].classes == ARTEFACTS


@pytest.mark.parametrize("name", ["normal", "heavy"])
@pytest.mark.parametrize("task", BINARY)
def test_flips_have_their_rate(task, name, rng, within):
    table = big()
    gold = np.array(make_labels(table, task, NOISE["none"], rng))
    noisy = np.array(make_labels(table, task, NOISE[name], rng))
    for value in (0, 1):
        there = gold == value
        assert within((noisy[there] != value).sum(), there.sum(), NOISE[name].flips)


def test_each_artefact_is_flipped_by_itself(rng, within):
    table = big()
    gold = np.array(make_labels(table, "artefacts", NOISE["none"], rng))
    noisy = np.array(make_labels(table, "artefacts", NOISE["normal"], rng))
    wrong = gold != noisy
    for column in wrong.T:
        assert within(column.sum(), len(table), 0.05)
    assert within((wrong[:, 0] & wrong[:, 1]).sum(), len(table), 0.05**2)


def test_a_level_flips_to_either_of_the_others(rng, within):
    table = pandas.DataFrame({"distance": np.repeat([-20.0, 1.25, 40.0], 3000)})
    gold = np.array(make_labels(table, "level", NOISE["none"], rng))
    noisy = np.array(make_labels(table, "level", RaterNoise(0.0, 0.0, 0.0, 0.3), rng))
    for level in range(3):
        for other in {0, 1, 2} - {level}:
            assert within((noisy[gold == level] == other).sum(), 3000, 0.15)


def test_raters_err_near_the_cut_as_their_deviation_says(rng, within):
    n = 6000
    # One deviation above the cut: a sixth of raters (0.1587) see it below.
    noise = RaterNoise(picture=0.35, dose=0.12, sound=1.2, flips=0.0)
    columns = {"distance": 1.85, "sound_distance": 7.7} | {f"dose_{a}": 0.37 for a in ARTEFACTS}
    table = pandas.DataFrame({name: np.full(n, value) for name, value in columns.items()})
    for task in ("degraded", "bad_sound"):
        assert within(n - sum(make_labels(table, task, noise, rng)), n, 0.1587)
    artefacts = np.array(make_labels(table, "artefacts", noise, rng))
    assert within(4 * n - artefacts.sum(), 4 * n, 0.1587)


@pytest.mark.parametrize("task", TASKS)
def test_raters_follow_their_generator(task):
    def labels(seed, noise="heavy"):
        return make_labels(big(500), task, NOISE[noise], np.random.default_rng(seed))

    assert labels(0) == labels(0) != labels(1)
    assert labels(0, "none") == labels(1, "none")


def test_heavier_raters_err_more(rng):
    table = pandas.DataFrame({"distance": np.random.default_rng(1).exponential(1.4, 4000)})
    gold, normal, heavy = (
        np.array(make_labels(table, "degraded", NOISE[name], np.random.default_rng(2)))
        for name in ("none", "normal", "heavy")
    )
    assert 0.05 < (normal != gold).mean() < (heavy != gold).mean() < 0.35


def test_gold_quality_falls_from_five_to_one(rng):
    scores = make_labels(BY_HAND, "quality", NOISE["none"], rng)
    # 1 + 4 exp(-distance / 2)
    assert scores[0] == 5.0 and scores[-1] == pytest.approx(1 + 4 * np.exp(-4.5))
    assert scores[6] == pytest.approx(1 + 4 / np.e)
    assert [std for _, std in make_opinions(BY_HAND, NOISE["none"], rng)] == [None] * 8


def test_opinions_are_ten_whole_numbers(rng):
    table = pandas.DataFrame({"distance": np.full(500, 2.0)})
    opinions = np.array(make_opinions(table, NOISE["normal"], rng))
    assert np.allclose(opinions[:, 0] * RATERS, (opinions[:, 0] * RATERS).round())
    assert 0.4 < opinions[:, 1].mean() < 0.9
    heavy = np.array(make_opinions(table, NOISE["heavy"], rng))
    assert heavy[:, 1].mean() > opinions[:, 1].mean() and heavy.min() >= 0
    # The spread of the mean is that of an opinion over the root of ten.
    assert opinions[:, 0].std() == pytest.approx(opinions[:, 1].mean() / RATERS**0.5, rel=0.2)


def test_a_new_task_moves_no_old_label():
    """The place of a task decides its raters' errors."""
    assert list(TASKS)[:5] == ["degraded", "level", "artefacts", "bad_sound", "title_mismatch"]


@pytest.mark.slow
def test_prevalences_stay_as_the_card_states(tmp_path, rng):
    table = Pool(0, tmp_path).ensure(400)

    def gold(task):
        return np.array(make_labels(table, task, NOISE["none"], rng))

    assert 0.29 < gold("degraded").mean() < 0.45
    shares = np.bincount(gold("level"), minlength=3) / len(table)
    assert np.abs(shares - [0.44, 0.27, 0.29]).max() < 0.08
    assert 0.04 < gold("bad_sound").mean() < 0.14
    assert 0.22 < gold("title_mismatch").mean() < 0.38
    artefacts = gold("artefacts").mean(0)
    assert np.abs(artefacts - [0.24, 0.17, 0.18, 0.14]).max() < 0.07
