"""Small X-VLMs and batches that they can read, for the tests of modules, students and teachers."""

import torch

from coefvq.modules.frames import FrameConfig
from coefvq.modules.sound import SoundEncoderConfig
from coefvq.modules.vision import ConvEncoderConfig, SwinEncoderConfig
from coefvq.modules.xvlm import XVLMConfig
from coefvq.types import Batch

FRAMES = FrameConfig(size=16, mode="crop")


def small_trunk(**changes) -> XVLMConfig:
    """Two thousand times smaller than the published one, and built alike."""
    values = {
        "vocab_size": 40,
        "vision": ConvEncoderConfig(widths=(8, 16), width=24),
        "sound": SoundEncoderConfig(mel_bins=8, hidden=8),
        "width": 16,
        "heads": 2,
        "text_layers": 1,
        "cross_layers": 2,
        "max_text_length": 12,
        "max_frames": 6,
        "dropout": 0.0,
        "pool": "all",
    }
    return XVLMConfig(**{**values, **changes})


def small_swin(**changes) -> SwinEncoderConfig:
    """Two stages of two blocks for 32 pixels: maps of 8 and 4 patches, windows of 4."""
    values = {"embed_dim": 8, "depths": (2, 2), "num_heads": (1, 2), "window_size": 4}
    return SwinEncoderConfig(**{**values, "drop_path": 0.0, **changes})


def random_batch(clips: int = 3, *, frames: int = 2, size: int = 24, privileged: int = 5) -> Batch:
    """Noise in every field, with padding in some."""
    generator = torch.Generator().manual_seed(clips)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    frame_mask = torch.ones(clips, frames, dtype=torch.bool)
    frame_mask[1:, -1] = False
    text_mask = torch.arange(10).expand(clips, 10) < torch.arange(clips)[:, None] + 2
    audio_mask = torch.ones(clips, 20, dtype=torch.bool)
    audio_mask[-1] = False
    audio_mask[0, 12:] = False
    return Batch(
        ids=tuple(f"clip{i}" for i in range(clips)),
        frames=torch.randint(
            256, (clips, frames, 3, size, size), generator=generator, dtype=torch.uint8
        ),
        frame_mask=frame_mask,
        input_ids=torch.randint(5, 40, (clips, 10), generator=generator),
        text_mask=text_mask,
        audio=draw(clips, 8, 20),
        audio_mask=audio_mask,
        labels=(draw(clips) > 0).float(),
        label_mask=torch.ones(clips, dtype=torch.bool),
        privileged=draw(clips, privileged),
        privileged_mask=draw(clips, privileged) > -1,
    )
