"""The multimodal language model: clips in the slots of a prompt, read out at the last token."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from coefvq.modules.frames import FrameConfig, FrameProcessor
from coefvq.modules.mllm.audio import AudioPath
from coefvq.modules.mllm.backbone import Backbone, Piece, open_backbone
from coefvq.modules.mllm.config import MLLMConfig
from coefvq.modules.mllm.distinct import Distinct, distinct_clips, sound_of
from coefvq.modules.mllm.lora import add_lora, note_full_training
from coefvq.modules.mllm.prompt import Prompt, PromptTokenizer, Slot, check_tokenizer, make_prompt
from coefvq.modules.mllm.readout import (
    Answers,
    HeadReadOut,
    YesNoReadOut,
    last_hidden,
    likeliest_tokens,
)
from coefvq.modules.mllm.texts import text_pieces
from coefvq.types import Batch


class MLLM(nn.Module):
    """One causal sequence per sample, whatever number of clips stands in it.

    Towers are frozen unless the config says otherwise, and a frozen tower stays in eval mode.
    Projectors, pooling and heads are trained in full and stay float32 under bfloat16 weights.

    Args:
        config: see `MLLMConfig`.
        num_outputs: width of the main head.
        num_sub_labels: S.
        layout: see `coefvq.modules.mllm.prompt.parse_layout`.
        tokenizer: the language model's, for the words of the layout; texts of a batch must be
            tokens of it too. None: for a layout of slots alone.
        prompt: a layout whose words are already ids, in place of layout and tokenizer.
        text_fields: names of the rows of `Batch.field_ids`, for slots of single fields.
    """

    def __init__(
        self,
        config: MLLMConfig,
        *,
        num_outputs: int = 1,
        num_sub_labels: int = 0,
        layout: str = "{video}",
        tokenizer: PromptTokenizer | None = None,
        prompt: Prompt | None = None,
        text_fields: Sequence[str] = (),
    ) -> None:
        super().__init__()
        yes_no = config.read_out == "yes_no"
        if yes_no and num_outputs != 1:
            raise ValueError(
                f"read_out 'yes_no' gives one logit, the task has {num_outputs} outputs; "
                "set read_out='head'"
            )
        check_tokenizer(tokenizer, config.backbone.model_name_or_path)
        note_full_training(config)
        self.backbone = open_backbone(config.backbone)
        self.prompt = prompt or make_prompt(
            layout,
            tokenizer,
            vocab_size=self.backbone.vocab_size,
            answer_words=config.answer_words if yes_no else None,
            fields=text_fields,
        )
        self.parts = self.prompt.parts()
        slots = [part for part in self.parts if isinstance(part, Slot)]
        self.num_clips = 1 + max(slot.clip for slot in slots)
        mode = None if config.audio is None else config.audio.mode
        if mode in ("saliency", "token", "own") and all(slot.kind != "audio" for slot in slots):
            raise ValueError(
                f"audio mode {mode!r} puts tokens into the sequence and the layout "
                f"{self.prompt.layout!r} has no slot for them; add {{audio}} or set audio=None"
            )
        width = self.backbone.width
        own = config.audio is None or mode == "own"
        self.audio = None if own else AudioPath(config.audio, width)
        self.audio_mode = mode
        self.frames = FrameProcessor(
            FrameConfig(
                size=self.backbone.frame_size,
                mode="resize",
                flip=False,  # a mirrored copy is one of the things that are asked about
                mean=self.backbone.mean,
                std=self.backbone.std,
            )
        )
        self.read_out: HeadReadOut | YesNoReadOut
        if yes_no:
            self.read_out = YesNoReadOut(width, num_sub_labels, config.dropout)
        else:
            read = width * (1 + (self.num_clips if mode == "late" else 0))
            self.read_out = HeadReadOut(
                read, num_outputs, num_sub_labels, config.features_width, config.dropout
            )
        # What was opened says its own shape, so that equal models have equal configs.
        self.config = _resolved(config, self.backbone, self.audio)
        self._set_trainable()
        self.train(self.training)

    def _set_trainable(self) -> None:
        config, backbone = self.config, self.backbone
        backbone.requires_grad_(False)
        # In a tuple: the wrapper holds a model that is registered already.
        self.adapted: tuple[Any, ...] = ()
        if config.lora is not None:
            self.adapted = (add_lora(backbone.model, config.lora, backbone.language_path),)
        elif config.train_language:
            backbone.language.requires_grad_(True)
        for module in backbone.projectors():
            module.float().requires_grad_(True)
        if config.train_vision:
            backbone.tower.requires_grad_(True)
        for tower in self._audio_towers():
            tower.requires_grad_(config.train_audio)
        if config.gradient_checkpointing:
            # transformers 5.23 has renamed it, with a warning at the old name.
            language: Any = backbone.language
            old = "gradient_checkpointing_enable"
            enable = getattr(language, "activation_checkpointing_enable", None)
            (enable or getattr(language, old))({"use_reentrant": False})

    def train(self, mode: bool = True) -> Self:
        """Set the mode; frozen towers stay in eval mode, so that their dropout is off."""
        super().train(mode)
        if not self.config.train_vision:
            self.backbone.tower.eval()
        if not self.config.train_audio:
            for tower in self._audio_towers():
                tower.eval()
        return self

    def _audio_towers(self) -> list[nn.Module]:
        towers = [self.backbone.audio_tower, None if self.audio is None else self.audio.tower]
        return [tower for tower in towers if tower is not None]

    def merge_lora(self) -> None:
        """Add the adapters into the weights they adapt, in place; from then on there are none."""
        if self.adapted:
            self.adapted[0].merge_and_unload()
            self.adapted = ()
            self.config = dataclasses.replace(self.config, lora=None)

    def forward(
        self, clips: Sequence[Batch], frame_masks: Sequence[Tensor] | None = None
    ) -> Answers:
        """Answer.

        Args:
            clips: as many batches as the layout has clips, B rows each.
            frame_masks: (B, F) bool each, the frames to be read; None: all real ones.

        Raises:
            ValueError: another number of clips than the layout's.
        """
        if len(clips) != self.num_clips:
            raise ValueError(
                f"the layout {self.prompt.layout!r} is for {self.num_clips} clips, got {len(clips)}"
            )
        masks = [clip.frame_mask for clip in clips] if frame_masks is None else frame_masks
        distinct = distinct_clips(clips, masks)
        videos = self._videos(clips, masks, distinct)
        sounds, pooled, unused = self._sounds(clips, videos, distinct)
        hidden, mask = self.backbone(self._sequences(clips, videos, sounds))
        states = last_hidden(hidden, mask)
        said: tuple[Tensor, Tensor] | tuple[()] = ()
        if self.config.topk:
            words = self.backbone.output_rows(range(self.backbone.vocab_size))
            said = likeliest_tokens(states, words, self.config.topk)
        if isinstance(self.read_out, YesNoReadOut):
            assert self.prompt.answer_ids is not None
            rows = self.backbone.output_rows(self.prompt.answer_ids)
            return Answers(*self.read_out(states + unused, rows), *said)
        read = torch.cat([states.float() + unused, *pooled], dim=-1)
        return Answers(*self.read_out(read), *said)

    def _videos(
        self, clips: Sequence[Batch], masks: Sequence[Tensor], distinct: Distinct
    ) -> list[list[Piece]]:
        """Tokens of the real frames of every clip; the tower runs once on all that differ."""
        pixels = [
            self.frames(clip.frames[rows][mask[rows]][None])[0]
            for clip, mask, rows in zip(clips, masks, distinct.rows, strict=True)
            if rows
        ]
        counts = distinct.join([mask.sum(1) for mask in masks]).tolist()
        pieces = self.backbone.encode_frames(torch.cat(pixels), counts)
        return _by_clip([pieces[place] for place in distinct.places.tolist()], len(clips))

    def _sequences(
        self, clips: Sequence[Batch], videos: list[list[Piece]], sounds: list[list[Piece]]
    ) -> list[list[Piece]]:
        """Fill the slots, row by row; a label goes with what it stands for."""
        embed, media = self.backbone.embed, {"video": videos, "audio": sounds}
        content = {
            slot: media[slot.kind][slot.clip]
            if slot.kind in media
            else text_pieces(slot, clips[slot.clip], self.prompt.fields, embed)
            for slot in self.parts
            if isinstance(slot, Slot)
        }
        sequences: list[list[Piece]] = [[] for _ in range(len(clips[0]))]
        for part in self.parts:
            if isinstance(part, Slot):
                for row, piece in zip(sequences, content[part], strict=True):
                    row.append(piece)
                continue
            words = Piece(self._embed(part.ids, clips[0].device))
            for number, row in enumerate(sequences):
                if part.slot is None or len(content[part.slot][number].tokens):
                    row.append(words)
        return sequences

    def _embed(self, ids: Any, device: torch.device) -> Tensor:
        return self.backbone.embed(torch.as_tensor(ids, dtype=torch.long, device=device))

    def _sounds(
        self, clips: Sequence[Batch], videos: list[list[Piece]], distinct: Distinct
    ) -> tuple[list[list[Piece]], list[Tensor], Tensor | float]:
        """Put sound where the mode wants it.

        Returns:
            Pieces for the slots; tokens to be joined to the last state; a zero that ties what no
            audible clip has used into the graph, so that data-parallel training does not wait.
        """
        nothing = Piece(self._embed((), clips[0].device))
        silence = [[nothing] * len(clip) for clip in clips]
        audio, mask = sound_of(clips, distinct)
        if self.audio_mode is None or audio is None or mask is None:
            if self.audio_mode != "late":
                return silence, [], 0.0
            zeros = torch.zeros(len(clips[0]), self.backbone.width, device=clips[0].device)
            return silence, [zeros] * len(clips), 0.0
        if self.audio is None:
            heard = [Piece(row) for row in self.backbone.encode_audio(audio, mask)]
            return _by_clip([heard[n] for n in distinct.places.tolist()], len(clips)), [], 0.0
        tokens, token_mask = map(distinct.spread, self.audio(audio, mask))
        if self.audio_mode == "mid":
            pieces = [piece for clip in videos for piece in clip]
            changed = self.audio.cross([piece.tokens for piece in pieces], tokens, token_mask)
            pieces = [Piece(t, p.grid) for t, p in zip(changed, pieces, strict=True)]
            videos[:] = _by_clip(pieces, len(clips))
            return silence, [], 0.0
        unused = 0.0 * tokens.sum()
        if self.audio_mode == "late":
            tokens = tokens.masked_fill(~token_mask[..., None], 0.0).squeeze(1)
            return silence, list(tokens.chunk(len(clips))), unused
        rows = [Piece(row[counts]) for row, counts in zip(tokens, token_mask, strict=True)]
        return _by_clip(rows, len(clips)), [], unused


def _by_clip(rows: list[Piece], clips: int) -> list[list[Piece]]:
    size = len(rows) // clips
    return [rows[start * size : (start + 1) * size] for start in range(clips)]


def _resolved(config: MLLMConfig, backbone: Backbone, audio: AudioPath | None) -> MLLMConfig:
    """The config with what was opened in place of names and flat shapes."""
    changes: dict[str, Any] = {
        "backbone": type(config.backbone)(
            family=backbone.family,
            dtype=config.backbone.dtype,
            image_size=backbone.frame_size,
            architecture=backbone.plain_config(),
        )
    }
    if config.audio is not None:
        changes["audio"] = type(config.audio)(
            mode=config.audio.mode,
            stack=config.audio.stack,
            architecture=None if audio is None else audio.tower.architecture(),
        )
    return dataclasses.replace(config, **changes)


__all__ = ["MLLM"]
