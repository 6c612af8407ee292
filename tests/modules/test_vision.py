import pytest
import torch
from small_models import small_swin

from coefvq.modules.vision import ConvEncoderConfig, SwinEncoderConfig


def test_conv_tokens_are_cells_and_the_first_their_statistics():
    encoder = ConvEncoderConfig(widths=(4, 8), width=8).build()
    torch.nn.init.eye_(encoder.to_token.weight)
    torch.nn.init.zeros_(encoder.to_token.bias)
    torch.nn.init.zeros_(encoder.to_summary.bias)
    encoder.to_summary.weight.data = torch.eye(16)[[*range(4), *range(8, 12)]]
    tokens = encoder(torch.randn(3, 3, 16, 24))
    assert tokens.shape == (3, 1 + 4 * 6, encoder.width)
    torch.testing.assert_close(tokens[:, 0, :4], tokens[:, 1:, :4].mean(1))
    torch.testing.assert_close(
        tokens[:, 0, 4:], (tokens[:, 1:, :4].var(1, correction=0) + 1e-5).sqrt()
    )


def test_swin_summary_is_the_mean_of_its_tokens():
    encoder = small_swin().build().eval()
    tokens = encoder(torch.randn(2, 3, 32, 32))
    assert tokens.shape == (2, 1 + 16, encoder.width) == (2, 17, 16)
    torch.testing.assert_close(tokens[:, 0], tokens[:, 1:].mean(1))
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(2, 17), atol=1e-5, rtol=0)


@pytest.mark.parametrize("config", [ConvEncoderConfig(widths=(4, 8), width=8), small_swin()])
def test_a_picture_does_not_see_its_neighbours(config):
    torch.manual_seed(0)
    encoder, pixels = config.build().eval(), torch.randn(5, 3, 32, 32)
    torch.testing.assert_close(encoder(pixels)[2:3], encoder(pixels[2:3]))


def test_swin_refuses_pictures_smaller_than_its_windows():
    encoder = small_swin(depths=(1, 1, 1), num_heads=(1, 1, 1)).build()
    with pytest.raises(ValueError, match=r"window_size=4 needs pictures of at least 64 pixels"):
        encoder(torch.zeros(1, 3, 32, 32))


def test_config_sentences():
    with pytest.raises(ValueError, match="must have one entry per stage"):
        SwinEncoderConfig(depths=(2, 2), num_heads=(1, 2, 4))
    with pytest.raises(ValueError, match="at least one entry in widths"):
        ConvEncoderConfig(widths=())
