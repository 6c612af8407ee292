"""What every temporal encoder does with chunks, and how flat values open one."""

import dataclasses

import pytest
import torch
from torch import nn

from coefvq.modules.motion.encoder import MotionConfig, MotionEncoder, open_motion
from coefvq.modules.motion.slowfast import SlowFast
from coefvq.modules.motion.transformers import TransformerMotion

TINY = MotionConfig(
    frames=4,
    size=16,
    width=8,
    depths=[1, 1, 1, 1],
    hidden=8,
    layers=1,
    heads=2,
    feedforward=16,
    patch_size=8,
)


class Seen(MotionEncoder):
    """Gives back the brightness of the pictures that it was shown."""

    width = 4
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def __init__(self, dtype=torch.float32, **options):
        super().__init__(**{"frames": 4, "size": 8, **options})
        self.weight = nn.Parameter(torch.ones((), dtype=dtype))

    @property
    def config(self):
        return TINY

    def encode(self, pixels):
        self.pixels = pixels
        return 255 * pixels.float().mean((2, 3, 4))


def numbered(pictures, chunks=2, size=8):
    """Chunks whose picture k is of brightness k, in the second chunk of 100 + k."""
    grey = torch.arange(pictures) + 100 * torch.arange(chunks)[:, None]
    return grey.to(torch.uint8).view(chunks, pictures, 1, 1, 1).expand(-1, -1, 3, size, size)


@pytest.mark.parametrize(
    ("pictures", "places"),
    [
        (4, [0, 1, 2, 3]),
        # The middles of four equal parts, which start at 0, 2, 4, 6.
        (8, [1, 3, 5, 7]),
        (6, [0, 2, 3, 5]),
        # Again, where there are too few.
        (2, [0, 0, 1, 1]),
        (1, [0, 0, 0, 0]),
    ],
)
def test_pictures_are_taken_evenly(pictures, places):
    found = Seen().eval()(numbered(pictures))
    expected = torch.tensor([places, [100 + place for place in places]]).float()
    torch.testing.assert_close(found, expected)


def test_pictures_come_in_the_networks_own_size_and_precision():
    network = Seen(torch.bfloat16).eval()
    assert network(numbered(4, size=12)).shape == (2, 4)
    assert network.pixels.shape == (2, 4, 3, 8, 8) and network.pixels.dtype == torch.bfloat16


def test_pictures_are_normalised_and_never_mirrored():
    network = Seen().train()
    half = torch.zeros(1, 4, 3, 8, 8, dtype=torch.uint8)
    half[..., 4:] = 255
    for _ in range(5):
        network(half)
        assert torch.equal(network.pixels, half / 255)

    class Imagenet(Seen):
        mean, std = MotionEncoder.mean, MotionEncoder.std

    network = Imagenet().eval()
    network(torch.full((1, 4, 3, 8, 8), 255, dtype=torch.uint8))
    white = torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    torch.testing.assert_close(network.pixels[0, 0, :, 0, 0], white)


def test_a_crop_shows_the_middle_as_it_is():
    chunks = torch.randint(256, (2, 4, 3, 12, 14), dtype=torch.uint8)
    network = Seen(mode="crop").eval()
    network(chunks)
    assert torch.equal(network.pixels, chunks[..., 2:10, 3:11] / 255)
    with pytest.raises(ValueError, match=r"smaller than the crop of 8; raise data\.motion_size"):
        network(chunks[..., :7])


def test_chunks_are_bytes():
    with pytest.raises(ValueError, match="must be uint8"):
        Seen()(numbered(4).float())


def test_a_kind_opens_its_network():
    assert isinstance(open_motion(TINY), SlowFast)
    for kind in ("videomae", "vjepa2"):
        network = open_motion(dataclasses.replace(TINY, kind=kind))
        assert isinstance(network, TransformerMotion) and network.config.kind == kind


def test_depths_from_a_list_are_those_from_a_tuple():
    assert TINY.depths == (1, 1, 1, 1) and hash(TINY.depths)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"kind": "optical_flow"},
            "motion kind 'optical_flow' is unknown; choose one of slowfast, ",
        ),
        ({"frames": 30}, "alpha=4 must divide frames=30 and beta=8 must divide width=64; change"),
        ({"width": 20}, "alpha=4 must divide frames=32 and beta=8 must divide width=20; change"),
        ({"kind": "vjepa2", "hidden": 20}, "heads=12 must divide its hidden=20; change"),
    ],
)
def test_shapes_that_cannot_be_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        MotionConfig(**options)


def test_pathways_are_slowfasts_alone():
    assert MotionConfig(kind="videomae", frames=30, width=20).frames == 30
    assert MotionConfig(hidden=20).heads == 12  # and heads are a transformer's
