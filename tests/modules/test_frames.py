import pytest
import torch

from coefvq.modules.frames import FrameConfig, FrameProcessor, thin_frames


def plain(size, **changes):
    """A processor that leaves pixel values as they are."""
    values = {"mode": "crop", "flip": False, "mean": (0, 0, 0), "std": (1 / 255,) * 3}
    return FrameProcessor(FrameConfig(size=size, **{**values, **changes}))


def numbered(clips=40, frames=2, height=9, width=11):
    """Every pixel says where it is (row · 16 + column), every clip and frame alike."""
    places = torch.arange(height)[:, None] * 16 + torch.arange(width)
    return places.to(torch.uint8).expand(clips, frames, 3, height, width).contiguous()


def test_eval_takes_the_centre_without_mirror():
    crop = plain(5, flip=True).eval()(numbered())
    expected = (torch.arange(2, 7)[:, None] * 16 + torch.arange(3, 8)).float()
    torch.testing.assert_close(crop, expected.expand_as(crop))


def test_random_crops_are_windows_shared_by_the_frames_of_a_clip():
    torch.manual_seed(0)
    crops = plain(5).train()(numbered()).round()
    assert torch.equal(crops[:, 0], crops[:, 1])
    assert torch.equal(crops[:, :, 0], crops[:, :, 2])
    corners = crops[:, 0, 0, 0, 0]
    window = torch.arange(5)[:, None] * 16 + torch.arange(5)
    assert torch.equal(crops[:, 0, 0], corners[:, None, None] + window)
    # 5 rows and 7 columns to begin at; forty clips see both ends of each.
    rows, columns = (corners // 16).int(), (corners % 16).int()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 4, 0, 6)


def test_half_of_the_clips_are_mirrored_whole():
    torch.manual_seed(0)
    frames = numbered(clips=200, height=6, width=6)
    crops = plain(6, flip=True).train()(frames).round()
    mirrored = crops[:, 0, 0, 0, 0] != 0
    assert 60 < mirrored.sum() < 140
    expected = torch.where(mirrored.view(-1, 1, 1, 1, 1), frames.flip(-1), frames).float()
    assert torch.equal(crops, expected)


def test_training_draws_from_the_global_generator():
    processor, frames = plain(5, flip=True).train(), numbered()
    torch.manual_seed(3)
    first = processor(frames)
    assert not torch.equal(first, processor(frames))
    torch.manual_seed(3)
    assert torch.equal(first, processor(frames))


def test_eval_size_replaces_size_in_eval_mode_only():
    processor = plain(5, eval_size=8)
    assert processor.eval()(numbered()).shape[-2:] == (8, 8)
    assert processor.train()(numbered()).shape[-2:] == (5, 5)


def test_resize_shows_the_whole_frame():
    frames = numbered(clips=1, height=8, width=8)
    small = plain(4, mode="resize").eval()(frames)
    # The filter is symmetric, so the mean of a linear ramp stays.
    torch.testing.assert_close(small.mean(), frames.float().mean())
    same = plain(8, mode="resize").eval()(frames)
    torch.testing.assert_close(same, frames.float())


def test_normalisation_in_closed_form():
    processor = FrameProcessor(FrameConfig(size=4, mode="crop", flip=False)).eval()
    frames = torch.full((1, 1, 3, 4, 4), 51, dtype=torch.uint8)  # 0.2
    expected = [(0.2 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    torch.testing.assert_close(processor(frames)[0, 0, :, 0, 0], torch.tensor(expected))
    assert processor(frames, torch.bfloat16).dtype == torch.bfloat16
    assert not processor.state_dict()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: FrameConfig(mode="pad"),
            "frame mode 'pad' is unknown; choose one of crop, resize",
        ),
        (lambda: FrameConfig(eval_size=64), "eval_size=64 needs mode='crop'"),
        (lambda: plain(16)(numbered()), "frames of 9x11 pixels are smaller than the crop of 16"),
        (lambda: plain(4)(numbered().float()), "frames must be uint8"),
    ],
)
def test_sentences(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_thinned_frames_are_spread_over_those_that_a_clip_has():
    frames = torch.arange(8).view(1, 8, 1, 1, 1).expand(4, -1, -1, -1, -1)
    mask = torch.arange(8) < torch.tensor([[8], [5], [3], [1]])
    mask[1] = mask[1].flip(0)  # the last five
    kept, kept_mask = thin_frames(frames, mask, 3)
    assert kept.flatten(1).tolist()[:3] == [[1, 4, 6], [3, 5, 7], [0, 1, 2]]
    assert kept[3, 0].item() == 0
    assert kept_mask.tolist() == [[True] * 3] * 3 + [[True, False, False]]
    same, same_mask = thin_frames(frames, mask, 8)
    assert torch.equal(same[0], frames[0]) and same_mask.sum(1).tolist() == [8, 5, 3, 1]
