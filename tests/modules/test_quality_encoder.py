"""The two encoders: masks, freezing, averaged or not, folders, refusals."""

import dataclasses

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from small_lmm_vqa import SLOWFAST, SPATIAL, VIDEOMAE, moving_clips, small_encoder
from small_mllm import rows
from transformers import BertConfig, CLIPConfig, CLIPModel, CLIPTextConfig

from coefvq import config
from coefvq.modules.quality_encoder import (
    QualityEncoder,
    QualityEncoderConfig,
    QualityFeatures,
    chunk_statistics,
)


def make(seed=0, motion=SLOWFAST, **changes):
    torch.manual_seed(seed)
    return QualityEncoder(small_encoder(motion, **changes)).eval()


def test_frames_are_transformers_tokens():
    encoder, clips = make(tokens="frames"), moving_clips(3)
    found = encoder(clips)
    pixels = encoder.frames(clips.frames)
    want = encoder.spatial(pixels[2, 1][None]).last_hidden_state[0]
    torch.testing.assert_close(found.spatial[2, 1], want)
    assert found.spatial.shape == (3, 3, 1 + 4, 16)  # CLS and 2x2 patches of 16 pixels
    assert not found.spatial[~clips.frame_mask].any()
    first = make(tokens="frames")
    inner = dataclasses.replace(SPATIAL, layer=1)
    early = QualityEncoder(dataclasses.replace(first.config, spatial=inner)).eval()
    early.load_state_dict(first.state_dict())
    hidden = first.spatial(pixels[2, 1][None], output_hidden_states=True).hidden_states[1][0]
    torch.testing.assert_close(early(clips).spatial[2, 1], hidden)


def test_the_mean_is_over_real_frames():
    clips = moving_clips(3)
    each, mean = make(tokens="frames")(clips), make(tokens="mean")(clips)
    assert mean.spatial.shape == (3, 1, 5, 16)
    for row in range(3):
        want = each.spatial[row, clips.frame_mask[row]].mean(0)
        torch.testing.assert_close(mean.spatial[row, 0], want)
    assert torch.equal(each.motion, mean.motion)


@pytest.mark.parametrize("motion", [SLOWFAST, VIDEOMAE], ids=["slowfast", "videomae"])
def test_motion_is_one_vector_per_real_chunk(motion):
    encoder, clips = make(motion=motion), moving_clips(3)
    found = encoder(clips)
    assert found.motion.shape == (3, 3, encoder.widths["motion"])
    torch.testing.assert_close(found.motion[2, 1], encoder.motion(clips.motion[2, 1][None])[0])
    assert not found.motion[~clips.frame_mask].any()
    assert make(motion=None)(clips).motion is None and "motion" not in make(motion=None).widths


def encoder_of_the_recipe(*words):
    """As `+recipe=lmm_vqa` words it, and its clips: 4 pictures per chunk."""
    config.register_recipes()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config.folder("conf")), version_base="1.3"):
        cfg = compose("train", overrides=["+recipe=lmm_vqa", *words])
    return QualityEncoder(instantiate(cfg.teacher.model.config.encoder, _convert_="all")).eval()


@pytest.mark.parametrize(
    ("word", "width"),
    [("motion.kind=slowfast", 288), ("motion.kind=videomae", 64), ("motion.kind=vjepa2", 64),
     ("motion=null", 0)],
)  # fmt: skip
def test_each_temporal_encoder_is_one_word_of_the_recipe(word, width):
    encoder = encoder_of_the_recipe(f"teacher.model.config.encoder.{word}")
    clips = moving_clips(2, size=64)
    found = encoder(clips)
    statistics = chunk_statistics(clips.motion[:, 0], 3).shape[-1]
    assert found.motion.shape == (2, 3, width + statistics)
    assert encoder.widths["motion"] == width + statistics


@pytest.mark.parametrize("spatial", ["chunks", "frames"])
def test_a_crop_larger_than_the_chunks_names_their_setting(spatial):
    encoder = encoder_of_the_recipe(
        f"teacher.model.config.encoder.spatial.source={spatial}",
        f"teacher.model.config.encoder.spatial.size={64 if spatial == 'chunks' else 16}",
    )
    with pytest.raises(ValueError, match=r"32x32 pixels are smaller.*64; raise data\.motion_size"):
        encoder(moving_clips(2, size=32))


def test_a_crop_larger_than_the_frames_names_theirs():
    encoder = encoder_of_the_recipe("teacher.model.config.encoder.spatial.source=frames")
    with pytest.raises(ValueError, match=r"24x24 pixels are smaller.*64; raise data\.frame_size"):
        encoder(moving_clips(2, size=64))


