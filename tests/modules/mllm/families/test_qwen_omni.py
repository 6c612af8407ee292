"""Qwen2.5-Omni's Thinker: our splicing equals transformers' own, its audio tower included."""

import pytest
import torch
from small_mllm import MEL_FRAMES, random_clips, rows, shake, small_backbone, small_mllm

from coefvq.modules.mllm.audio import whisper_features
from coefvq.modules.mllm.backbone import Piece, open_backbone
from coefvq.modules.mllm.config import AudioConfig
from coefvq.modules.mllm.families.qwen_frames import patches_of
from coefvq.teachers.mllm import ClipMLLM


def shape():
    return small_backbone(family="qwen2_5_omni", width=32, image_size=32)


def sound(clips=3):
    generator = torch.Generator().manual_seed(0)
    audio = torch.rand(clips, 128, MEL_FRAMES, generator=generator) * 2 - 1
    lengths = torch.tensor([MEL_FRAMES, 9, 2])[:clips]
    return audio, torch.arange(MEL_FRAMES).expand(clips, -1) < lengths[:, None]


def test_a_sequence_equals_transformers_own():
    torch.manual_seed(0)
    backbone = open_backbone(shape()).eval()
    config = backbone.model.config
    pixels = torch.randn(3, 3, 32, 32)
    patches, grid = patches_of(pixels, 8, 2, 2)
    audio, mask = sound(1)
    # Marks that are in the tiny vocabulary; real configs bring theirs along.
    config.vision_start_token_id, config.audio_start_token_id = 7, 9
    ids = torch.tensor(
        [
            [3, 4, 7, *[config.video_token_id] * 8, 8, 9]
            + [config.audio_token_id] * (MEL_FRAMES // 4)
            + [10, 5]
        ]
    )
    theirs = backbone.model.model(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        pixel_values_videos=patches,
        video_grid_thw=torch.tensor([grid]),
        video_second_per_grid=torch.tensor([1.0]),
        input_features=whisper_features(audio, mask),
        feature_attention_mask=mask.long(),
    ).last_hidden_state
    parts = [
        Piece(backbone.embed(torch.tensor([3, 4, 7]))),
        *backbone.encode_frames(pixels, [3]),
        Piece(backbone.embed(torch.tensor([8, 9]))),
        *(Piece(row) for row in backbone.encode_audio(audio, mask)),
        Piece(backbone.embed(torch.tensor([10, 5]))),
    ]
    hidden, _ = backbone([parts])
    torch.testing.assert_close(hidden, theirs)


def test_sound_is_cut_to_what_counts():
    torch.manual_seed(0)
    backbone = open_backbone(shape()).eval()
    audio, mask = sound()
    tokens = backbone.encode_audio(audio, mask)
    # 20 mel frames are 10, then 5; 9 are 5, then 2; 2 are none.
    assert [len(row) for row in tokens] == [5, 2, 0]
    alone = backbone.encode_audio(audio[1:2, :, :12], mask[1:2, :12])[0]
    torch.testing.assert_close(tokens[1], alone)
    silent = backbone.encode_audio(audio, torch.zeros_like(mask))
    assert [len(row) for row in silent] == [0, 0, 0]
    with pytest.raises(ValueError, match="sound has 8 mel bins, the audio tower reads 128"):
        backbone.encode_audio(audio[:, :8], mask)


def test_its_own_ears_in_a_teacher(tmp_path):
    torch.manual_seed(0)
    config = small_mllm(backbone=shape(), audio=AudioConfig(mode="own"))
    teacher = ClipMLLM(config).eval()
    shake(teacher)
    audio, mask = sound()
    clips = random_clips(3)
    batch = type(clips)(**{**vars(clips), "audio": audio, "audio_mask": mask})
    together = teacher(batch).logits
    for row in range(3):
        alone = teacher(rows(batch, row, row + 1)).logits
        torch.testing.assert_close(alone, together[row : row + 1], atol=1e-5, rtol=1e-5)
    assert (
        teacher(type(batch)(**{**vars(batch), "audio": -audio})).logits != together
    ).tolist() == [
        True,
        True,
        False,
    ]
    assert not teacher.train().mllm.backbone.audio_tower.training
    teacher.eval().save_pretrained(tmp_path)
    again = ClipMLLM.from_pretrained(tmp_path)
    assert torch.equal(again(batch).logits, together)
