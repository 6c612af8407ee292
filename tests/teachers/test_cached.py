import dataclasses

import pytest
import torch
from toys import ToyTeacher, toy_batches

from coefvq.teacher_cache import CacheIdentity, TeacherCache
from coefvq.teachers.cached import CachedTeacher


@pytest.fixture
def cache(tmp_path):
    cache, teacher = TeacherCache(tmp_path / "c", CacheIdentity({"dtype": "float32"})), ToyTeacher()
    with cache.writing():
        for batch in toy_batches(n=16):
            cache.add(batch.ids, "v", teacher(batch))
    return cache


def seen(batch, views):
    return dataclasses.replace(batch, views=views)


def test_it_answers_as_the_live_one_in_any_batch(cache):
    live, cached = ToyTeacher(), CachedTeacher(cache)
    assert not isinstance(cached, torch.nn.Module)
    for size in (1, 3, 16):
        for batch in toy_batches(n=16, batch_size=size):
            answer = cached(seen(batch, ("v",) * len(batch)))
            assert torch.equal(answer.logits, live(batch).logits)
            assert not answer.logits.requires_grad


def test_another_view_is_not_answered_with_this_one(cache):
    batch = toy_batches()[0]
    with pytest.raises(ValueError, match="no row for clip 'clip0', view w"):
        CachedTeacher(cache)(seen(batch, ("w",) * len(batch)))
    fixed = CachedTeacher(cache, view="v")(seen(batch, ("w",) * len(batch)))
    assert torch.equal(fixed.logits, ToyTeacher()(batch).logits)


def test_frames_that_are_drawn_anew_are_refused(cache):
    with pytest.raises(ValueError, match=r"drawn anew.*set teacher\.views"):
        CachedTeacher(cache)(toy_batches()[0])
