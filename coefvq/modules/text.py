"""Text encoder: the lower layers of BERT."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel


class TextEncoder(nn.Module):
    """BERT without its pooler (Devlin et al., NAACL 2019).

    Args:
        vocab_size: V, tokens of the tokenizer.
        width: D.
        heads: attention heads; they divide the width.
        layers: number of layers; X-VLM keeps the first 6 of BERT-base.
        feedforward: hidden width of the feed-forward parts.
        dropout: everywhere in the layers.
        max_length: longest text, in tokens.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        width: int,
        heads: int,
        layers: int,
        feedforward: int,
        dropout: float,
        max_length: int,
    ) -> None:
        super().__init__()
        config = BertConfig(
            vocab_size=vocab_size,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=feedforward,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            max_position_embeddings=max_length,
            attn_implementation="sdpa",
        )
        self.max_length = max_length
        self.bert = BertModel(config, add_pooling_layer=False)

    def forward(self, input_ids: Tensor, text_mask: Tensor | None = None) -> Tensor:
        """Encode texts.

        Args:
            input_ids: (B, T) int64.
            text_mask: (B, T) bool, True where a token counts; None: all.

        Returns:
            (B, T, width).

        Raises:
            ValueError: the text is longer than `max_length`.
        """
        clips, tokens = input_ids.shape
        if tokens > self.max_length:
            raise ValueError(
                f"text of {tokens} tokens is longer than the model's {self.max_length}; "
                "lower the data's max_text_length or raise the trunk's"
            )
        if text_mask is None:
            text_mask = torch.ones_like(input_ids, dtype=torch.bool)
        # A ready 4-D mask spares BertModel a look at the values, which would wait for the device.
        attention_mask = text_mask.bool().view(clips, 1, 1, tokens).expand(-1, -1, tokens, -1)
        return self.bert(input_ids, attention_mask=attention_mask).last_hidden_state


__all__ = ["TextEncoder"]
