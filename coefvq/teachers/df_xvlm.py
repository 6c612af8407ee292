"""DF-X-VLM: X-VLM that also sees privileged dense features."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, Self, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coefvq.modules.checkpoints import Pretrained
from coefvq.modules.dense import DenseFeatureEncoder
from coefvq.modules.frames import FrameConfig, FrameProcessor
from coefvq.modules.heads import TaskHead
from coefvq.modules.pretrained import PretrainedMixin, check_weights
from coefvq.modules.xvlm import XVLM, XVLMConfig
from coefvq.types import Batch, TeacherOutput

Fusion = Literal["late_concat", "gated", "token"]
"""Where dense features meet the rest, see `DFXVLM`."""


class DFXVLM(PretrainedMixin, nn.Module):
    """Privileged teacher of CPFD (arXiv 2410.03038).

    Reconstruction: the published text says that the teacher is X-VLM plus dense features, not
    where they meet. With x the trunk's features and e the encoded dense features:

        late_concat   features = [x; e]
        gated         features = x + sigmoid(W [x; e]) · e
        token         e is one more memory token of the cross-modal layers; features = x

    Args:
        num_outputs: width of the head, `TaskSpec.num_outputs`.
        num_privileged: P, privileged features per clip.
        trunk: shape of the X-VLM trunk. None: dense features alone, no pixels; the better teacher
            where labels are few, because a trunk that reads pixels overfits them.
        frames: how frames are prepared; not needed without a trunk.
        fusion: see above; not read without a trunk.
        dense_width: of e under `late_concat` and without a trunk.
        dense_hidden: hidden width of the dense encoder; None: twice e's.
        feature_dropout: probability that a whole feature is hidden in training.
        dropout: in the dense encoder and in the head.
        trunk_dropout: on x before `late_concat` and `gated`, so that dense features are not left
            unlearned.
        pretrained: weights of the trunk to start from; None: random.
    """

    def __init__(
        self,
        num_outputs: int,
        num_privileged: int,
        trunk: XVLMConfig | None = None,
        frames: FrameConfig | None = None,
        *,
        fusion: Fusion = "late_concat",
        dense_width: int = 64,
        dense_hidden: int | None = None,
        feature_dropout: float = 0.1,
        dropout: float = 0.1,
        trunk_dropout: float = 0.0,
        pretrained: Pretrained | None = None,
    ) -> None:
        super().__init__()
        check_weights(pretrained, Pretrained)
        if fusion not in get_args(Fusion):
            raise ValueError(
                f"fusion {fusion!r} is unknown; choose one of {', '.join(get_args(Fusion))}"
            )
        if num_privileged < 1:
            raise ValueError(
                f"DF-X-VLM needs privileged features, got num_privileged={num_privileged}; "
                "name privileged columns in the data or choose another teacher"
            )
        if trunk is not None and frames is None:
            raise ValueError(
                "a DF-X-VLM with a trunk needs frames (how frames are prepared), got None; "
                "give the student's frames or set trunk=None"
            )
        self.fusion, self.trunk_dropout = fusion, trunk_dropout
        self.trunk = None if trunk is None else XVLM(trunk)
        self.frames = None if trunk is None or frames is None else FrameProcessor(frames)
        width, features_width = dense_width, dense_width
        if self.trunk is not None:
            features_width = self.trunk.features_width
            if fusion == "late_concat":
                features_width += dense_width
            else:
                width = features_width if fusion == "gated" else self.trunk.memory_width
        self.dense = DenseFeatureEncoder(
            num_privileged,
            width,
            hidden=dense_hidden,
            feature_dropout=feature_dropout,
            dropout=dropout,
        )
        gated = self.trunk is not None and fusion == "gated"
        self.gate = nn.Linear(2 * width, width) if gated else None
        self.head = TaskHead(features_width, num_outputs, dropout)
        self._arguments: dict[str, Any] = {
            "num_outputs": num_outputs,
            "num_privileged": num_privileged,
            "fusion": fusion,
            "dense_width": dense_width,
            "dense_hidden": dense_hidden,
            "feature_dropout": feature_dropout,
            "dropout": dropout,
            "trunk_dropout": trunk_dropout,
        }
        if pretrained is not None and self.trunk is not None:
            pretrained.load_into(self.trunk)

    def forward(self, batch: Batch) -> TeacherOutput:
        """Answer a batch.

        Raises:
            ValueError: the batch has no privileged features.
        """
        if batch.privileged is None:
            raise ValueError(
                "DF-X-VLM reads privileged features and this batch has none; "
                "use the student where they do not exist"
            )
        dense = self.dense(batch.privileged, batch.privileged_mask)
        features = dense if self.trunk is None else self._fuse(batch, dense)
        return TeacherOutput(logits=self.head(features), features=features)

    def _fuse(self, batch: Batch, dense: Tensor) -> Tensor:
        assert self.trunk is not None and self.frames is not None
        x = self.trunk(
            self.frames(batch.frames, self.trunk.dtype),
            batch.frame_mask,
            batch.input_ids,
            batch.text_mask,
            batch.audio,
            batch.audio_mask,
            extra_tokens=dense[:, None] if self.fusion == "token" else None,
        )
        if self.fusion == "token":
            return x
        x = F.dropout(x, self.trunk_dropout, self.training)
        both = torch.cat([x, dense], dim=-1)
        return both if self.gate is None else x + self.gate(both).sigmoid() * dense

    @property
    def config(self) -> dict[str, Any]:
        """Plain values that say the architecture."""
        trunk = None if self.trunk is None else self.trunk.config.to_dict()
        frames = None if self.frames is None else dataclasses.asdict(self.frames.config)
        return {**self._arguments, "trunk": trunk, "frames": frames}

    @classmethod
    def from_config(cls, values: Mapping[str, Any]) -> Self:
        """Make the teacher, randomly initialised, from what `config` gave."""
        trunk, frames = values["trunk"], values["frames"]
        return cls(
            **{
                **values,
                "trunk": None if trunk is None else XVLMConfig.from_dict(trunk),
                "frames": None if frames is None else FrameConfig(**frames),
            }
        )


__all__ = ["DFXVLM", "Fusion"]
