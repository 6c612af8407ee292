import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor

from coefvq.data.audio import log_mel
from coefvq.modules.whisper import WhisperEncoderConfig, whisper_mel

SHAPE = {"mel_bins": 8, "width": 16, "layers": 2, "heads": 2, "feedforward": 32, "positions": 10}


def small(**changes):
    torch.manual_seed(0)
    return WhisperEncoderConfig(**{**SHAPE, **changes}).build().eval()


def sound(seconds=1.0, seed=0):
    rng = np.random.default_rng(seed)
    time = np.arange(int(16_000 * seconds)) / 16_000
    tone = np.sin(2 * np.pi * (300 + 400 * time) * time) * np.minimum(1, 4 * time)
    return (0.4 * tone + 0.02 * rng.standard_normal(len(time))).astype(np.float32)


def test_our_mel_becomes_whispers():
    """Against transformers' own extractor, on a sound that is shorter than the window."""
    wave = sound()
    extractor = WhisperFeatureExtractor(feature_size=80, chunk_length=2)
    theirs = extractor(wave, sampling_rate=16_000, return_tensors="pt").input_features
    mel, mask = log_mel(wave, mel_bins=80, num_frames=200)
    ours = whisper_mel(torch.from_numpy(mel)[None], torch.from_numpy(mask)[None])
    assert ours.shape == theirs.shape == (1, 80, 200)
    # Windows 0 and 1 begin before the sound: theirs mirrors it, ours pads with silence. Frames
    # 100 and 101 lie behind its end, which our mask cuts and the windows still touch.
    inside = slice(2, 100)
    torch.testing.assert_close(ours[..., inside], theirs[..., inside], atol=2e-3, rtol=0)
    torch.testing.assert_close(ours[..., 102:], theirs[..., 102:], atol=2e-3, rtol=0)


def test_silence_is_whispers_silence():
    silent = whisper_mel(torch.zeros(1, 80, 20), torch.zeros(1, 20).bool())
    extractor = WhisperFeatureExtractor(feature_size=80, chunk_length=1)
    theirs = extractor(np.zeros(16_000), sampling_rate=16_000, return_tensors="pt").input_features
    assert torch.equal(silent, torch.full_like(silent, theirs.flatten()[0].item()))


def batch():
    torch.manual_seed(1)
    mask = torch.arange(20).expand(3, 20) < torch.tensor([[20], [8], [0]])
    return torch.randn(3, 8, 20), mask


def test_full_window_is_transformers_forward():
    audio, mask = batch()
    encoder = small()
    tokens, counts = encoder(audio[..., :12], mask[:, :12])
    padded = torch.nn.functional.pad(audio[..., :12], (0, 8))
    mel = whisper_mel(padded, torch.nn.functional.pad(mask[:, :12], (0, 8)))
    assert torch.equal(tokens, encoder.encoder(mel).last_hidden_state)
    assert counts.sum(1).tolist() == [6, 4, 0] and tokens.shape == (3, 10, 16)


def test_clip_window_of_full_sound_is_the_full_window():
    audio, mask = batch()
    full, clip = small(), small(window="clip")
    torch.testing.assert_close(
        full(audio[:1], mask[:1])[0], clip(audio[:1], mask[:1])[0], atol=1e-5, rtol=1e-5
    )


def test_clip_window_does_not_depend_on_neighbours():
    audio, mask = batch()
    encoder = small(window="clip")
    tokens, counts = encoder(audio, mask)
    alone, alone_counts = encoder(audio[1:2], mask[1:2])
    assert alone.shape == (1, 4, 16) and alone_counts.all()  # and it is cheaper
    torch.testing.assert_close(tokens[1, :4], alone[0], atol=1e-5, rtol=1e-5)
    assert tokens.isfinite().all() and not counts[2].any()
    silent, none = encoder(audio[2:], mask[2:])
    assert silent.shape == (1, 1, 16) and silent.isfinite().all() and not none.any()


def test_wrong_sounds_are_refused():
    with pytest.raises(ValueError, match="sound has 9 mel bins, Whisper reads 8"):
        small()(torch.zeros(1, 9, 20), torch.ones(1, 20).bool())
    with pytest.raises(ValueError, match="sound has 22 mel frames, Whisper reads 20"):
        small()(torch.zeros(1, 8, 22), torch.ones(1, 22).bool())
    with pytest.raises(ValueError, match="window 'half' is unknown"):
        small(window="half")
