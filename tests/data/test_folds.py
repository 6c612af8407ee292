from collections import Counter
from pathlib import Path

import pytest

from coefvq.data.folds import fold_of, folds_fingerprint
from coefvq.types import Clip


def clip(name, group=None, label=1.0, split="train"):
    return Clip(id=name, path=Path(name), label=label, group=group, split=split)


CLIPS = [clip(f"c{i}", group=f"g{i // 3}" if i < 60 else None) for i in range(100)]


@pytest.mark.parametrize("folds", [2, 3, 5, 7])
def test_folds_are_balanced_and_groups_stay_whole(folds):
    found = fold_of(CLIPS, folds, seed=1)
    assert set(found) == {c.id for c in CLIPS}
    sizes = Counter(found.values())
    assert set(sizes) == set(range(folds)) and max(sizes.values()) - min(sizes.values()) <= 1
    for c in CLIPS:
        if c.group is not None:
            assert found[c.id] == found[f"c{3 * int(c.group[1:])}"]


def test_the_seed_decides_and_the_order_does_not():
    found = fold_of(CLIPS, 5, seed=1)
    assert fold_of(CLIPS[::-1], 5, seed=1) == found
    other = fold_of(CLIPS, 5, seed=2)
    assert other != found
    assert folds_fingerprint(found) == folds_fingerprint(fold_of(CLIPS[::-1], 5, seed=1))
    assert folds_fingerprint(found) != folds_fingerprint(other)


def test_unlabelled_and_held_out_clips_have_no_fold():
    others = [clip("u", label=None), clip("v", split="val"), clip("t", split="test")]
    found = fold_of([*CLIPS, *others], 5, seed=1)
    assert found == fold_of(CLIPS, 5, seed=1)


def test_an_unlabelled_clip_goes_with_its_group():
    found = fold_of([*CLIPS, clip("u", group="g3", label=None)], 5, seed=1)
    assert found["u"] == found["c9"] and len(found) == len(CLIPS) + 1


def test_one_large_group_takes_a_fold_of_its_own():
    clips = [clip(f"a{i}", "big") for i in range(50)] + [clip(f"b{i}") for i in range(20)]
    found = fold_of(clips, 3, seed=0)
    own = found["a0"]
    assert {n for n, k in found.items() if k == own} == {f"a{i}" for i in range(50)}


def test_a_clip_named_like_a_group_is_not_of_it():
    found = fold_of([clip("x", group="y"), clip("y")], 2, seed=0)
    assert found["x"] != found["y"]


def test_too_few_groups_are_refused():
    clips = [clip(f"c{i}", group=f"g{i % 2}") for i in range(10)] + [clip("u", label=None)]
    with pytest.raises(ValueError, match=r"teacher\.folds=3 needs at least 3 groups .* got 2"):
        fold_of(clips, 3, seed=0)
    for wrong in (1, 0, 2.5, True):
        with pytest.raises(ValueError, match="from 2, got"):
            fold_of(clips, wrong, seed=0)
