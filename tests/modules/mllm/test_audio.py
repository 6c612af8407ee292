"""Sound for a language model: Whisper's scale, masks, pooling, the gate."""

import math

import numpy as np
import pytest
import torch
from small_mllm import MEL_BINS, MEL_FRAMES, small_audio
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

from coefvq.data.audio import log_mel
from coefvq.modules.mllm.audio import (
    AudioPath,
    GatedCrossAttention,
    SaliencyPool,
    WhisperTower,
    whisper_features,
)
from coefvq.modules.mllm.config import AudioConfig


def sound(clips=3, seed=0):
    audio = torch.rand(clips, MEL_BINS, MEL_FRAMES, generator=torch.Generator().manual_seed(seed))
    mask = torch.arange(MEL_FRAMES).expand(clips, -1) < 7 + 5 * torch.arange(clips)[:, None]
    mask[-1] = False
    return audio * 2 - 1, mask


def test_our_picture_becomes_whispers():
    # A chirp with a pause and one second of padding, through both ways.
    seconds, rate = 3, 16_000
    time = np.arange(seconds * rate) / rate
    wave = (0.4 * np.sin(2 * np.pi * (200 + 400 * time) * time)).astype(np.float32)
    wave[20_000:24_000] = 0
    theirs = WhisperFeatureExtractor(chunk_length=4)(wave, sampling_rate=rate)["input_features"][0]
    mel, mask = log_mel(wave, mel_bins=80, num_frames=400)
    ours = whisper_features(torch.from_numpy(mel)[None], torch.from_numpy(mask)[None])[0]
    # Half precision on disk, and reflection instead of zeros before the first sample.
    assert ours.shape == theirs.shape
    difference = np.abs(ours.numpy() - theirs)[:, 2:]
    assert np.quantile(difference, 0.99) < 0.005
    assert difference[:, ~mask[2:]][:, 2:].max() < 0.005


def test_whisper_features_are_padded_and_cut():
    audio, mask = torch.zeros(1, 2, 6), torch.ones(1, 6, dtype=torch.bool)
    assert whisper_features(audio, mask, 4).shape == (1, 2, 4)
    padded = whisper_features(audio, mask, 9)
    assert padded.shape == (1, 2, 9)
    # log10 p = -3, so padding is at -10 (not 8 decades below): (-10 + 4) / 4.
    assert padded[0, 0, -1].item() == -1.5
    assert padded[0, 0, 0].item() == 0.25


@pytest.mark.parametrize("mode", ["saliency", "token", "late", "mid"])
def test_padding_and_neighbours_are_never_read(mode):
    torch.manual_seed(0)
    path = AudioPath(small_audio(mode=mode), 16).eval()
    audio, mask = sound()
    tokens, counts = path(audio, mask)
    other = audio.masked_fill(~mask[:, None], math.nan)
    again, same = path(other, mask)
    assert torch.equal(counts, same)
    assert torch.equal(tokens[counts], again[counts])
    alone, _ = path(audio[1:2], mask[1:2])
    torch.testing.assert_close(alone[0][counts[1]], tokens[1][counts[1]])
    assert not counts[-1].any()  # silent


def test_the_number_of_tokens_is_that_of_the_mode():
    audio, mask = sound()
    tokens, counts = AudioPath(small_audio(mode="saliency"), 16)(audio, mask)
    assert tokens.shape == (3, 1, 16)
    assert counts.squeeze(1).tolist() == [True, True, False]
    # 7 mel frames are 4 tokens of Whisper and 1 stack of 4; 12 are 6 and 2.
    tokens, counts = AudioPath(small_audio(mode="token"), 16)(audio, mask)
    assert tokens.shape == (3, 3, 16)
    assert counts.sum(1).tolist() == [1, 2, 0]


def test_saliency_is_a_weighted_mean_of_what_counts():
    pool = SaliencyPool(1)
    with torch.no_grad():
        pool.score.weight.fill_(1.0)
        pool.score.bias.fill_(3.0)  # a shift of all scores changes nothing
    tokens = torch.tensor([[[0.0], [math.log(3.0)], [50.0]]])
    mask = torch.tensor([[True, True, False]])
    # Weights 1 : 3, so 3/4 of log 3.
    assert pool(tokens, mask).item() == pytest.approx(0.75 * math.log(3.0))
    assert pool(tokens, torch.zeros_like(mask)).item() == 0.0


def test_saliency_of_silence_has_a_finite_gradient():
    pool = SaliencyPool(4)
    pool(torch.randn(2, 3, 4), torch.zeros(2, 3, dtype=torch.bool)).sum().backward()
    assert torch.isfinite(pool.score.weight.grad).all()


def test_the_gate_is_shut_at_the_start():
    torch.manual_seed(0)
    cross = GatedCrossAttention(16, 12)
    pieces = [torch.randn(4, 16), torch.randn(2, 16)]
    memory = torch.randn(2, 5, 12)
    mask = torch.tensor([[True] * 3 + [False] * 2, [False] * 5])
    for before, after in zip(pieces, cross(pieces, memory, mask), strict=True):
        assert torch.equal(before, after)
    with torch.no_grad():
        cross.gate.fill_(0.7)
    changed, silent = cross(pieces, memory, mask)
    assert not torch.allclose(changed, pieces[0])
    assert torch.equal(silent, pieces[1])
    sum(piece.sum() for piece in cross(pieces, memory, mask)).backward()
    assert cross.gate.grad.abs() > 0


def test_a_tower_opens_from_folders_of_encoder_and_of_whole_model(tmp_path):
    torch.manual_seed(0)
    shape = WhisperConfig(
        num_mel_bins=MEL_BINS,
        max_source_positions=MEL_FRAMES // 2,
        d_model=12,
        encoder_layers=1,
        encoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=24,
        vocab_size=20,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    whole = WhisperModel(shape).eval()
    whole.save_pretrained(tmp_path / "whole")
    whole.encoder.save_pretrained(tmp_path / "encoder")
    audio, mask = sound()
    want = whole.encoder(whisper_features(audio, mask)).last_hidden_state
    for name in ("whole", "encoder"):
        tower = WhisperTower(small_audio(model_name_or_path=str(tmp_path / name))).eval()
        tokens, counts = tower(audio, mask)
        assert torch.equal(tokens[:2], want[:2])
        assert counts.sum(1).tolist() == [4, 6, 0]


def test_sound_of_another_height_is_refused():
    tower = WhisperTower(small_audio())
    with pytest.raises(ValueError, match="sound has 5 mel bins, the audio tower reads 8"):
        tower(torch.zeros(1, 5, 4), torch.ones(1, 4, dtype=torch.bool))


@pytest.mark.parametrize("std", [0.02, 0.2])
def test_random_weights_are_as_wide_as_asked_for(std):
    torch.manual_seed(0)
    tower = WhisperTower(small_audio(init_std=std))
    assert tower.encoder.conv1.weight.std().item() == pytest.approx(std, rel=0.1)
    again = WhisperTower(AudioConfig(architecture=tower.architecture()))
    assert again.encoder.config.init_std == std
