import dataclasses

import pytest
import torch
from small_mllm import random_clips, shake, small_mllm

from coefvq.data.pairs.dataset import take
from coefvq.modules.mllm.distinct import distinct_clips, sound_of
from coefvq.modules.mllm.model import MLLM

PAIR = "{text_1} {video_1} {audio_1} {video_2} {audio_2}"


def sides(first, second, clips=4):
    batch = dataclasses.replace(random_clips(clips), ids=tuple(f"c{n}" for n in range(clips)))
    return [take(batch, torch.tensor(first)), take(batch, torch.tensor(second))]


def masks(clips):
    return [clip.frame_mask for clip in clips]


def test_each_clip_is_found_once():
    clips = sides([0, 1, 0, 2], [1, 3, 2, 2])
    found = distinct_clips(clips, masks(clips))
    assert found.rows == [[0, 1, 3], [1]]
    assert found.places.tolist() == [0, 1, 0, 2, 1, 3, 2, 2]
    joined = found.join([clip.frames for clip in clips])
    every = torch.cat([clip.frames for clip in clips])
    assert len(joined) == 4 and torch.equal(found.spread(joined), every)


def test_an_equal_name_is_not_enough():
    clips = sides([0, 0], [1, 1])
    for name in ("frames", "audio", "audio_mask"):
        values = getattr(clips[0], name).clone()
        values[1] = ~values[1] if values.dtype == torch.bool else values[1] + 1
        other = [dataclasses.replace(clips[0], **{name: values}), clips[1]]
        assert distinct_clips(other, masks(other)).rows == [[0, 1], [0]]
    read = clips[0].frame_mask.clone()
    read[1] = False
    assert distinct_clips(clips, [read, clips[1].frame_mask]).rows == [[0, 1], [0]]
    assert distinct_clips(clips, masks(clips)).rows == [[0], [0]]


def test_sound_of_one_side_alone_is_an_error():
    clips = sides([0], [1])
    found = distinct_clips(clips, masks(clips))
    silent = dataclasses.replace(clips[1], audio=None, audio_mask=None)
    with pytest.raises(ValueError, match="one side of the pairs has sound"):
        sound_of([clips[0], silent], found)
    assert sound_of([silent, silent], found) == (None, None)


@pytest.mark.parametrize("mode", ["saliency", "token", "late", "mid"])
def test_answers_are_those_of_clips_that_are_read_one_by_one(mode, monkeypatch):
    torch.manual_seed(0)
    model = MLLM(small_mllm(mode), layout=PAIR if mode in ("saliency", "token") else
                 "{text_1} {video_1} {video_2}").eval()  # fmt: skip
    shake(model)
    clips = sides([0, 1, 0, 2], [1, 3, 2, 2])
    read = []
    encode = model.backbone.encode_frames
    monkeypatch.setattr(
        model.backbone, "encode_frames", lambda p, n: read.append(len(n)) or encode(p, n)
    )
    once = model(clips)
    apart = [
        dataclasses.replace(clip, ids=tuple(f"{side}{n}" for n in range(4)))
        for side, clip in enumerate(clips)
    ]
    each = model(apart)
    assert read == [4, 8]
    torch.testing.assert_close(once.logits, each.logits)
    torch.testing.assert_close(once.features, each.features)


def test_sides_may_have_other_numbers_of_frames():
    torch.manual_seed(0)
    model = MLLM(small_mllm(), layout=PAIR).eval()
    shake(model)
    one, two = sides([0, 1], [2, 3])
    longer = dataclasses.replace(
        two,
        frames=torch.cat([two.frames, two.frames[:, :1]], 1),
        frame_mask=torch.cat([two.frame_mask, torch.zeros(2, 1, dtype=torch.bool)], 1),
    )
    torch.testing.assert_close(model([one, longer]).logits, model([one, two]).logits)


def test_gradients_of_a_shared_clip_add_up():
    torch.manual_seed(0)
    model = MLLM(small_mllm(train_vision=True), layout=PAIR).eval()
    clips = sides([0, 1, 0, 2], [1, 3, 2, 2])
    apart = [
        dataclasses.replace(clip, ids=tuple(f"{side}{n}" for n in range(4)))
        for side, clip in enumerate(clips)
    ]
    found = []
    for batch in (clips, apart):
        model.zero_grad()
        model(batch).logits.sum().backward()
        weights = list(model.backbone.tower.parameters())
        found.append(torch.cat([w.grad.flatten() for w in weights if w.grad is not None]))
    assert found[0].abs().sum() > 0
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)
