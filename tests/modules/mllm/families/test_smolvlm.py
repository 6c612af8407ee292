"""SmolVLM2: our splicing equals transformers' own forward pass."""

import pytest
import torch
from small_mllm import small_backbone

from coefvq.modules.mllm.backbone import Piece, open_backbone


def test_a_batch_equals_transformers_own():
    torch.manual_seed(0)
    backbone = open_backbone(small_backbone(family="smolvlm", image_size=32)).eval()
    model = backbone.model
    pixels = torch.randn(4, 3, 32, 32)
    assert model.config.scale_factor == 4  # 4x4 patches are one token
    videos = backbone.encode_frames(pixels, [2, 2])
    assert [len(video.tokens) for video in videos] == [2, 2]
    words = torch.tensor([3, 4])
    places = torch.full((2,), model.config.image_token_id)
    ids = torch.cat([words, places, words])[None].expand(2, -1)
    theirs = model.model(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        pixel_values=pixels.view(2, 2, 3, 32, 32),
    ).last_hidden_state
    text = Piece(backbone.embed(words))
    hidden, _ = backbone([[text, video, text] for video in videos])
    torch.testing.assert_close(hidden, theirs)


def test_plain_grey_frames_are_read():
    backbone = open_backbone(small_backbone(family="smolvlm")).eval()
    grey = backbone.encode_frames(torch.zeros(2, 3, 24, 24), [1, 1])
    assert [len(piece.tokens) for piece in grey] == [1, 1]


@pytest.mark.parametrize(("size", "scale"), [(32, 4), (24, 3), (16, 2), (40, 1)])
def test_patches_are_shuffled_by_what_divides_them(size, scale):
    shape = small_backbone(family="smolvlm", image_size=size)
    assert open_backbone(shape).model.config.scale_factor == scale
