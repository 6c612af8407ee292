import pytest
import torch

from coefvq.data.pairs.alter import (
    BANNER,
    alter_frames,
    chance,
    part_of_frames,
    part_of_sound,
    uniform,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(rows=64, frames=3, height=24, width=32):
    return torch.randint(0, 256, (rows, frames, 3, height, width), dtype=torch.uint8,
                         generator=seeded(1))  # fmt: skip


def test_draws_stay_in_their_ranges():
    drawn = uniform(1000, 0.4, 0.6, seeded())
    assert 0.4 <= drawn.min() < 0.41 and 0.59 < drawn.max() <= 0.6
    assert 0.15 < chance(1000, 0.2, seeded()).float().mean() < 0.25
    assert not chance(1000, 0.0, seeded()).any() and chance(1000, 1.0, seeded()).all()


def test_a_part_has_its_own_frames_only():
    frames = torch.arange(8).reshape(1, 8, 1, 1, 1).expand(2, 8, 3, 1, 1)
    mask = torch.ones(2, 8, dtype=torch.bool)
    shown = part_of_frames(frames, mask, torch.tensor([0.0, 0.5]), torch.tensor([0.5, 1.0]))
    assert shown[:, :, 0, 0, 0].tolist() == [[0, 0, 1, 1, 2, 2, 3, 3], [4, 4, 5, 5, 6, 6, 7, 7]]
    whole = part_of_frames(frames, mask, torch.zeros(2), torch.ones(2))
    assert torch.equal(whole, frames)


def test_padding_is_never_shown():
    frames = torch.arange(6).reshape(1, 6, 1, 1, 1).expand(2, 6, 3, 1, 1)
    mask = torch.tensor([[False, True, False, True, True, False], [False] * 6])
    shown = part_of_frames(frames, mask, torch.zeros(2), torch.ones(2))[:, :, 0, 0, 0]
    assert shown[0].tolist() == [1, 1, 3, 3, 4, 4]
    assert shown.shape == (2, 6)  # no frame at all is no error


def test_a_part_of_the_sound_moves_to_the_beginning():
    audio = torch.arange(10.0).expand(2, 4, 10)
    mask = torch.arange(10)[None] < torch.tensor([[10], [4]])
    part, heard = part_of_sound(audio, mask, torch.tensor([0.5, 0.5]), torch.ones(2))
    assert part[0, 0].tolist() == [5, 6, 7, 8, 9, 0, 0, 0, 0, 0]
    assert part[1, 3].tolist() == [2, 3, 0, 0, 0, 0, 0, 0, 0, 0]
    assert heard.sum(1).tolist() == [5, 2] and heard[0, :5].all() and heard[1, :2].all()


def test_silence_stays_silence():
    audio, mask = torch.ones(1, 2, 5), torch.zeros(1, 5, dtype=torch.bool)
    part, heard = part_of_sound(audio, mask, torch.zeros(1), torch.ones(1))
    assert not heard.any() and not part.any()


def test_pictures_change_alike_within_a_clip():
    still = pictures(frames=1).expand(-1, 3, -1, -1, -1)
    altered = alter_frames(still, seeded())
    assert altered.shape == still.shape and altered.dtype == torch.uint8
    assert torch.equal(altered[:, 0], altered[:, 1]) and torch.equal(altered[:, 0], altered[:, 2])
    assert (altered != still).flatten(1).any(1).all()  # no copy is the original


def test_the_same_generator_makes_the_same_copies():
    frames = pictures(4)
    one, two, other = (alter_frames(frames, seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_what_is_done_is_what_is_said():
    """On a ramp from left to right: the order of its ends says who was mirrored, and so on."""
    rows, height, width = 600, 40, 40
    ramp = torch.linspace(60, 200, width).round().to(torch.uint8)
    frames = ramp.expand(rows, 1, 3, height, width)
    altered = alter_frames(frames, seeded())[:, 0].float()
    middle = altered[:, 0, height // 2]
    mirrored = middle[:, width // 2 - 4] > middle[:, width // 2 + 4]
    assert mirrored.float().mean() == pytest.approx(0.25, abs=0.06)
    black = (altered[:, :, :, 0] == 0).all(1).sum(1) > height // 3
    assert 0.15 < black.float().mean() < 0.3  # shrunk between bars, or bent beyond the edges
    # A banner is one colour from edge to edge, at the top or at the bottom and nowhere else.
    flat = ((altered.amax(3) - altered.amin(3)).amax(1) == 0) & altered.amax((1, 3)).gt(0)
    top, bottom = flat[:, 0], flat[:, -1]
    assert (top | bottom).float().mean() == pytest.approx(0.2, abs=0.06)
    assert not (top & bottom).any()
    within = round(BANNER * height) + 1
    assert not flat[:, within : height - within].any()
