"""A quality model's spatial encoder of frames and temporal one of chunks, frozen as published."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel, PreTrainedConfig

from coefvq.modules.clip_encoders import ClipRows
from coefvq.modules.frames import FrameConfig, FrameMode, FrameProcessor
from coefvq.modules.mllm.architecture import plain
from coefvq.modules.motion.encoder import MotionConfig, open_motion
from coefvq.modules.residuals import NUM_RESIDUALS, residual_statistics
from coefvq.modules.temporal import NUM_MOTION, motion_statistics
from coefvq.types import Batch

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of CLIP's pictures."""
LUMA, GREY_STD = (0.299, 0.587, 0.114), 57.0
"""Weights of the colours, and about how far grey levels of 0 to 255 spread."""


@dataclass(frozen=True)
class SpatialConfig:
    """CLIP's vision transformer; the defaults are ViT-L/14, which LMM-VQA uses.

    Args:
        model_name_or_path: a folder that `save_pretrained` wrote (of a CLIP or its vision part) or
            a Hugging Face name: its weights, and its shape in place of what is below except
            `layer` and `mode`. None: random weights.
        width: D of the tokens.
        layers: how many.
        heads: they divide the width.
        feedforward: hidden width of a layer.
        size: side of the frames that it reads, in pixels.
        patch_size: side of a patch, in pixels.
        layer: whose states are the tokens, -1 the last.
        mode: `"resize"` shows the whole frame, as published; `"crop"` its middle as it is:
            resizing hides what picture quality is about, and with `data.frame_size` above `size`
            the frames are large enough to cut from.
        source: `"frames"`, or `"chunks"`: the middle picture of each chunk of video, which is what
            is on the screen at the frame's time. For data whose frames are fragments, because a
            student reads those.
        architecture: a transformers config as plain values, in place of the shape above; what
            saved models hold.
    """

    model_name_or_path: str | None = None
    width: int = 1024
    layers: int = 24
    heads: int = 16
    feedforward: int = 4096
    size: int = 224
    patch_size: int = 14
    layer: int = -1
    mode: FrameMode = "resize"
    source: Literal["frames", "chunks"] = "frames"
    architecture: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.source not in ("frames", "chunks"):
            raise ValueError(f"source is 'frames' or 'chunks', got {self.source!r}")

    def open(self) -> CLIPVisionModel:
        """Make the network.

        Raises:
            ValueError: there is no CLIP where the name points to.
        """
        source = self.model_name_or_path
        if source is not None:
            try:
                found = PreTrainedConfig.get_config_dict(source)[0].get("model_type")
                if found not in ("clip", "clip_vision_model"):
                    raise ValueError(f"it is a {found}")
                model: CLIPVisionModel = CLIPVisionModel.from_pretrained(source)
            except (OSError, ValueError) as error:
                raise ValueError(
                    f"model_name_or_path {source!r} could not be opened as a CLIP "
                    f"({str(error).splitlines()[0]}); give a folder that transformers' "
                    "save_pretrained wrote, or a Hugging Face name"
                ) from error
            return model
        if self.architecture is not None:
            return CLIPVisionModel(CLIPVisionConfig.from_dict(dict(self.architecture)))
        return CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=self.width,
                num_hidden_layers=self.layers,
                num_attention_heads=self.heads,
                intermediate_size=self.feedforward,
                image_size=self.size,
                patch_size=self.patch_size,
            )
        )


