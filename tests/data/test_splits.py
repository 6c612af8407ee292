import pytest

from coefvq.data.splits import hash_split, joined


def split(groups, labelled=None, **options):
    options = {"val_fraction": 0.1, "test_fraction": 0.2, "seed": 1} | options
    return hash_split(groups, labelled or [True] * len(groups), **options)


def test_shares_groups_and_determinism():
    groups = [f"g{number // 3}" for number in range(300)]
    places = split(groups)
    assert places == split(groups)
    assert places != split(groups, seed=2)
    assert 55 <= places.count("test") <= 75 and 27 <= places.count("val") <= 38
    for group in set(groups):
        assert len({p for g, p in zip(groups, places, strict=True) if g == group}) == 1


def test_the_order_of_the_rows_does_not_matter():
    groups = [f"g{number}" for number in range(40)]
    forward = dict(zip(groups, split(groups), strict=True))
    backward = dict(zip(groups[::-1], split(groups[::-1]), strict=True))
    assert forward == backward


def test_a_group_that_is_too_large_is_passed_over():
    groups = ["large"] * 50 + [f"small{number}" for number in range(20)]
    for seed in range(10):
        places = split(groups, seed=seed)
        assert places[0] == "train"
        assert places.count("test") == 14 and places.count("val") == 6  # what is left


def test_unlabelled_clips_stay_in_training():
    groups = [f"g{number}" for number in range(40)]
    labelled = [number < 20 for number in range(40)]
    places = split(groups, labelled)
    assert set(places[20:]) == {"train"}
    assert places.count("test") == 8 and places.count("val") == 4


def test_few_large_groups_still_fill_every_split():
    assert set(split(["a"] * 10 + ["b"] * 10 + ["c"] * 10)) == {"train", "val", "test"}


def test_refusals():
    with pytest.raises(ValueError, match=r"leave something for training, got 0\.5 and 0\.5"):
        split(["a"], val_fraction=0.5, test_fraction=0.5)


def test_what_hangs_together_has_one_name():
    ties = [("a", "b"), ("c", "d"), ("e", "e"), ("d", "b")]
    found = joined(ties)
    assert found["a"] == found["b"] == found["c"] == found["d"] in "abcd"
    assert found["e"] == "e" and len(found) == 5
    # A long chain, and from its other end.
    chain = [(str(i), str(i + 1)) for i in range(3000)]
    assert len(set(joined(chain).values())) == len(set(joined(chain[::-1]).values())) == 1
    assert joined([]) == {}
