import dataclasses
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf, open_dict

from coefvq import engine
from coefvq.data.content import clip_content
from coefvq.pairs import Pair
from coefvq.prepare import prepared_data
from coefvq.teacher_supply import clips as module
from coefvq.teacher_supply.clips import about_data, contents_of
from coefvq.teacher_supply.opening import open_teacher
from coefvq.teacher_supply.training import get_teacher, teacher_settings
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


@pytest.fixture
def prepared(small, tmp_path):
    engine.quiet()

    def prepare(*words, recipe):
        cfg = small(f"+recipe={recipe}", *words, folder=tmp_path / "run")
        return cfg, prepared_data(cfg)

    return prepare


def weights(module):
    return torch.cat([value.flatten().float() for value in module.state_dict().values()])


@pytest.mark.parametrize(
    "word", ["data.privileged=history", "data.labelled=23", "data.label_noise=heavy"]
)
@pytest.mark.parametrize("reads", ["public", "whole"])
def test_privileged_features_count_where_the_teacher_reads_them(prepared, word, reads):
    recipe = {"public": "self_distillation", "whole": "cpfd"}[reads]
    before, after = (teacher_settings(*prepared(*w, recipe=recipe)) for w in ((), (word,)))
    public = reads == "public" and word.startswith("data.privileged")
    assert (before["data"] == after["data"]) == public


def test_a_teacher_that_reads_no_privileged_features_is_found_among_other_ones(prepared, tmp_path):
    words = ("seed=18", "data.privileged=encoder")
    first = get_teacher(*prepared(*words, recipe="self_distillation"))
    found = get_teacher(*prepared("seed=18", recipe="self_distillation"))
    assert found.reused and found.folder == first.folder and not first.reused
    # Rightly: trained on these data, it would have come to the same weights.
    elsewhere = ("seed=18", f"cache_dir={tmp_path / 'home'}")
    again = get_teacher(*prepared(*elsewhere, recipe="self_distillation"))
    assert not again.reused and torch.equal(weights(again.module), weights(first.module))


def test_its_answers_are_found_too(prepared):
    words = ("seed=19", "teacher.preflight=false")
    first = open_teacher(*prepared(*words, recipe="self_distillation"), lambda *_, **__: None)
    cfg, data = prepared(*words, "data.privileged=history", recipe="self_distillation")
    found = open_teacher(cfg, data, lambda *_, **__: None)
    assert found.cache.folder == first.cache.folder
    # ... also by whoever is given their folder.
    with open_dict(cfg):
        cfg.teacher.kind, cfg.teacher.path = "cached", str(first.cache.folder)
    read = open_teacher(cfg, data, lambda *_, **__: None)
    batch = next(iter(data.train_dataloader()))
    assert torch.equal(read.ask(batch).logits, first.ask(batch).logits)


def test_a_privileged_teachers_answers_are_its_own(prepared):
    words = ("seed=19", "teacher.preflight=false")
    folders = {
        open_teacher(*prepared(*words, *own, recipe="cpfd"), lambda *_, **__: None).cache.folder
        for own in ((), ("data.privileged=history",))
    }
    assert len(folders) == 2
