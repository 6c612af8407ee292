"""Patches and positions of Qwen's models."""

import numpy as np
import pytest
import torch

from coefvq.modules.mllm.backbone import Piece
from coefvq.modules.mllm.families.qwen_frames import (
    MEAN,
    STD,
    patches_of,
    positions_of,
    sections_of,
    whole_attention,
)


def test_patches_are_those_of_transformers_processor():
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    # A picture is a clip of one frame, which both repeat.
    picture = np.random.default_rng(0).integers(0, 256, (3, 56, 84), dtype=np.uint8)
    processor = Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=56 * 84)
    theirs = processor(picture, input_data_format="channels_first", return_tensors="pt")
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (MEAN, STD))
    frame = (torch.from_numpy(picture) / 255 - mean) / std
    patches, grid = patches_of(frame[None], patch=14, merge=2, step=2)
    assert list(grid) == theirs["image_grid_thw"][0].tolist() == [1, 4, 6]
    torch.testing.assert_close(patches, theirs["pixel_values"], atol=1e-5, rtol=1e-5)


def test_an_odd_clip_repeats_its_last_frame():
    frames = torch.randn(3, 3, 8, 8)
    odd = patches_of(frames, patch=4, merge=2, step=2)
    even = patches_of(frames[[0, 1, 2, 2]], patch=4, merge=2, step=2)
    assert odd[1] == even[1] == (2, 2, 2)
    assert torch.equal(odd[0], even[0])


def test_positions_of_words_frames_and_words():
    words, clip = Piece(torch.zeros(2, 1)), Piece(torch.zeros(8, 1), grid=(2, 2, 2))
    positions = positions_of([[words, clip, words], [words]], 13, 5, time_counts=False)
    assert positions.shape == (3, 2, 13)
    # Two words, then time 2 and 2 + 5, rows and columns 2 and 3; the clip is two wide and high.
    assert positions[0, 0].tolist() == [0, 1, 2, 2, 2, 2, 7, 7, 7, 7, 4, 5, 0]
    assert positions[1, 0].tolist() == [0, 1, 2, 2, 3, 3, 2, 2, 3, 3, 4, 5, 0]
    assert positions[2, 0].tolist() == [0, 1, 2, 3, 2, 3, 2, 3, 2, 3, 4, 5, 0]
    assert positions[:, 1, 2:].sum() == 0
    later = positions_of([[words, clip, words]], 12, 5, time_counts=True)
    assert later[:, 0, 10:].tolist() == [[8, 9]] * 3


@pytest.mark.parametrize(
    ("width", "sections"), [(128, [16, 24, 24]), (8, [2, 1, 1]), (4, [2, 0, 0])]
)
def test_sections_add_up_to_half_a_head(width, sections):
    assert sections_of(width) == sections


def test_layers_that_see_the_whole_frame_are_the_published_ones():
    assert whole_attention(32) == [7, 15, 23, 31]
    assert whole_attention(2) == [0, 1]
