"""LMM-VQA: a language model that is asked how good a video looks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel

from coefvq.modules.mllm.answers import AnswerTree
from coefvq.modules.mllm.folder import LANGUAGE, MOTION, SPATIAL, ModelFolder
from coefvq.modules.mllm.language import LanguageModel
from coefvq.modules.mllm.lora import add_lora
from coefvq.modules.mllm.quality_prompts import (
    Question,
    QuestionKind,
    make_question,
    read_prompts,
    small_tokenizer,
)
from coefvq.modules.mllm.readout import HeadReadOut
from coefvq.modules.motion.transformers import TransformerMotion
from coefvq.modules.quality_encoder import QualityEncoder, QualityFeatures
from coefvq.modules.spatiotemporal import SpatioTemporalProjector
from coefvq.teachers.lmm_vqa_config import LMMVQAConfig
from coefvq.types import Batch, TeacherOutput


class Store(Protocol):
    """Where features of clips are kept: `coefvq.students.feature_store.FeatureStore`."""

    def check(self, encoder: Any) -> None:
        """Refuse an encoder that these features are not of."""

    def encode(self, encoder: Any, batch: Batch) -> Any:
        """Features of a batch: found, or encoded now and put there."""


@dataclass(frozen=True)
class QualityOutput(TeacherOutput):
    """What the teacher answers, and what it is trained by.

    Args:
        number_logits: (B, 101) log-probabilities of the numbers from 0 to 100; None where no
            number is asked for.
    """

    number_logits: Tensor | None = None


@dataclass(frozen=True)
class _Answer:
    """To one question: (B, A), (B,), and by wording (W, B) and (W, B, D)."""

    log_probabilities: Tensor
    std: Tensor
    scores: Tensor
    states: Tensor


class LMMVQA(ModelFolder, nn.Module):
    """Teacher LMM-VQA (arXiv 2408.14008).

    Frames and the motion around them become tokens in front of a question; the language model says
    the score. As published: CLIP on one frame per second, SlowFast on one-second chunks, both
    frozen, a projector that is trained, a frozen language model, questions in several wordings,
    tokens of the answer as the target. Different here: the language model chooses among the
    answers that count and no others, in training (so the loss is a cross-entropy over these) as at
    test time; levels are five words read as an expectation (Wu et al., "Q-Align", 2023); a
    regression head and adapters are on offer.

    Train it with `NumberAnswerLoss` and `LevelAnswerLoss`; `logits` follow the read-out and can be
    trained by any loss on scores.

    Args:
        config: see `LMMVQAConfig`.
        score_range: what 0 and 100, or the worst and the best level, mean in the data's unit.
        num_outputs: 1, as the task has it.
        prompts: a file of prompts; None: the package's own.
        tokenizer: the language model's; None: the one beside its weights, or for random weights
            a small one that knows the words of the prompts.
        questions: prompts whose words are already ids, in place of the two above.

    Raises:
        ValueError: a range that is not known, more than one output, or prompts that do not fit.
    """

    def __init__(
        self,
        config: LMMVQAConfig,
        score_range: Sequence[float | None] | None,
        num_outputs: int = 1,
        *,
        prompts: str | Path | None = None,
        tokenizer: Any = None,
        questions: Sequence[Question] | None = None,
    ) -> None:
        super().__init__()
        if num_outputs != 1:
            raise ValueError(
                f"LMM-VQA scores quality, one number per clip, but the task has {num_outputs} "
                "outputs; give a task of kind regression"
            )
        self.low, self.high = _check_range(score_range)
        language = config.language
        words: dict[str, Any] = {}
        if questions is None:
            words = read_prompts(prompts)
            source = language.model_name_or_path
            if tokenizer is None and source is not None:
                tokenizer = AutoTokenizer.from_pretrained(source)
            elif tokenizer is None:
                tokenizer = small_tokenizer(words)
            if language.vocab_size is None:
                language = dataclasses.replace(language, vocab_size=len(tokenizer))
        self.language = LanguageModel(language)
        self.questions = tuple(
            questions
            or [
                make_question(k, words, tokenizer, self.language.vocab_size)
                for k in config.questions
            ]
        )
        self.trees = {q.kind: AnswerTree(q.answers, q.end) for q in self.questions}
        if any(len(q.after) < config.test_wordings for q in self.questions):
            raise ValueError(
                f"test_wordings={config.test_wordings}, but a question has only "
                f"{min(len(q.after) for q in self.questions)} wordings; ask fewer or write more"
            )
        self.encoder = QualityEncoder(config.encoder)
        widths, width = self.encoder.widths, self.language.width
        self.projector = SpatioTemporalProjector(
            config.projector, widths["spatial"], widths.get("motion"), width
        )
        self.head: HeadReadOut | None = None
        if config.read_out == "head":
            self.head = HeadReadOut(width, 1, 0, config.features_width, config.dropout)
        self.shape = dataclasses.replace(
            config, encoder=self.encoder.config, language=self.language.config
        )
        self.language.requires_grad_(config.train_language)
        # In a tuple: the wrapper holds a model that is registered already.
        self.adapted: tuple[Any, ...] = ()
        if config.lora is not None:
            path = self.language.language_path
            self.adapted = (add_lora(self.language.model, config.lora, path),)
        if config.gradient_checkpointing:
            # transformers 5.23 has renamed it, with a warning at the old name.
            inner: Any = self.language.language
            enable = getattr(inner, "activation_checkpointing_enable", None)
            (enable or inner.gradient_checkpointing_enable)({"use_reentrant": False})
        self._store: Store | None = None

    def use_store(self, store: Store | None) -> None:
        """Take features of clips from a store; None: encode them each time.

        Raises:
            ValueError: the store is of another encoder, or the encoder is trained along.
        """
        if store is not None:
            store.check(self.encoder)
        self._store = store

    def forward(self, batch: Batch | QualityFeatures) -> QualityOutput:
        """Answer a batch, or clips whose features are known; only the public part is read."""
        features = batch if isinstance(batch, QualityFeatures) else self._encode(batch)
        clips = self.projector(features)
        answers = {question.kind: self._ask(question, clips) for question in self.questions}
        first = next(iter(answers.values()))
        read = {"number": "score", "level": "level"}.get(self.shape.read_out)
        own = first if read is None else answers[read]  # type: ignore[index]
        scores, states = own.scores, own.states
        if self.head is not None:
            outputs = [self.head(state) for state in states]
            half = (self.high - self.low) / 2
            scores = self.low + half + half * torch.stack([output[0] for output in outputs])
            states = torch.stack([output[1] for output in outputs])
        std = own.std
        if self.shape.uncertainty == "wordings" and len(scores) > 1:
            std = scores.std(0, correction=0)
        number, level = answers.get("score"), answers.get("level")
        return QualityOutput(
            logits=scores.mean(0),
            features=states.mean(0),
            level_logits=None if level is None else level.log_probabilities,
            score_std=std,
            number_logits=None if number is None else number.log_probabilities,
        )

    def _encode(self, batch: Batch) -> QualityFeatures:
        if self._store is not None:
            found: QualityFeatures = self._store.encode(self.encoder, batch)
            return found
        features: QualityFeatures = self.encoder(batch)
        return features

    def _ask(self, question: Question, clips: Sequence[Tensor]) -> _Answer:
        """Ask one question about all clips: in a wording drawn for each, or in the first ones."""
        tree, wordings = self.trees[question.kind], len(question.after)
        if self.training:
            drawn = [torch.randint(wordings, (len(clips),)).tolist()]
        else:
            drawn = [[number] * len(clips) for number in range(self.shape.test_wordings)]
        device, embed = clips[0].device, self.language.embed
        before = embed(question.before, device)
        after = {n: embed(question.after[n], device) for row in drawn for n in row}
        sequences = [
            torch.cat([before, clip.to(before.dtype), after[number]])
            for row in drawn
            for number, clip in zip(row, clips, strict=True)
        ]
        states, logits = self.language(sequences, tree)
        found = tree.log_probabilities(logits).unflatten(0, (len(drawn), -1))
        values = self.values(question.kind).to(found)
        if self.shape.decoding == "greedy" and not self.training:
            scores = values[tree.greedy(logits)].unflatten(0, (len(drawn), -1))
        else:
            scores = found.exp() @ values
        mixed = found.logsumexp(0) - math.log(len(drawn))
        p = mixed.exp()
        std = (p @ values.square() - (p @ values).square()).clamp(min=0.0).sqrt()
        return _Answer(mixed, std, scores, states.unflatten(0, (len(drawn), -1)))

    def values(self, kind: QuestionKind) -> Tensor:
        """(A,) what each answer to a question is worth, in the unit of the scores."""
        count = len(self.trees[kind].answers)
        ends = (self.low, self.high) if kind == "score" else (self.high, self.low)
        return torch.linspace(*ends, count)

    def merge_lora(self) -> None:
        """Add the adapters into the weights they adapt, in place; from then on there are none."""
        if self.adapted:
            self.adapted[0].merge_and_unload()
            self.adapted = ()
            self.shape = dataclasses.replace(self.shape, lora=None)

    def _models(self) -> dict[str, tuple[str, PreTrainedModel]]:
        models: dict[str, tuple[str, PreTrainedModel]] = {
            LANGUAGE: ("language.model.", self.language.model),
            SPATIAL: ("encoder.spatial.", self.encoder.spatial),
        }
        if isinstance(self.encoder.motion, TransformerMotion):
            models[MOTION] = ("encoder.motion.model.", self.encoder.motion.model)
        return models

    def _adapted(self) -> Any:
        return self.adapted[0] if self.adapted else None

    @property
    def features_width(self) -> int:
        """D of the features."""
        return self.language.width if self.head is None else self.shape.features_width

    @property
    def config(self) -> dict[str, Any]:
        """Plain values that say the architecture."""
        return {
            "model": self.shape.to_dict(),
            "score_range": [self.low, self.high],
            "num_outputs": 1,
            "questions": [dataclasses.asdict(question) for question in self.questions],
        }

    @classmethod
    def from_config(cls, values: Mapping[str, Any]) -> Self:
        """Make the teacher, randomly initialised, from what `config` gave."""
        return cls(
            LMMVQAConfig.from_dict(values["model"]),
            values["score_range"],
            questions=[Question(**question) for question in values["questions"]],
        )


def _check_range(score_range: Sequence[float | None] | None) -> tuple[float, float]:
    given = [] if score_range is None else list(score_range)
    low, high = given if len(given) == 2 else (None, None)
    if low is None or high is None or not low < high:
        raise ValueError(
            "LMM-VQA answers in the range of the scores, given as the lowest and the highest "
            f"possible one, got {given or None}; state the data's range, for instance "
            "data.task=regression data.label_range=[0,100]"
        )
    return float(low), float(high)


__all__ = ["LMMVQA", "QualityOutput"]