def test_a_clip_is_encoded_the_same_in_any_batch():
    encoder, clips = make(), moving_clips(4)
    together = encoder(clips)
    alone = QualityFeatures.cat([encoder(rows(clips, i, i + 1)) for i in range(4)])
    torch.testing.assert_close(alone.spatial, together.spatial, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(alone.motion, together.motion, rtol=1e-5, atol=1e-5)
    assert torch.equal(together[1:3].motion, together.motion[1:3]) and len(together) == 4


def test_what_is_frozen_stays_in_eval_mode_and_takes_no_gradient():
    frozen = make().train()
    assert frozen.config.frozen and not frozen(moving_clips(2)).spatial.requires_grad
    assert not frozen.spatial.training and not frozen.motion.training
    half = make(train_spatial=True).train()
    found = half(moving_clips(2))
    assert not half.config.frozen and half.spatial.training and not half.motion.training
    assert found.spatial.requires_grad and not found.motion.requires_grad
    assert QualityEncoderConfig(SPATIAL, None, train_motion=True).frozen


def test_configs_come_back():
    for motion in (SLOWFAST, VIDEOMAE, None):
        config = make(motion=motion).config
        assert QualityEncoderConfig.from_dict(config.to_dict()) == config
        again = QualityEncoder(config)
        assert again.config == config
        again.load_state_dict(make(motion=motion).state_dict())


def test_a_clip_folder_of_both_towers_is_opened(tmp_path):
    encoder = make()
    text = CLIPTextConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=20)
    whole = CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=encoder.spatial.config.to_dict())
    )
    whole.save_pretrained(tmp_path / "whole")
    whole.vision_model.save_pretrained(tmp_path / "vision")
    pixels = torch.randn(1, 3, 16, 16)
    want = whole.eval().vision_model(pixels).last_hidden_state
    for name in ("whole", "vision"):
        spatial = dataclasses.replace(SPATIAL, model_name_or_path=str(tmp_path / name))
        opened = QualityEncoder(QualityEncoderConfig(spatial, None)).eval()
        assert torch.equal(opened.spatial(pixels).last_hidden_state, want)


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match=r"no chunks of video.*set data.motion_frames=4"):
        make()(dataclasses.replace(moving_clips(2), motion=None))
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"could not be opened as a CLIP \(it is a bert\)"):
        dataclasses.replace(SPATIAL, model_name_or_path=str(tmp_path)).open()


def test_statistics_stand_behind_the_vector_of_motion():
    plain, clips = make(), moving_clips(3)
    more = make(residual_scales=2)
    assert more.widths["motion"] == plain.widths["motion"] + 8 * 2 + 3
    found, real = more(clips).motion, clips.frame_mask
    torch.testing.assert_close(found[..., : plain.widths["motion"]], plain(clips).motion)
    behind = chunk_statistics(clips.motion[real], 2)
    torch.testing.assert_close(found[real][:, -19:], behind)
    assert not found[~real].any()
    alone = make(motion=None, residual_scales=2)
    assert alone.widths["motion"] == 19
    torch.testing.assert_close(alone(clips).motion[real], behind)


def test_statistics_know_blur_and_a_picture_that_stands_still():
    noise = torch.randint(256, (2, 4, 3, 16, 16), dtype=torch.uint8)
    still = noise[:, :1].expand(-1, 4, -1, -1, -1)
    flat = torch.full_like(noise, 128)
    moving, frozen, empty = (chunk_statistics(chunks, 1) for chunks in (noise, still, flat))
    assert (moving[:, -3] > frozen[:, -3] + 1).all()
    assert torch.equal(frozen[:, -3], empty[:, -3])
    assert (empty[:, :4] == -1).all() and (moving[:, :4] > 2).all()


def test_the_spatial_encoder_may_look_at_the_middle_of_chunks():
    spatial = dataclasses.replace(SPATIAL, source="chunks")
    torch.manual_seed(0)
    encoder = QualityEncoder(QualityEncoderConfig(spatial, SLOWFAST)).eval()
    clips = moving_clips(3)
    shown = dataclasses.replace(clips, frames=clips.motion[:, :, 2])
    assert torch.equal(encoder(clips).spatial, make()(shown).spatial)
    blank = dataclasses.replace(clips, frames=torch.zeros_like(clips.frames))
    assert torch.equal(encoder(clips).spatial, encoder(blank).spatial)
    assert encoder.config.spatial.source == "chunks"
    with pytest.raises(ValueError, match="no chunks of video"):
        encoder(dataclasses.replace(clips, motion=None))
    with pytest.raises(ValueError, match="source is"):
        dataclasses.replace(SPATIAL, source="sky")
    with pytest.raises(ValueError, match="residual_scales"):
        small_encoder(residual_scales=-1)
