"""A multimodal language model that judges one clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from torch import nn

from coefvq.modules.mllm.config import MLLMConfig
from coefvq.modules.mllm.folder import MLLMFolder
from coefvq.modules.mllm.model import MLLM
from coefvq.modules.mllm.prompt import Prompt, PromptTokenizer
from coefvq.types import Batch, TeacherOutput

CLIP_LAYOUT = "{text} {video} {audio}"
"""Caption, frames, sound; no words, so that it needs no tokenizer."""


class ClipMLLM(MLLMFolder, nn.Module):
    """COEF-VQ's tri-modal teacher for one clip (arXiv 2412.10435).

    Reconstruction: the published text names frames, text and sound with early and late fusion,
    not the layout nor the read-out; both are arguments.

    Args:
        mllm: shape, adapters, read-out and audio mode.
        num_outputs: width of the head, `TaskSpec.num_outputs`.
        layout: words and the slots `{video}`, `{audio}`, `{text}` in any order; a text field of
            its own is `{text:subtitles}`, with a label `{text:subtitles|Subtitles:}`.
        tokenizer: the language model's, for the words of the layout; texts of a batch must be
            tokens of it too. None: for a layout of slots alone.
        prompt: a layout whose words are already ids, in place of layout and tokenizer.
        text_fields: `InputSpec.text_fields` of the data, for slots of single fields.
    """

    def __init__(
        self,
        mllm: MLLMConfig,
        num_outputs: int = 1,
        *,
        layout: str = CLIP_LAYOUT,
        tokenizer: PromptTokenizer | None = None,
        prompt: Prompt | None = None,
        text_fields: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.num_outputs = num_outputs
        self.mllm = MLLM(
            mllm,
            num_outputs=num_outputs,
            layout=layout,
            tokenizer=tokenizer,
            prompt=prompt,
            text_fields=text_fields,
        )
        if self.mllm.num_clips != 1:
            raise ValueError(
                f"layout {self.mllm.prompt.layout!r} has {self.mllm.num_clips} clips, a teacher "
                "of single clips takes one; use {video}, {audio} and {text}"
            )

    def forward(self, batch: Batch) -> TeacherOutput:
        """Answer a batch; only its public part is read."""
        answers = self.mllm([batch])
        return TeacherOutput(
            logits=answers.logits,
            features=answers.features,
            topk_indices=answers.topk_indices,
            topk_logprobs=answers.topk_logprobs,
        )

    def merge_lora(self) -> None:
        """Add the adapters into the weights they adapt, in place."""
        self.mllm.merge_lora()

    @property
    def config(self) -> dict[str, Any]:
        """Plain values that say the architecture."""
        return {
            "mllm": self.mllm.config.to_dict(),
            "num_outputs": self.num_outputs,
            "prompt": self.mllm.prompt.to_dict(),
        }

    @classmethod
    def from_config(cls, values: Mapping[str, Any]) -> Self:
        """Make the teacher, randomly initialised, from what `config` gave."""
        return cls(
            MLLMConfig.from_dict(values["mllm"]),
            values["num_outputs"],
            prompt=Prompt.from_dict(values["prompt"]),
        )


__all__ = ["CLIP_LAYOUT", "ClipMLLM"]
