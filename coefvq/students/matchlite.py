"""MatchLite: is one clip a reproduction of the other? Cheap, because clips are read once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from coefvq.modules.bixt import BiXT
from coefvq.modules.clip_checkpoints import ClipCheckpoints
from coefvq.modules.clip_encoders import ClipEncoder, ClipEncoderConfig, ClipFeatures, Modalities
from coefvq.modules.decision import DecisionConfig, DecisionModule
from coefvq.modules.heads import TaskHead
from coefvq.modules.pair_maps import LearnedMaps, cosine_maps, unit_tokens
from coefvq.modules.pretrained import PretrainedMixin, check_weights
from coefvq.pairs import PairBatch, need_pairs
from coefvq.types import Batch, StudentOutput, Tensors

if TYPE_CHECKING:
    from coefvq.students.feature_store import FeatureStore


@dataclass(frozen=True)
class MatchLiteConfig:
    """Shape of a MatchLite; the defaults are the base size, 263 M with its encoders.

    Args:
        encoders: what reads a clip.
        modalities: `"V"`, `"V+T"`, `"V+A"` or `"V+A+T"`.
        width: D of the sequences that are mixed and compared.
        heads: attention heads of BiXT; they divide the width.
        layers: BiXT layers for each of (video, text) and (video, audio).
        map_channels: of each learned map.
        map_blocks: residual blocks of each learned map.
        decision: shape of the decision module.
        dropout: in BiXT and in the hidden layers of the heads.
        modality_dropout: in training, chance that a clip goes without its text, and the same for
            its sound, so that silent clips and clips without text are nothing new.
        symmetric: score (query, candidate) and (candidate, query) and give the mean, so that
            swapping changes nothing.
    """

    encoders: ClipEncoderConfig = field(default_factory=ClipEncoderConfig)
    modalities: Modalities = "V+A+T"
    width: int = 512
    heads: int = 8
    layers: int = 1
    map_channels: int = 64
    map_blocks: int = 1
    decision: DecisionConfig = field(default_factory=DecisionConfig)
    dropout: float = 0.0
    modality_dropout: float = 0.1
    symmetric: bool = False

    def __post_init__(self) -> None:
        for name in ("dropout", "modality_dropout"):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} is a chance from 0 to below 1, got {value}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is the way back."""
        return {**dataclasses.asdict(self), "encoders": self.encoders.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MatchLiteConfig:
        """Make a config from what `to_dict` gave."""
        encoders = ClipEncoderConfig.from_dict(values["encoders"])
        decision = DecisionConfig(**values["decision"])
        return cls(**{**values, "encoders": encoders, "decision": decision})


@dataclass(frozen=True)
class PreparedClips(Tensors):
    """B clips, mixed and ready to be compared with any other: all that is done once per clip.

    Args:
        units: (B, K, N, D) tokens of unit length, 0 where masked: for the cosine maps.
        mask: (B, K, N) bool, True where a token counts.
        as_query: (B, E, N, map_channels) what the clip brings to a learned map as query.
        as_candidate: (B, E, N, map_channels) and as candidate.
    """

    units: Tensor
    mask: Tensor
    as_query: Tensor
    as_candidate: Tensor

    def __len__(self) -> int:
        return len(self.units)

    def __getitem__(self, rows: slice | Tensor) -> PreparedClips:
        """Some of the clips, as indexing a tensor would give them."""
        return self._map(lambda tensor: tensor[rows])


class MatchLite(PretrainedMixin, nn.Module):
    """MatchLite of MatchLM2Lite (arXiv 2606.14786), reconstructed where its text leaves it open.

    Encoders give N tokens per modality and clip. BiXT mixes video with text and video with audio
    inside a clip: with the sequences before it (v, t, a) that makes seven (vt, tv, va, av). A
    pair has a learned map for v, vt and va and a cosine map for all seven; a ResNet-34 reads them
    as channels, its mean is `features`, and heads answer the main question and the sub-labels.
    Without text or audio the sequences of that modality, and their maps, do not exist.

    Reconstruction: N = 32 tokens by averaging; one width for all sequences, through layer norm
    and a linear map per modality; cosine 0 in padding; heads as in X-VLM.

    Args:
        config: see `MatchLiteConfig`.
        num_sub_labels: S; 0: no such head.
        pretrained: weights of the encoders to start from; None: random.

    Example:
        >>> from coefvq.modules.vision import ConvEncoderConfig
        >>> encoders = ClipEncoderConfig(
        ...     vision=ConvEncoderConfig(widths=(8, 8), width=8), tokens=8, cells=2, frozen=False
        ... )
        >>> decision = DecisionConfig(width=8, depths=(1, 1), stem="small")
        >>> config = MatchLiteConfig(encoders, "V", 16, 2, map_channels=4, decision=decision)
        >>> model = MatchLite(config).eval()
        >>> frames = torch.zeros(3, 2, 3, 32, 32, dtype=torch.uint8)
        >>> clips = Batch(("a", "b", "c"), frames, torch.ones(3, 2).bool())
        >>> features = model.encode(clips)
        >>> model.score(features, features).logits.shape
        torch.Size([3])
    """

    def __init__(
        self,
        config: MatchLiteConfig,
        num_sub_labels: int = 0,
        *,
        pretrained: ClipCheckpoints | None = None,
    ) -> None:
        super().__init__()
        check_weights(pretrained, ClipCheckpoints)
        self.shape, self.num_sub_labels = config, num_sub_labels
        self.encoder = ClipEncoder(config.encoders, config.modalities)
        self.project = nn.ModuleDict(
            {
                name: nn.Sequential(nn.LayerNorm(width), nn.Linear(width, config.width))
                for name, width in self.encoder.widths.items()
            }
        )
        others = [name for name in self.project if name != "video"]
        self.mixers = nn.ModuleDict(
            {
                name: BiXT(
                    layers=config.layers,
                    width=config.width,
                    heads=config.heads,
                    dropout=config.dropout,
                )
                for name in others
            }
        )
        norm, channels = config.decision.norm, config.map_channels
        learned, cosines = 1 + len(others), 1 + 3 * len(others)
        self.maps = LearnedMaps(learned, config.width, channels, config.map_blocks, norm)
        self.decision = DecisionModule(config.decision, learned * channels + cosines)
        width = self.features_width
        self.head = TaskHead(width, 1, config.dropout)
        self.sub_head = TaskHead(width, num_sub_labels, config.dropout) if num_sub_labels else None
        self._store: FeatureStore | None = None
        if pretrained is not None:
            pretrained.load_into(self.encoder)

    @property
    def features_width(self) -> int:
        """D of z_s, the features of a pair."""
        return self.shape.decision.features_width

    def use_store(self, store: FeatureStore | None) -> None:
        """Take features of clips from a store (and put them there) wherever clips are encoded.

        Raises:
            ValueError: the encoders are trained, so what they gave before is out of date, or the
                store is of other encoders.
        """
        if store is not None:
            store.check(self.encoder)
        self._store = store

    def _load_weights(self, folder: str | Path) -> None:
        super()._load_weights(folder)
        if self._store is not None:  # it is of the encoders as they were
            self._store.check(self.encoder)

    def encode(self, clips: Batch | ClipFeatures) -> ClipFeatures:
        """Give what the encoders know of each clip; features are given back as they are."""
        if isinstance(clips, ClipFeatures):
            return clips
        if self._store is not None:
            return self._store.encode(self.encoder, clips)
        features: ClipFeatures = self.encoder(clips)
        return features

    def prepare(self, features: ClipFeatures) -> PreparedClips:
        """Mix the modalities of each clip: the rest of what is done once per clip."""
        video = self.project["video"](features.video)
        video_mask = features.video_mask
        video = video.masked_fill(~video_mask[..., None], 0.0)
        # v first, then what the other sequences are; learned maps take the first of each.
        learned, cosines = [(video, video_mask)], [(video, video_mask)]
        for name, mixer in self.mixers.items():
            tokens, mask = getattr(features, name), getattr(features, f"{name}_mask")
            if tokens is None:
                raise ValueError(
                    f"features have no {name}, the model reads {self.shape.modalities}; "
                    "encode the clips with this model"
                )
            mask = self._drop(mask)
            other = self.project[name](tokens).masked_fill(~mask[..., None], 0.0)
            seen, answered = mixer(video, other, video_mask, mask)
            learned.append((seen, video_mask))
            cosines += [(other, mask), (seen, video_mask), (answered, mask)]
        mask = torch.stack([mask for _, mask in cosines], dim=1)
        units = unit_tokens(torch.stack([tokens for tokens, _ in cosines], dim=1), mask)
        pairs = self.maps.project(torch.stack([tokens for tokens, _ in learned], dim=1))
        return PreparedClips(units, mask, *pairs)

    def _drop(self, mask: Tensor) -> Tensor:
        """Modality dropout: in training, some clips go without."""
        if not self.training or not self.shape.modality_dropout:
            return mask
        kept = torch.rand(len(mask), 1, device=mask.device) >= self.shape.modality_dropout
        return mask & kept

    def compare(self, query: PreparedClips, candidate: PreparedClips) -> StudentOutput:
        """Score B prepared queries against B prepared candidates."""
        features = self._one_way(query, candidate)
        answers = [self._answer(features)]
        if self.shape.symmetric:
            answers.append(self._answer(self._one_way(candidate, query)))
        if len(answers) == 1:
            return answers[0]
        there, back = answers
        sub = None
        if there.sub_logits is not None and back.sub_logits is not None:
            sub = (there.sub_logits + back.sub_logits) / 2
        assert there.features is not None and back.features is not None
        logits, features = there.logits + back.logits, there.features + back.features
        return StudentOutput(logits / 2, features / 2, sub)

    def _one_way(self, query: PreparedClips, candidate: PreparedClips) -> Tensor:
        learned = query.as_query.shape[1]
        # Learned maps are of v, vt, va: all of them lie over the frames.
        frames = [mask[:, :1].expand(-1, learned, -1) for mask in (query.mask, candidate.mask)]
        maps = self.maps(query.as_query, candidate.as_candidate, *frames)
        maps = torch.cat([maps, cosine_maps(query.units, candidate.units)], dim=1)
        features: Tensor = self.decision(maps)
        return features

    def _answer(self, features: Tensor) -> StudentOutput:
        sub = None
        if self.sub_head is not None:
            sub = self.sub_head(features).view(-1, self.num_sub_labels)
        return StudentOutput(self.head(features), features, sub)

    def score(self, query: ClipFeatures, candidate: ClipFeatures) -> StudentOutput:
        """Score B queries against B candidates from the features of their clips.

        Returns:
            logits (B,), features (B, D) = z_s, sub_logits (B, S) where there is such a head.
        """
        return self.compare(self.prepare(query), self.prepare(candidate))

    def forward(self, batch: PairBatch) -> StudentOutput:
        """Answer a batch of pairs; only its public part is read.

        Raises:
            ValueError: the batch is of single clips.
        """
        need_pairs(batch, "MatchLite", "a student of single clips")
        return self.score(self.encode(batch.query), self.encode(batch.candidate))

    @property
    def config(self) -> dict[str, Any]:
        """Plain values that say the architecture."""
        return {"num_sub_labels": self.num_sub_labels, "model": self.shape.to_dict()}

    @classmethod
    def from_config(cls, values: Mapping[str, Any]) -> Self:
        """Make the student, randomly initialised, from what `config` gave."""
        return cls(MatchLiteConfig.from_dict(values["model"]), values["num_sub_labels"])


__all__ = ["MatchLite", "MatchLiteConfig", "PreparedClips"]
