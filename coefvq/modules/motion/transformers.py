"""Video transformers as temporal encoders: VideoMAE (2022) and V-JEPA 2 (2025)."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import (
    PreTrainedConfig,
    PreTrainedModel,
    VideoMAEConfig,
    VideoMAEModel,
    VJEPA2Config,
    VJEPA2Model,
)

from coefvq.modules.mllm.architecture import plain
from coefvq.modules.motion.encoder import MotionConfig, MotionEncoder

CLASSES: dict[str, type[PreTrainedModel]] = {"videomae": VideoMAEModel, "vjepa2": VJEPA2Model}
"""transformers' classes by kind."""


class TransformerMotion(MotionEncoder):
    """The mean over the tokens of the last layer.

    Args:
        config: of kind `"videomae"` or `"vjepa2"`.

    Raises:
        ValueError: a checkpoint that cannot be opened or is of another kind.
    """

    def __init__(self, config: MotionConfig) -> None:
        model, kind = _open(config), config.kind
        shape: Any = model.config
        if kind == "videomae":
            super().__init__(shape.num_frames, shape.image_size, config.mode)
        else:
            super().__init__(shape.frames_per_clip, shape.crop_size, config.mode)
        self.kind, self.model = kind, model
        self.width = int(shape.hidden_size)

    @property
    def config(self) -> MotionConfig:
        """The shape, as transformers says it."""
        return MotionConfig(
            kind=self.kind,
            frames=self.frames,
            size=self.size,
            mode=self.mode,
            architecture=plain(self.model.config),
        )

    def encode(self, pixels: Tensor) -> Tensor:
        """(N, frames, 3, size, size) -> (N, width)."""
        # V-JEPA's predictor fills in what was hidden; nothing is here.
        options: dict[str, Any] = {"skip_predictor": True} if self.kind == "vjepa2" else {}
        tokens: Tensor = self.model(pixels, **options).last_hidden_state
        return tokens.mean(1)


def _open(config: MotionConfig) -> PreTrainedModel:
    kind = CLASSES[config.kind]
    source = config.model_name_or_path
    if source is not None:
        try:
            found = PreTrainedConfig.get_config_dict(source)[0].get("model_type")
            if found != config.kind:
                raise ValueError(f"it is a {found}")
            model: PreTrainedModel = kind.from_pretrained(source)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"model_name_or_path {source!r} could not be opened as {config.kind} "
                f"({str(error).splitlines()[0]}); give a folder that transformers' save_pretrained "
                "wrote, or a Hugging Face name"
            ) from error
        return model
    if config.architecture is not None:
        return kind(kind.config_class.from_dict(dict(config.architecture)))
    if config.kind == "videomae":
        return kind(
            VideoMAEConfig(
                image_size=config.size,
                patch_size=config.patch_size,
                num_frames=config.frames,
                tubelet_size=config.tubelet,
                hidden_size=config.hidden,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                intermediate_size=config.feedforward,
            )
        )
    return kind(
        VJEPA2Config(
            crop_size=config.size,
            patch_size=config.patch_size,
            frames_per_clip=config.frames,
            tubelet_size=config.tubelet,
            hidden_size=config.hidden,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            mlp_ratio=config.feedforward / config.hidden,
            # Of the predictor, which is never run.
            pred_hidden_size=config.hidden,
            pred_num_hidden_layers=1,
            pred_num_attention_heads=config.heads,
            pred_num_mask_tokens=1,
        )
    )


__all__ = ["CLASSES", "TransformerMotion"]
