import dataclasses

import pytest
import torch

from coefvq.modules.sound import SoundEncoder, SoundEncoderConfig


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return SoundEncoder(SoundEncoderConfig(mel_bins=4, hidden=6, patch=4, stride=2), 8)


def test_tokens_and_their_mask(encoder):
    mask = torch.arange(20).expand(3, 20) < torch.tensor([[20], [9], [0]])
    tokens, counts = encoder(torch.randn(3, 4, 20), mask)
    # 20 frames are 5 patches, padded to 6: 3 tokens of 8 frames each.
    assert tokens.shape == (3, 3, 8)
    assert counts.tolist() == [[True, True, True], [True, True, False], [False, False, False]]


def test_what_lies_under_the_mask_is_not_read(encoder):
    audio, mask = torch.randn(1, 4, 16), torch.arange(16)[None] < 7
    noisy = torch.where(mask[:, None], audio, torch.nan)
    tokens, counts = encoder(audio, mask)
    assert torch.equal(tokens, encoder(noisy, mask)[0])
    short, _ = encoder(audio[..., :8], mask[:, :8])
    torch.testing.assert_close(tokens[counts], short[0])


def test_padding_looks_like_the_end_of_the_sound():
    """With overlapping tokens the last one sees a patch that lies under the mask."""
    torch.manual_seed(0)
    encoder = SoundEncoder(SoundEncoderConfig(mel_bins=4, hidden=6, patch=4, stride=1), 8)
    audio, mask = torch.randn(1, 4, 16), torch.arange(16)[None] < 8
    tokens, counts = encoder(audio, mask)
    torch.testing.assert_close(tokens[counts], encoder(audio[..., :8], mask[:, :8])[0][0])


def test_other_mel_bins_are_refused(encoder):
    with pytest.raises(ValueError, match="sound has 5 mel bins, the model reads 4"):
        encoder(torch.zeros(1, 5, 8), torch.ones(1, 8, dtype=torch.bool))


def test_a_light_encoder_hears_the_start_alone(encoder):
    light = SoundEncoder(dataclasses.replace(encoder.config, mel_frames=10), 8)
    light.load_state_dict(encoder.state_dict())
    audio, mask = torch.randn(2, 4, 24), torch.ones(2, 24).bool()
    mask[1, 6:] = False
    tokens, counts = light(audio, mask)
    want, want_counts = encoder(audio[..., :10], mask[:, :10])
    assert torch.equal(tokens, want) and torch.equal(counts, want_counts)
    assert not torch.equal(tokens, encoder(audio, mask)[0][:, : tokens.shape[1]])
    with pytest.raises(ValueError, match="mel_frames must be at least 1, or None for all, got 0"):
        SoundEncoderConfig(mel_frames=0)
