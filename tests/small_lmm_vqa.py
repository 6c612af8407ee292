"""Small LMM-VQAs, and clips with motion that they can read."""

import torch

from coefvq.modules.mllm.config import LoraSettings
from coefvq.modules.mllm.language import LanguageConfig
from coefvq.modules.motion.encoder import MotionConfig
from coefvq.modules.quality_encoder import QualityEncoderConfig, SpatialConfig
from coefvq.modules.spatiotemporal import ProjectorConfig
from coefvq.teachers.lmm_vqa import LMMVQA
from coefvq.teachers.lmm_vqa_config import LMMVQAConfig
from coefvq.types import Batch

SPATIAL = SpatialConfig(width=16, layers=2, heads=2, feedforward=32, size=16, patch_size=8)
SLOWFAST = MotionConfig(frames=4, size=16, width=8, depths=(1, 1, 1, 1))
VIDEOMAE = MotionConfig(
    kind="videomae", frames=4, size=16, hidden=12, layers=1, heads=2, feedforward=24, patch_size=8
)
LANGUAGE = LanguageConfig(
    vocab_size=None, width=16, layers=2, heads=4, key_value_heads=2, feedforward=32
)
LORA = LoraSettings(rank=2, dropout=0.0)


def small_encoder(motion=SLOWFAST, **changes) -> QualityEncoderConfig:
    return QualityEncoderConfig(SPATIAL, motion, **changes)


def small_config(kind="mean", motion=SLOWFAST, **changes) -> LMMVQAConfig:
    values = {
        "encoder": small_encoder(motion),
        "projector": ProjectorConfig(kind, heads=2, feedforward=32),
        "language": LANGUAGE,
        "features_width": 10,
    }
    return LMMVQAConfig(**{**values, **changes})


def small_lmm_vqa(kind="mean", *, seed=0, score_range=(0.0, 100.0), **changes) -> LMMVQA:
    torch.manual_seed(seed)
    return LMMVQA(small_config(kind, **changes), score_range).eval()


def moving_clips(
    clips: int = 3, *, frames: int = 3, pictures: int = 4, size: int = 20, seed: int = 0
) -> Batch:
    """Clips of different numbers of frames, each with a chunk of video around it."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randint(256, shape, generator=generator, dtype=torch.uint8)

    real = torch.arange(frames).expand(clips, -1) <= torch.arange(clips)[:, None] % frames
    return Batch(
        ids=tuple(f"clip{i}" for i in range(clips)),
        frames=draw(clips, frames, 3, 24, 24),
        frame_mask=real,
        motion=draw(clips, frames, pictures, 3, size, size),
    )
