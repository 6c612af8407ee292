"""A causal language model of transformers that reads embeddings and answers along a tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from coefvq.modules.mllm.answers import AnswerTree
from coefvq.modules.mllm.architecture import plain
from coefvq.modules.mllm.config import Dtype, _check


@dataclass(frozen=True)
class LanguageConfig:
    """Shape of a language model; the defaults are Llama-3-8B's, which LMM-VQA uses.

    Args:
        model_name_or_path: a folder that transformers' `save_pretrained` wrote, or a Hugging Face
            name, of any causal language model whose layers are at `model.layers` (Llama, Qwen,
            Mistral, ...): its weights, and its shape in place of what is below except `dtype`.
            None: a Llama of random weights.
        dtype: of frozen weights.
        vocab_size: V, tokens; None: as many as the tokenizer of the prompts has.
        width: D.
        layers: how many.
        heads: they divide the width.
        key_value_heads: heads of keys and values; they divide `heads`.
        feedforward: hidden width of a layer.
        architecture: a transformers config as plain values with its `model_type`, in place of
            the shape above; what saved models hold.
    """

    model_name_or_path: str | None = None
    dtype: Dtype = "float32"
    vocab_size: int | None = 128_256
    width: int = 4096
    layers: int = 32
    heads: int = 32
    key_value_heads: int = 8
    feedforward: int = 14_336
    architecture: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        _check("dtype", self.dtype, Dtype)


class LanguageModel(nn.Module):
    """Embeddings in, states at the forks of answers out; logits of the whole vocabulary never.

    Args:
        config: see `LanguageConfig`.

    Raises:
        ValueError: a checkpoint that cannot be opened, or whose layers are somewhere else.
    """

    language_path = "model"

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.model = _open(config)
        if not hasattr(getattr(self.model, self.language_path, None), "layers"):
            raise ValueError(
                f"language model {config.model_name_or_path!r} has no layers at model.layers; give "
                "a causal language model such as a Llama or a Qwen"
            )
        self.config = LanguageConfig(
            dtype=config.dtype,
            architecture={
                **plain(self.model.config),
                "model_type": self.model.config.model_type,
            },
        )

    @property
    def language(self) -> nn.Module:
        """The language model without its head."""
        return self.model.get_submodule(self.language_path)

    @property
    def width(self) -> int:
        """D."""
        return int(self.model.config.hidden_size)

    @property
    def vocab_size(self) -> int:
        """V."""
        return int(self.model.config.vocab_size)

    def embed(self, ids: Sequence[int], device: torch.device) -> Tensor:
        """Token ids -> (n, D)."""
        result: Tensor = self.model.get_input_embeddings()(
            torch.tensor(ids, dtype=torch.long, device=device)
        )
        return result

    def forward(self, sequences: Sequence[Tensor], tree: AnswerTree) -> tuple[Tensor, Tensor]:
        """Ask for an answer.

        The tokens of the tree stand behind each question and see it and their own ancestors alone,
        at the positions that they would have: one pass gives what one pass per fork would.

        Args:
            sequences: B sequences (n_i, D) of embeddings; they may differ in length.
            tree: the answers that count.

        Returns:
            (B, D) states of the last tokens of the questions, and (B, forks, choices) logits;
            both float32.
        """
        device, dtype = sequences[0].device, self.model.get_input_embeddings().weight.dtype
        embeds = nn.utils.rnn.pad_sequence([row.to(dtype) for row in sequences], batch_first=True)
        batch, longest = embeds.shape[:2]
        lengths = torch.tensor([len(row) for row in sequences], device=device)
        branches = self.embed(tree.tokens, device).to(dtype).expand(batch, -1, -1)
        places = torch.arange(longest, device=device)
        depths = torch.tensor(tree.depths, dtype=torch.long, device=device)
        hidden = self.language(
            inputs_embeds=torch.cat([embeds, branches], dim=1),
            attention_mask=_mask(places, lengths, tree, dtype),
            position_ids=torch.cat(
                [places.expand(batch, -1), lengths[:, None] + depths.expand(batch, -1)], dim=1
            ),
            use_cache=False,
        ).last_hidden_state
        last = hidden[torch.arange(batch, device=device), lengths - 1][:, None]
        states = torch.cat([last, hidden[:, longest:]], dim=1)[:, list(tree.forks)]
        with torch.autocast(device.type, enabled=False):
            rows = self.model.get_output_embeddings().weight[list(tree.choices)]
            return last[:, 0].float(), states.float() @ rows.float().T


def _mask(places: Tensor, lengths: Tensor, tree: AnswerTree, dtype: torch.dtype) -> Tensor:
    """(B, 1, T, T) to be added to attention: who sees whom, the tree's tokens last."""
    asked, told = len(places), len(tree.tokens)
    sees = torch.zeros(
        len(lengths), asked + told, asked + told, dtype=torch.bool, device=places.device
    )
    real = places < lengths[:, None]
    # Padding sees itself, so that no row of the softmax is empty; nobody sees padding.
    sees[:, :asked, :asked] = (places[:, None] >= places) & real[:, None, :]
    sees[:, places, places] = True
    sees[:, asked:, :asked] = real[:, None, :]
    sees[:, asked:, asked:] = tree.sees.to(places.device)
    none = torch.finfo(dtype).min
    return torch.zeros(sees.shape, dtype=dtype, device=places.device).masked_fill(~sees, none)[
        :, None
    ]


def _open(config: LanguageConfig) -> PreTrainedModel:
    dtype = getattr(torch, config.dtype)
    source = config.model_name_or_path
    if source is not None:
        try:
            opened: PreTrainedModel = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"model_name_or_path {source!r} could not be opened as a causal language model "
                f"({str(error).splitlines()[0]}); give a folder that transformers' save_pretrained "
                "wrote, or a Hugging Face name"
            ) from error
        return opened
    if config.architecture is not None:
        values = dict(config.architecture)
        shape = AutoConfig.for_model(values.pop("model_type"), **values)
    else:
        shape = LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.key_value_heads,
            intermediate_size=config.feedforward,
            bos_token_id=None,
            eos_token_id=None,
            rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
        )
    # Made in float32 and cast: initialisation in bfloat16 would round twice.
    made: PreTrainedModel = AutoModelForCausalLM.from_config(shape)
    return made.to(dtype)


__all__ = ["LanguageConfig", "LanguageModel"]
