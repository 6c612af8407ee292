import pytest
import torch

from coefvq.modules.fragments import FragmentConfig, FragmentProcessor

PLAIN = {"mean": (0.0,) * 3, "std": (1 / 255,) * 3}


def mosaics(clips=3, frames=2, side=6):
    generator = torch.Generator().manual_seed(0)
    shape = (clips, frames, 3, 7 * side, 7 * side)
    return torch.randint(0, 255, shape, generator=generator, dtype=torch.uint8)


def test_eval_reads_the_middle_of_each_stored_patch():
    frames = mosaics()
    read = FragmentProcessor(FragmentConfig(patch=4, **PLAIN)).eval()(frames)
    assert read.shape == (3, 2, 3, 28, 28)
    for i in range(7):
        for j in range(7):
            expected = frames[..., 6 * i + 1 : 6 * i + 5, 6 * j + 1 : 6 * j + 5].float()
            got = read[..., 4 * i : 4 * i + 4, 4 * j : 4 * j + 4]
            assert torch.allclose(got, expected, atol=1e-3)


def test_patches_that_fit_are_read_as_they_are():
    frames = mosaics(side=4)
    read = FragmentProcessor(FragmentConfig(patch=4, flip=False, **PLAIN))(frames)
    assert torch.allclose(read, frames.float(), atol=1e-3)


def test_training_moves_all_patches_of_a_clip_alike():
    frames = mosaics()
    processor = FragmentProcessor(FragmentConfig(patch=4, flip=False, **PLAIN)).train()
    torch.manual_seed(1)
    seen = set()
    for _ in range(20):
        read = processor(frames)
        for clip in range(3):
            steps = [
                (dy, dx)
                for dy in range(3)
                for dx in range(3)
                if torch.allclose(
                    read[clip],
                    torch.cat([
                        torch.cat([
                            frames[clip, ..., 6 * i + dy : 6 * i + dy + 4,
                                   6 * j + dx : 6 * j + dx + 4].float() for j in range(7)
                        ], -1) for i in range(7)
                    ], -2),
                    atol=1e-3,
                )
            ]  # fmt: skip
            assert len(steps) == 1
            seen.update(steps)
    assert len(seen) > 5


def test_training_mirrors_whole_clips():
    frames = mosaics(clips=20, side=4)
    torch.manual_seed(0)
    read = FragmentProcessor(FragmentConfig(patch=4, **PLAIN)).train()(frames)
    turned = [torch.allclose(r, f.float().flip(-1), atol=1e-3) for r, f in zip(read, frames)]  # noqa: B905
    assert 0 < sum(turned) < 20


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (torch.zeros(1, 1, 3, 28, 28), "expected uint8 mosaics"),
        (torch.zeros(1, 1, 3, 30, 30, dtype=torch.uint8), "whose side is a multiple of 7"),
        (torch.zeros(1, 1, 3, 28, 35, dtype=torch.uint8), "expected uint8 mosaics"),
        (torch.zeros(1, 1, 3, 21, 21, dtype=torch.uint8), "smaller than the model's 4"),
    ],
)
def test_other_frames_are_a_sentence(frames, words):
    with pytest.raises(ValueError, match=words):
        FragmentProcessor(FragmentConfig(patch=4))(frames)


def test_a_patch_of_nothing_is_refused():
    with pytest.raises(ValueError, match="a patch of at least 2 pixels"):
        FragmentConfig(patch=1)
