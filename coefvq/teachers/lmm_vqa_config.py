"""Shape of LMM-VQA, as flat values that a recipe can hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from coefvq.modules.mllm.config import LoraSettings, made
from coefvq.modules.mllm.language import LanguageConfig
from coefvq.modules.mllm.quality_prompts import QuestionKind
from coefvq.modules.quality_encoder import QualityEncoderConfig
from coefvq.modules.spatiotemporal import ProjectorConfig

ReadOutKind = Literal["number", "level", "head"]
"""What the score is made from, see `LMMVQAConfig`."""

Decoding = Literal["expectation", "greedy"]
"""How a score is made of what the language model says, see `LMMVQAConfig`."""

Uncertainty = Literal["spread", "wordings"]
"""What `TeacherOutput.score_std` is, see `LMMVQAConfig`."""


@dataclass(frozen=True)
class LMMVQAConfig:
    """Encoders, projector, language model, and how its answers are read.

    Args:
        encoder: spatial and temporal encoder; its `tokens` follow from the projector's kind.
        projector: see `SpatioTemporalProjector`; it is always trained.
        language: the language model; frozen unless it has adapters or `train_language` is set.
        lora: adapters on its linear layers; None: none.
        read_out: `"number"`: the answer to a question for a number from 0 to 100, which the
            grammar of the answers keeps a number. `"level"`: that to a question for one of the
            level words, the best worth 1, the worst 0, evenly in between. `"head"`: a regression
            head on the state of the last token of the first question.
        decoding: `"expectation"` over the probabilities of all answers, or `"greedy"`: the answer
            that generating token by token gives, as published (of 101 numbers or five levels, so
            scores have ties). The head knows no answers.
        questions: which are asked; more than one is multi-task. The read-out's is among them.
        test_wordings: how many of a question's wordings are asked at test time, always the first
            ones; their probabilities are averaged. In training one is drawn for each clip.
        uncertainty: `"spread"`: the standard deviation of the read-out's distribution (for the
            head, of the first question's), or `"wordings"`: that of the scores of the wordings.
        features_width: of the head's projection; the other read-outs' features are states.
        dropout: on the features before the head.
        train_language: train the whole language model (for random weights); not with `lora`.
        gradient_checkpointing: recompute the language model's layers in backward: less memory,
            a third more time.
    """

    encoder: QualityEncoderConfig = field(default_factory=QualityEncoderConfig)
    projector: ProjectorConfig = field(default_factory=ProjectorConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    lora: LoraSettings | None = None
    read_out: ReadOutKind = "number"
    decoding: Decoding = "expectation"
    questions: tuple[QuestionKind, ...] = ("score", "level")
    test_wordings: int = 1
    uncertainty: Uncertainty = "spread"
    features_width: int = 512
    dropout: float = 0.0
    train_language: bool = False
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "lora", made(LoraSettings, "lora", self.lora))
        for name, kinds in (
            ("read_out", ReadOutKind),
            ("decoding", Decoding),
            ("uncertainty", Uncertainty),
        ):
            if getattr(self, name) not in get_args(kinds):
                raise ValueError(
                    f"{name} {getattr(self, name)!r} is unknown; "
                    f"choose one of {', '.join(get_args(kinds))}"
                )
        object.__setattr__(self, "questions", tuple(self.questions))
        known = get_args(QuestionKind)
        if not self.questions or len(set(self.questions)) != len(self.questions):
            raise ValueError(f"questions are one or more of {', '.join(known)}, each once")
        for question in self.questions:
            if question not in known:
                raise ValueError(
                    f"question {question!r} is unknown; choose from {', '.join(known)}"
                )
        needed = {"number": "score", "level": "level"}.get(self.read_out)
        if needed is not None and needed not in self.questions:
            raise ValueError(
                f"read_out {self.read_out!r} reads the answer to the question {needed!r}, which is "
                f"not asked; add it to questions={list(self.questions)}"
            )
        if self.test_wordings < 1 or (self.uncertainty == "wordings" and self.test_wordings < 2):
            raise ValueError(
                f"test_wordings={self.test_wordings} is too few: one is asked, and two or more "
                "where uncertainty='wordings' compares them"
            )
        if self.lora is not None and self.train_language:
            raise ValueError(
                "lora and train_language were both given; adapters are for a frozen language "
                "model: set lora=null or train_language=false"
            )
        tokens: Any = "mean" if self.projector.kind == "mean" else "frames"
        object.__setattr__(self, "encoder", dataclasses.replace(self.encoder, tokens=tokens))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is the way back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LMMVQAConfig:
        """Make a config from what `to_dict` gave."""
        parts = {
            "encoder": QualityEncoderConfig.from_dict(values["encoder"]),
            "projector": ProjectorConfig(**values["projector"]),
            "language": LanguageConfig(**values["language"]),
        }
        return cls(**{**values, **parts})


__all__ = ["Decoding", "LMMVQAConfig", "ReadOutKind", "Uncertainty"]
