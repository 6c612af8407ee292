"""What a teacher reads of the data decides which teacher, and which answers, are found again."""

import pytest
import torch

from coefvq import engine
from coefvq.prepare import prepared_data
from coefvq.teacher_supply.opening import open_teacher
from coefvq.teacher_supply.training import get_teacher, teacher_settings


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
