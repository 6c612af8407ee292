import math

import pytest
import torch
import torch.nn.functional as F

from coefvq.modules.residuals import luma, residual_statistics, residuals
from coefvq.modules.vision import ConvEncoderConfig


def test_a_single_bright_pixel_shows_each_filter():
    grey = torch.zeros(1, 5, 5)
    grey[0, 2, 2] = 10.0
    left, up, laplacian, both = (residuals(grey)[0] + 1).expm1()
    torch.testing.assert_close(left[2], torch.tensor([0.0, 0.0, 10.0, 10.0, 0.0]))
    torch.testing.assert_close(up[:, 2], torch.tensor([0.0, 0.0, 10.0, 10.0, 0.0]))
    assert laplacian[2, 2].item() == pytest.approx(40)
    assert laplacian[1, 2].item() == pytest.approx(10)
    # [1 -2 1] down times [1 -2 1] across.
    expected = torch.tensor([[10.0, 20, 10], [20, 40, 20], [10, 20, 10]])
    torch.testing.assert_close(both[1:4, 1:4], expected)


def test_a_flat_picture_has_none_at_its_edges_either():
    assert (residuals(torch.full((2, 6, 7), 123.0)) == -1).all()


def test_a_mirrored_picture_has_mirrored_second_differences():
    grey = torch.randn(1, 8, 8) * 50
    torch.testing.assert_close(residuals(grey.flip(-1))[:, 2:], residuals(grey).flip(-1)[:, 2:])


def test_luma_is_in_grey_levels():
    black, white = ((v - 0.45) / 0.225 for v in (0.0, 1.0))
    grey = luma(torch.tensor([black, white]).view(2, 1, 1, 1).expand(2, 3, 1, 1))
    assert (grey[1] - grey[0]).item() == pytest.approx(255, rel=0.01)


def test_statistics_go_down_the_scales():
    torch.manual_seed(0)
    grey = torch.randn(2, 16, 16) * 20
    maps, statistics = residual_statistics(grey, 3)
    torch.testing.assert_close(maps, residuals(grey))
    assert statistics.shape == (2, 24)
    smaller = residuals(F.avg_pool2d(grey[:, None], 4)[:, 0])
    torch.testing.assert_close(statistics[:, 16:20], smaller.mean((-2, -1)))
    torch.testing.assert_close(
        statistics[:, 20:], (smaller.var((-2, -1), correction=0) + 1e-5).sqrt()
    )


def test_blur_lowers_them_and_noise_raises_them():
    torch.manual_seed(0)
    picture = F.interpolate(torch.rand(1, 1, 16, 16) * 255, 64, mode="bilinear")
    picture = picture + torch.randn_like(picture)
    blurred = F.avg_pool2d(picture, 5, stride=1, padding=2)
    noisy = picture + 8 * torch.randn_like(picture)
    means = [residuals(x[0]).mean((0, 2, 3)) for x in (blurred, picture, noisy)]
    assert (means[0] < means[1]).all()
    assert (means[1] < means[2]).all()


@pytest.mark.parametrize("size", [16, 33])
def test_the_encoder_takes_them_in(size):
    torch.manual_seed(0)
    encoder = ConvEncoderConfig(widths=(4, 8), width=6, residual_scales=3).build()
    pixels = torch.randn(3, 3, size, size, requires_grad=True)
    tokens = encoder(pixels)
    assert tokens.shape == (3, 1 + math.ceil(size / 4) ** 2, 6)
    torch.testing.assert_close(encoder(pixels[1:2]), tokens[1:2])
    plain = ConvEncoderConfig(widths=(4, 8), width=6).build()
    assert plain.convs[0].in_channels == 3
    assert encoder.convs[0].in_channels == 7


def test_a_negative_number_of_scales_is_refused():
    with pytest.raises(ValueError, match="residual_scales is a number of picture sizes from 0"):
        ConvEncoderConfig(residual_scales=-1)
