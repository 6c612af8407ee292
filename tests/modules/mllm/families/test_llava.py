"""LLaVA-OneVision: our splicing equals transformers' own forward pass."""

import pytest
import torch
from small_mllm import VOCABULARY, small_backbone

from coefvq.modules.mllm.backbone import Piece, open_backbone


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return open_backbone(small_backbone()).eval()


def test_a_sequence_equals_transformers_own(backbone):
    # Clips of one length, which is all that transformers takes: words, video, words.
    model, pixels = backbone.model, torch.randn(6, 3, 24, 24)
    before, after = torch.tensor([3, 4]), torch.tensor([5])
    pieces = backbone.encode_frames(pixels, [3, 3])
    sequences = [
        [Piece(backbone.embed(before)), video, Piece(backbone.embed(after))] for video in pieces
    ]
    hidden, mask = backbone(sequences)
    video_token = model.config.video_token_id
    places = torch.full((3 * 4 + 1,), video_token)  # 3x3 patches pooled to 2x2, and the end token
    ids = torch.cat([before, places, after])[None].expand(2, -1)
    theirs = model.model(
        input_ids=ids,
        pixel_values_videos=pixels.view(2, 3, 3, 24, 24),
        attention_mask=torch.ones_like(ids),
    ).last_hidden_state
    assert mask.all()
    torch.testing.assert_close(hidden, theirs)


def test_clips_may_differ_in_frames(backbone):
    pixels = torch.randn(4, 3, 24, 24)
    together = backbone.encode_frames(pixels, [3, 0, 1])
    assert [len(piece.tokens) for piece in together] == [13, 0, 5]
    alone = backbone.encode_frames(pixels[3:], [1])[0]
    torch.testing.assert_close(together[2].tokens, alone.tokens)
    assert [len(p.tokens) for p in backbone.encode_frames(pixels[:0], [0, 0])] == [0, 0]


@pytest.mark.parametrize("layers", [-2, [-2, -1]])
def test_other_layers_of_the_tower_are_read_as_the_checkpoint_says(backbone, layers):
    shape = backbone.model.config.to_dict() | {"vision_feature_layer": layers}
    other = open_backbone(small_backbone(architecture=shape)).eval()
    pixels = torch.randn(2, 3, 24, 24)
    ours = other.encode_frames(pixels, [2])[0].tokens
    theirs = other.model.model.get_video_features(
        pixels[None], vision_feature_layer=layers, vision_feature_select_strategy="full"
    ).pooler_output[0]
    torch.testing.assert_close(ours, theirs)


def test_the_default_shape_is_the_published_one():
    from coefvq.modules.mllm.config import BackboneConfig

    shape = backbone_class().architecture(BackboneConfig())
    assert (shape.text_config.hidden_size, shape.text_config.num_hidden_layers) == (896, 24)
    with torch.device("meta"):
        model = backbone_class().model_class(shape)
    # 0.9 billion: SigLIP-So400m and Qwen2-0.5B.
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(0.89e9, rel=0.01)


def backbone_class():
    from coefvq.modules.mllm.families.llava import LlavaOneVision

    return LlavaOneVision


def test_tokens_of_texts_are_the_models_own(backbone):
    ids = torch.tensor([1, VOCABULARY - 1])
    assert torch.equal(backbone.embed(ids), backbone.model.get_input_embeddings().weight[ids])
    assert backbone.output_rows([1, 2]).shape == (2, backbone.width)
