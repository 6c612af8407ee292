import dataclasses
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from coefvq.data.content import clip_content
from coefvq.pairs import Pair
from coefvq.teacher_supply import clips as module
from coefvq.teacher_supply.clips import about_data, contents_of
from coefvq.types import Clip

DATA = SimpleNamespace(inputs=SimpleNamespace(text_fields=("title",)))


@pytest.fixture
def clips(tmp_path):
    made = []
    for name in "abc":
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(name.encode() * 10)
        made.append(Clip(name, path, {"title": f"about {name}"}))
    return made


def pairs_of(*pairs):
    """A data set of pairs: of those, the clips stand in the pairs."""
    return SimpleNamespace(pairs=pairs, clips=())


def test_a_clip_is_known_by_its_content_whichever_data_set_it_is_in(clips):
    content = contents_of(
        DATA, [SimpleNamespace(clips=clips[:2]), SimpleNamespace(clips=clips[2:])]
    )
    assert [content(c.id) for c in clips] == [clip_content(c, ("title",)) for c in clips]
    assert len({content(c.id) for c in clips}) == 3
    untitled = SimpleNamespace(inputs=SimpleNamespace(text_fields=()))
    assert contents_of(untitled, [SimpleNamespace(clips=clips)])("a") != content("a")


def test_a_pair_is_known_by_both_clips_their_order_and_the_split(clips):
    a, b, c = clips
    given = Pair("p", a, b)
    first = contents_of(DATA, [pairs_of(given)])("p")
    assert len(first) == 32
    for same in ({"label": 1.0}, {"sub_labels": {"crop": 1.0}}, {"group": "g"}):
        assert contents_of(DATA, [pairs_of(dataclasses.replace(given, **same))])("p") == first
    changes = (
        {"query": c}, {"candidate": c}, {"query": b, "candidate": a}, {"split": "test"},
        {"query": dataclasses.replace(a, text={"title": "another"})},
    )  # fmt: skip
    others = {contents_of(DATA, [pairs_of(dataclasses.replace(given, **x))])("p") for x in changes}
    assert len(others | {first}) == 1 + len(changes)


def test_each_file_is_read_once(clips, monkeypatch):
    read, inner = [], module.clip_content
    monkeypatch.setattr(module, "clip_content", lambda c, f: read.append(c.id) or inner(c, f))
    content = contents_of(DATA, [SimpleNamespace(clips=clips)])
    assert read == [] and content("b") == content("b") and read == ["b"]


def test_the_words_that_decide_which_clips_there_are():
    cfg = OmegaConf.create(
        {"seed": 5, "data": {
            "_target_": "x", "_convert_": "all", "train": "a.csv", "split_seed": "${seed}",
            "val": 16, "batch_size": 8, "eval_batch_size": 9, "num_workers": 2, "cache_dir": "/c",
            "cache_frames": True, "labelled_per_batch": 1, "train_on": "all", "order_seed": 3,
        }}
    )  # fmt: skip
    data = SimpleNamespace(describe=lambda: {"splits": {"val": {"clips": 16}}, "skipped": []})
    assert about_data(cfg, data) == {
        "data": {"train": "a.csv", "split_seed": 5, "val": 16},
        "splits": {"val": {"clips": 16}},
    }
