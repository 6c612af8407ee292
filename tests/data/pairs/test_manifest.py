import dataclasses
from pathlib import Path

import pytest

from coefvq.data.pairs.manifest import (
    PairManifest,
    alike_groups,
    clips_of,
    pairs_fingerprint,
    summarise_pairs,
)
from coefvq.pairs import Pair
from coefvq.types import Clip, TaskSpec

TASK = TaskSpec("reproduced", "binary", ("0", "1"))


@pytest.fixture
def pairs():
    clips = [Clip(n, Path(f"/data/{n}.mp4"), {"title": n}) for n in "abc"]
    return (
        Pair("p", clips[0], clips[1], 1.0, {"crop": 1.0}),
        Pair("q", clips[2], clips[1], 0.0, {"crop": 0.0}, "val"),
        Pair("r", clips[0], clips[2], None, {}, "test"),
    )


def test_each_clip_once(pairs):
    assert [clip.id for clip in clips_of(pairs)] == ["a", "b", "c"]


def test_splits(pairs):
    assert PairManifest(pairs, TASK).split("val") == [pairs[1]]


def test_the_fingerprint_follows_the_content(pairs):
    manifest = PairManifest(pairs, TASK, ("crop",))
    first = manifest.fingerprint
    assert len(first) == 32 and PairManifest(pairs[::-1], TASK, ("crop",)).fingerprint == first
    titled = dataclasses.replace(pairs[1].query, text={"title": "other"})
    retitled = [
        dataclasses.replace(
            p, **{s: titled for s in ("query", "candidate") if getattr(p, s).id == "c"}
        )
        for p in pairs
    ]
    assert PairManifest(retitled, TASK, ("crop",)).fingerprint != first
    for change in ({"label": 0.0}, {"sub_labels": {}}, {"split": "val"}, {"id": "other"}):
        other = (dataclasses.replace(pairs[0], **change), *pairs[1:])
        assert PairManifest(other, TASK, ("crop",)).fingerprint != first, change
    assert PairManifest(pairs, TASK).fingerprint != first
    # A moved data set stays the same one.
    assert pairs_fingerprint(manifest, "/data") != pairs_fingerprint(manifest, "/")


def test_summary(pairs):
    assert summarise_pairs(pairs, ("crop",)) == {
        "pairs": 3, "clips": 3, "labelled": 2, "prevalence": 0.5, "sub_labels": {"crop": 1}
    }  # fmt: skip
    assert summarise_pairs(pairs[2:], ("crop",)) == {"pairs": 1, "clips": 2, "labelled": 0}


def test_what_may_show_the_same():
    def clip(name, group=None):
        return Clip(name, Path(f"{name}.mp4"), group=group)

    a, b, c, d = clip("a", "g"), clip("b", "g"), clip("c", "h"), clip("d", "i")
    e, f, g, h = clip("e"), clip("f"), clip("g"), clip("h")
    pairs = [
        Pair("1", a, b, 0.0),  # one group
        Pair("2", b, c, 1.0),  # a reproduction across groups
        Pair("3", c, d),  # two groups, and nobody knows
        Pair("4", d, e),  # a clip without a group, and nobody knows
        Pair("5", e, f, 0.0),
        Pair("6", g, h, 1.0),
    ]
    names = alike_groups(pairs)
    together = [{n for n in names if names[n] == name} for name in sorted(set(names.values()))]
    assert sorted(map(sorted, together)) == [["a", "b", "c"], ["d", "e"], ["f"], ["g", "h"]]
