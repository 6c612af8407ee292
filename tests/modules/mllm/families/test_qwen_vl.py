"""Qwen2.5-VL: our splicing equals transformers' own forward pass."""

import pytest
import torch
from small_mllm import small_backbone

from coefvq.modules.mllm.backbone import Piece, open_backbone
from coefvq.modules.mllm.families.qwen_frames import patches_of


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return open_backbone(small_backbone(family="qwen2_5_vl", width=32, image_size=40)).eval()


def test_frames_are_a_whole_number_of_tokens(backbone):
    assert backbone.frame_size == 32
    with pytest.raises(ValueError, match="image_size=12 is below the 16 pixels of one token"):
        open_backbone(small_backbone(family="qwen2_5_vl", width=32, image_size=12))


def test_a_batch_equals_transformers_own(backbone):
    model, config = backbone.model, backbone.model.config
    pixels = torch.randn(5, 3, 32, 32)
    clips = pixels.split([3, 2])
    cut = [patches_of(clip, 8, 2, 2) for clip in clips]
    words = torch.tensor([3, 4, 5])
    rows = [
        torch.cat([words, torch.full((steps * 4,), config.video_token_id), words[:1]])
        for steps in (2, 1)
    ]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(r) for r in rows], batch_first=True)
    theirs = model.model(
        input_ids=ids,
        attention_mask=mask,
        pixel_values_videos=torch.cat([patches for patches, _ in cut]),
        video_grid_thw=torch.tensor([grid for _, grid in cut]),
        mm_token_type_ids=2 * (ids == config.video_token_id).int(),
    ).last_hidden_state
    videos = backbone.encode_frames(pixels, [3, 2])
    before, after = (Piece(backbone.embed(part)) for part in (words, words[:1]))
    hidden, counts = backbone([[before, video, after] for video in videos])
    assert torch.equal(counts, mask.bool())
    torch.testing.assert_close(hidden[counts], theirs[counts])