@dataclass(frozen=True)
class QualityEncoderConfig:
    """Both encoders.

    Args:
        spatial: of frames.
        motion: of chunks; None: the model sees no motion.
        tokens: `"mean"`: spatial tokens are averaged over the frames of a clip, which is all that
            the projector of that name asks for; `"frames"`: those of each frame are kept.
        train_spatial: also train the spatial encoder (for random weights).
        train_motion: also train the temporal encoder.
        residual_scales: sizes at which statistics of high-pass residuals are taken of each chunk's
            pictures and stand, with how much the pixels change, behind its vector
            (`chunk_statistics`). 0, as published: encoders that were trained on millions of
            pictures know what blur and noise look like; random ones learn it too slowly.
    """

    spatial: SpatialConfig = field(default_factory=SpatialConfig)
    motion: MotionConfig | None = field(default_factory=MotionConfig)
    tokens: Literal["mean", "frames"] = "mean"
    train_spatial: bool = False
    train_motion: bool = False
    residual_scales: int = 0

    def __post_init__(self) -> None:
        if self.residual_scales < 0:
            raise ValueError(
                f"residual_scales is a number of picture sizes from 0, got {self.residual_scales}"
            )

    @property
    def frozen(self) -> bool:
        """Whether a clip's features never change."""
        return not self.train_spatial and not (self.train_motion and self.motion is not None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is the way back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> QualityEncoderConfig:
        """Make a config from what `to_dict` gave."""
        motion = values["motion"]
        made = {
            "spatial": SpatialConfig(**values["spatial"]),
            "motion": None if motion is None else MotionConfig(**motion),
        }
        return cls(**{**values, **made})


@dataclass(frozen=True)
class QualityFeatures(ClipRows):
    """What the encoders know of B clips.

    Args:
        spatial: (B, G, N, D) tokens; G is F, or 1 where they were averaged over the frames.
        frame_mask: (B, F) bool, True where a frame is real.
        motion: (B, F, M) one vector per chunk; None where there is no temporal encoder.
    """

    spatial: Tensor
    frame_mask: Tensor
    motion: Tensor | None = None

    def __len__(self) -> int:
        return len(self.spatial)


class QualityEncoder(nn.Module):
    """Frames and chunks of a clip as tokens.

    Args:
        config: see `QualityEncoderConfig`.
    """

    features_class: ClassVar[type[QualityFeatures]] = QualityFeatures

    def __init__(self, config: QualityEncoderConfig) -> None:
        super().__init__()
        self.spatial = config.spatial.open()
        shape: Any = self.spatial.config
        self.motion = None if config.motion is None else open_motion(config.motion)
        # What was opened says its own shape, so that equal models have equal configs.
        spatial = SpatialConfig(
            size=shape.image_size,
            layer=config.spatial.layer,
            mode=config.spatial.mode,
            source=config.spatial.source,
            architecture=plain(shape),
        )
        motion = None if self.motion is None else self.motion.config
        self.config = dataclasses.replace(config, spatial=spatial, motion=motion)
        self.frames = FrameProcessor(
            FrameConfig(size=shape.image_size, mode=spatial.mode, flip=False, mean=MEAN, std=STD),
            "motion_size" if spatial.source == "chunks" else "frame_size",
        )
        self.requires_grad_(False)
        self.spatial.requires_grad_(config.train_spatial)
        if self.motion is not None:
            self.motion.requires_grad_(config.train_motion)
        self.train(self.training)

    @property
    def widths(self) -> dict[str, int]:
        """D of the spatial tokens and M of the chunks."""
        widths = {"spatial": int(self.spatial.config.hidden_size)}
        if self.motion is not None:
            widths["motion"] = self.motion.width
        if self.config.residual_scales:
            known = NUM_MOTION + 2 * NUM_RESIDUALS * self.config.residual_scales
            widths["motion"] = widths.get("motion", 0) + known
        return widths

    def train(self, mode: bool = True) -> Self:
        """Set the mode; what is frozen stays in eval mode."""
        super().train(mode)
        if not self.config.train_spatial:
            self.spatial.eval()
            self.frames.eval()  # the middle of each frame, always: a clip has one set of features
        if self.motion is not None and not self.config.train_motion:
            self.motion.eval()
        return self

    def forward(self, batch: Batch) -> QualityFeatures:
        """Encode the clips of a batch; only its public part is read.

        Raises:
            ValueError: the batch has no chunks and there is a temporal encoder.
        """
        chunks, scales = batch.motion, self.config.residual_scales
        if chunks is None and (self.motion or scales or self.config.spatial.source == "chunks"):
            number = "so many pictures" if self.motion is None else self.motion.frames
            raise ValueError(
                "the batch has no chunks of video, which the temporal encoder reads; set "
                f"data.motion_frames={number} (and data.motion_size), or the model's motion to null"
            )
        grad, real = torch.is_grad_enabled(), batch.frame_mask
        with torch.set_grad_enabled(grad and self.config.train_spatial):
            spatial = self._see(batch)
        if chunks is None or not (self.motion or scales):
            return QualityFeatures(spatial, real)
        parts = []
        if self.motion is not None:
            with torch.set_grad_enabled(grad and self.config.train_motion):
                parts.append(self.motion(chunks[real]))
        if scales:
            parts.append(chunk_statistics(chunks[real], scales).to(spatial.dtype))
        found = torch.cat(parts, dim=-1)
        motion = found.new_zeros(*real.shape, found.shape[-1])
        return QualityFeatures(spatial, real, motion.masked_scatter(real[..., None], found))

    def _see(self, batch: Batch) -> Tensor:
        dtype = next(self.spatial.parameters()).dtype
        frames = batch.frames
        if self.config.spatial.source == "chunks":
            assert batch.motion is not None
            frames = batch.motion[:, :, batch.motion.shape[2] // 2]
        pixels, real = self.frames(frames, dtype), batch.frame_mask
        last = self.config.spatial.layer == -1
        found = self.spatial(pixels[real], output_hidden_states=not last)
        states = found.last_hidden_state if last else found.hidden_states[self.config.spatial.layer]
        tokens = states.new_zeros(*real.shape, *states.shape[1:])
        tokens = tokens.masked_scatter(real[..., None, None], states)
        if self.config.tokens == "frames":
            return tokens
        count = real.sum(1).clamp(min=1).view(-1, 1, 1, 1)
        return tokens.sum(1, keepdim=True) / count


@torch.no_grad()
def chunk_statistics(chunks: Tensor, scales: int) -> Tensor:
    """What blur, noise, compression and freezing leave in a chunk, without any parameter.

    Args:
        chunks: (N, K, 3, h, w) uint8 RGB.
        scales: sizes; h and w must be at least 2^(scales − 1).

    Returns:
        (N, 8 · scales + 3) float32: mean and deviation of the residuals of
        `coefvq.modules.residuals`, averaged over the pictures, and `motion_statistics`.
    """
    weights = chunks.new_tensor(LUMA, dtype=torch.float32)
    grey = torch.einsum("nkchw,c->nkhw", chunks.float(), weights)
    _, found = residual_statistics(grey.flatten(0, 1), scales)
    shown = torch.ones(chunks.shape[:2], dtype=torch.bool, device=chunks.device)
    change = motion_statistics(grey[:, :, None] / GREY_STD, shown)
    return torch.cat([found.view(*chunks.shape[:2], -1).mean(1), change], dim=-1)


__all__ = [
    "QualityEncoder",
    "QualityEncoderConfig",
    "QualityFeatures",
    "SpatialConfig",
    "chunk_statistics",
]
