import torch

from coefvq.modules.temporal import NUM_MOTION, TemporalPool, motion_statistics


def seeded(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_what_is_not_real_counts_for_nothing():
    torch.manual_seed(0)
    pool = TemporalPool(5, 4, motion=True)
    values, pixels = seeded(2, 3, 5), seeded(2, 3, 3, 4, 4)
    mask = torch.ones(2, 3).bool()
    expected = pool(values, mask, pixels)
    longer = torch.cat([values, torch.full((2, 4, 5), torch.nan)], 1)
    more = torch.cat([pixels, torch.full((2, 4, 3, 4, 4), 9.0)], 1)
    padded = pool(longer, torch.arange(7).expand(2, 7) < 3, more)
    assert torch.allclose(expected, padded, atol=1e-6)


def test_mean_deviation_and_steps_by_hand():
    pool = TemporalPool(1, 3)
    with torch.no_grad():
        pool.project.weight.copy_(torch.eye(3))
        pool.project.bias.zero_()
    values = torch.tensor([[[1.0], [3.0], [2.0]]])
    found = pool(values, torch.ones(1, 3).bool())[0]
    assert torch.allclose(found, torch.tensor([2.0, (2 / 3) ** 0.5, 1.5]), atol=1e-4)


def test_the_order_of_frames_is_seen():
    torch.manual_seed(0)
    pool = TemporalPool(5, 4)
    values, mask = seeded(1, 6, 5), torch.ones(1, 6).bool()
    assert not torch.allclose(pool(values, mask), pool(values[:, [0, 3, 1, 5, 2, 4]], mask))


def test_frozen_frames_have_the_least_motion():
    pixels = seeded(2, 4, 3, 8, 8)
    pixels[1, 2] = pixels[1, 1]
    mask = torch.ones(2, 4).bool()
    moving, frozen = motion_statistics(pixels, mask)
    still = torch.tensor(0.01).log() + 2
    assert torch.isclose(frozen[2], still) and moving[2] > 1 and frozen[1] > moving[1]


def test_one_frame_is_a_clip_without_motion():
    single = motion_statistics(seeded(2, 1, 3, 4, 4), torch.ones(2, 1).bool())
    masked = motion_statistics(seeded(2, 3, 3, 4, 4), torch.arange(3).expand(2, 3) < 1)
    assert single.shape == (2, NUM_MOTION) and torch.allclose(single, masked)
    assert torch.isfinite(TemporalPool(5, 4)(seeded(2, 1, 5), torch.ones(2, 1).bool())).all()
