"""MatchLM: a multimodal language model that judges pairs of clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn

from coefvq.modules.mllm.config import MLLMConfig
from coefvq.modules.mllm.folder import MLLMFolder
from coefvq.modules.mllm.model import MLLM
from coefvq.modules.mllm.prompt import Prompt, PromptTokenizer
from coefvq.pairs import PairBatch, need_pairs
from coefvq.types import TeacherOutput

PAIR_LAYOUT = "{text_1} {text_2} {video_1} {audio_1} {video_2} {audio_2}"
"""The published order, with the two texts as its prompt; no words, so it needs no tokenizer."""

FrameSplit = Literal["dynamic", "static"]
"""How two clips share the frames of a pair, see `share_frames`."""


def share_frames(
    query: Tensor,
    candidate: Tensor,
    budget: int,
    split: FrameSplit,
    seconds: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Choose the frames that are read so that a pair has at most `budget` of them.

    Args:
        query: (B, F) bool, True where a frame is real.
        candidate: (B, F') bool, the same for the other clip.
        budget: frames per pair, at least 2.
        split: `"dynamic"`: in the ratio of the durations; what a clip has no frames for goes to the
            other, so that nothing is dropped from pairs within the budget. `"static"`: at most half
            of the budget each.
        seconds: (B,) durations of the two clips. None: in the ratio of the real frames, which is
            the same where frames are taken at a fixed rate.

    Returns:
        (B, F) and (B, F') bool, True where a frame is read: evenly thinned, at least one of each
        clip that has any.

    Example:
        >>> long, short = torch.ones(1, 6).bool(), torch.ones(1, 2).bool()
        >>> [mask.sum().item() for mask in share_frames(long, short, 4, "dynamic")]
        [3, 1]
        >>> [mask.sum().item() for mask in share_frames(long, short, 4, "static")]
        [2, 2]
        >>> seconds = torch.tensor([9.0]), torch.tensor([3.0])
        >>> [mask.sum().item() for mask in share_frames(long, long, 4, "dynamic", seconds)]
        [3, 1]
    """
    ours, theirs = query.sum(1), candidate.sum(1)
    if split == "static":
        first = torch.full_like(ours, budget // 2)
        second = first
    else:
        # Integers (milliseconds), halves rounded up: the same on every device.
        lengths = [(1000 * s).round().long() for s in seconds] if seconds else [ours, theirs]
        total = (lengths[0] + lengths[1]).clamp(min=1)
        first = ((2 * budget * lengths[0] + total) // (2 * total)).clamp(1, budget - 1)
        second = torch.minimum(budget - torch.minimum(first, ours), theirs)
        first = torch.minimum(budget - second, ours)
    return _thin(query, first), _thin(candidate, second)


def _thin(mask: Tensor, quota: Tensor) -> Tensor:
    """Keep at most `quota` (B,) of the frames that count, evenly spread."""
    count = mask.sum(1, keepdim=True)
    keep = torch.minimum(quota[:, None], count)
    rank = mask.cumsum(1) - 1
    # Frame r stays where the running share r · keep / count steps over a whole number and a half.
    whole = count.clamp(min=1)
    before = (rank * keep + whole // 2) // whole
    after = ((rank + 1) * keep + whole // 2) // whole
    return mask & (after > before)


def _durations(batch: PairBatch) -> tuple[Tensor, Tensor] | None:
    ours, theirs = batch.query.seconds, batch.candidate.seconds
    return None if ours is None or theirs is None else (ours, theirs)


class MatchLM(MLLMFolder, nn.Module):
    """Teacher of MatchLM2Lite (arXiv 2606.14786): is the second clip a reproduction of the first?

    The sequence is causal, `prompt + video 1 + audio 1 + video 2 + audio 2`; its last hidden state
    goes through a shared projection (`features`, z_t) to a head for the main label and one for the
    sub-labels. The frame budget of 32 is a reconstruction.

    Args:
        mllm: shape, adapters, read-out and audio mode.
        num_sub_labels: S.
        layout: words and the slots `{video_1}`, `{audio_1}`, `{text_1}` and the same with `_2`;
            `{text_1}` is all texts of a clip, joined, `{text_1:title}` one of them.
        text_fields: `InputSpec.text_fields` of the data, for slots of single fields.
        tokenizer: the language model's, for the words of the layout; texts of a batch must be
            tokens of it too. None: for a layout of slots alone.
        prompt: a layout whose words are already ids, in place of layout and tokenizer.
        frame_budget: frames per pair.
        frame_split: see `share_frames`.
    """

    def __init__(
        self,
        mllm: MLLMConfig,
        num_sub_labels: int = 0,
        *,
        layout: str = PAIR_LAYOUT,
        text_fields: Sequence[str] = (),
        tokenizer: PromptTokenizer | None = None,
        prompt: Prompt | None = None,
        frame_budget: int = 32,
        frame_split: FrameSplit = "dynamic",
    ) -> None:
        super().__init__()
        if frame_split not in get_args(FrameSplit):
            raise ValueError(
                f"frame_split {frame_split!r} is unknown; "
                f"choose one of {', '.join(get_args(FrameSplit))}"
            )
        if frame_budget < 2:
            raise ValueError(f"frame_budget is for both clips of a pair, got {frame_budget}")
        self.num_sub_labels = num_sub_labels
        self.frame_budget, self.frame_split = frame_budget, frame_split
        self.mllm = MLLM(
            mllm,
            num_sub_labels=num_sub_labels,
            layout=layout,
            text_fields=text_fields,
            tokenizer=tokenizer,
            prompt=prompt,
        )
        if self.mllm.num_clips != 2:
            raise ValueError(
                f"layout {self.mllm.prompt.layout!r} has one clip, MatchLM takes two; "
                "use slots with _1 and _2"
            )

    def forward(self, batch: PairBatch) -> TeacherOutput:
        """Answer a batch of pairs; only its public part is read.

        Raises:
            ValueError: the batch is of single clips.
        """
        need_pairs(batch, "MatchLM", "teacher=mllm for single clips")
        masks = share_frames(
            batch.query.frame_mask,
            batch.candidate.frame_mask,
            self.frame_budget,
            self.frame_split,
            _durations(batch),
        )
        answers = self.mllm([batch.query, batch.candidate], masks)
        return TeacherOutput(
            logits=answers.logits,
            features=answers.features,
            sub_logits=answers.sub_logits,
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
            "num_sub_labels": self.num_sub_labels,
            "prompt": self.mllm.prompt.to_dict(),
            "frame_budget": self.frame_budget,
            "frame_split": self.frame_split,
        }

    @classmethod
    def from_config(cls, values: Mapping[str, Any]) -> Self:
        """Make the teacher, randomly initialised, from what `config` gave."""
        return cls(
            **{
                **values,
                "mllm": MLLMConfig.from_dict(values["mllm"]),
                "prompt": Prompt.from_dict(values["prompt"]),
            }
        )


__all__ = ["PAIR_LAYOUT", "FrameSplit", "MatchLM", "share_frames"]
