import dataclasses

import pytest
import torch
from small_matchlite import TEXT, published_encoders, small_encoders
from small_models import random_batch

from coefvq.modules.clip_encoders import ClipEncoder, ClipEncoderConfig, ClipFeatures


def encoder(config=None, modalities="V+A+T"):
    torch.manual_seed(0)
    return ClipEncoder(config or small_encoders(), modalities).eval()


def test_frames_give_their_summary_and_cells():
    model, batch = encoder(small_encoders(tokens=10, cells=2)), random_batch(2)
    features = model(batch)
    tokens = model.vision(model.frames(batch.frames)[0])  # (F, 1 + 8 · 8, D)
    assert tokens.shape == (2, 65, 12)
    expected = torch.cat(
        [torch.stack([t[0], *(grid(t[1:], r, c) for r in (0, 4) for c in (0, 4))]) for t in tokens]
    )
    torch.testing.assert_close(features.video[0], expected)
    # The second clip has one real frame of two: five of ten tokens.
    assert features.video_mask.sum(1).tolist() == [10, 5]
    summaries = encoder(small_encoders(cells=0))(batch)
    torch.testing.assert_close(summaries.video[0, :2], tokens[:, 0])
    assert summaries.video_mask.sum(1).tolist() == [2, 1]


def grid(cells, row, column):
    return cells.view(8, 8, -1)[row : row + 4, column : column + 4].mean((0, 1))


def test_sentence_is_the_mean_over_the_text():
    config = small_encoders(text=dataclasses.replace(TEXT, sentence=True))
    model, batch = encoder(config), random_batch(3)
    features = model(batch)
    tokens = model.text(batch.input_ids, batch.text_mask)
    # The first text is CLS and SEP alone: none.
    assert features.text_mask.sum(1).tolist() == [0, 1, 1]
    torch.testing.assert_close(features.text[2, 0], tokens[2, :4].mean(0))
    assert encoder()(batch).text_mask.sum(1).tolist() == [0, 3, 4]


@pytest.mark.parametrize(
    ("modalities", "fields"),
    [("V", set()), ("V+T", {"text"}), ("V+A", {"audio"}), ("V+A+T", {"text", "audio"})],
)
def test_only_what_is_read_is_made(modalities, fields):
    model = encoder(modalities=modalities)
    features = model(random_batch(2))
    assert {name for name in ("text", "audio") if getattr(features, name) is not None} == fields
    assert {n for n in ("text", "audio") if getattr(model, n) is not None} == fields
    assert set(model.widths) == {"video", *fields}


def test_data_without_text_makes_no_text_encoder():
    config = small_encoders(text=dataclasses.replace(TEXT, vocab_size=0))
    assert set(encoder(config).widths) == {"video", "audio"}


def test_frozen_encoders_are_frozen_for_good():
    model = encoder(published_encoders()).train()
    assert not model.training and not any(m.training for m in model.modules())
    assert not any(p.requires_grad for p in model.parameters())
    batch = random_batch(2)
    assert torch.equal(model(batch).video, model(batch).video)
    free = encoder().train()
    assert free.training and free(batch).video.requires_grad
    with torch.no_grad():
        assert not free(batch).video.requires_grad


def test_config_survives_json():
    for config in (small_encoders(), published_encoders(), ClipEncoderConfig()):
        assert ClipEncoderConfig.from_dict(config.to_dict()) == config


def test_features_join_and_split():
    features = encoder(modalities="V+T")(random_batch(3))
    again = ClipFeatures.cat([features[:1], features[torch.tensor([1, 2])]])
    assert len(again) == 3 and again.audio is None
    assert torch.equal(again.text, features.text)
    assert features.public() is features and features.device.type == "cpu"


def test_wrong_modalities_are_refused():
    with pytest.raises(ValueError, match="choose one of V, V\\+T, V\\+A, V\\+A\\+T"):
        encoder(modalities="T")
