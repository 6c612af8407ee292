"""Pretrained weights for a clip's encoders: Swin, BERT or Sentence-BERT, Whisper."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from transformers import BertModel, SwinModel, WhisperModel

from coefvq.modules.checkpoints import COMPUTED, LoadReport
from coefvq.modules.clip_encoders import ClipEncoder
from coefvq.modules.text import TextEncoder
from coefvq.modules.vision import SwinEncoder
from coefvq.modules.whisper import WhisperEncoder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClipCheckpoints:
    """Weights to start from; each is a folder that `save_pretrained` wrote or a Hugging Face name.

    Args:
        vision: a Swin.
        text: a BERT; the inner folder of a Sentence-BERT is one.
        audio: a Whisper; only its encoder is used.
    """

    vision: str | None = None
    text: str | None = None
    audio: str | None = None

    def load_into(self, encoder: ClipEncoder) -> list[LoadReport]:
        """Load what is named; a checkpoint of a modality that is not read is left alone.

        Raises:
            ValueError: a checkpoint of another architecture; the sentence names the first weight
                that does not fit.
        """
        reports = []
        if self.vision is not None:
            if not isinstance(encoder.vision, SwinEncoder):
                raise ValueError(_not_a("vision", self.vision, "Swin", encoder.vision))
            swin = SwinModel.from_pretrained(self.vision)
            reports.append(_copy(encoder.vision.swin, swin.state_dict(), self.vision))
        if self.text is not None and encoder.text is not None:
            assert isinstance(encoder.text, TextEncoder)
            bert = BertModel.from_pretrained(self.text, add_pooling_layer=False)
            reports.append(_copy(encoder.text.bert, bert.state_dict(), self.text))
        if self.audio is not None and encoder.audio is not None:
            if not isinstance(encoder.audio, WhisperEncoder):
                raise ValueError(_not_a("audio", self.audio, "Whisper", encoder.audio))
            whisper = WhisperModel.from_pretrained(self.audio).get_encoder()
            reports.append(_copy(encoder.audio.encoder, whisper.state_dict(), self.audio))
        for report in reports:
            logger.info("%s", report)
        return reports


def _copy(module: nn.Module, given: Mapping[str, Tensor], source: str) -> LoadReport:
    """Copy all weights of a module; refuse before anything is copied."""
    own = {name: value for name, value in module.state_dict().items() if not COMPUTED.search(name)}
    given = {name: value for name, value in given.items() if not COMPUTED.search(name)}
    for name, value in own.items():
        found = tuple(given[name].shape) if name in given else None
        if found != tuple(value.shape):
            raise ValueError(
                f"checkpoint {source} does not fit: {name} has shape {found}, the model's is "
                f"{tuple(value.shape)}; make the encoder's sizes those of the checkpoint (for "
                "word embeddings: use its tokenizer)"
            )
    unused = tuple(sorted(given.keys() - own.keys()))
    if any(
        ".layers." in name or ".layer." in name or name.startswith("layers.") for name in unused
    ):
        raise ValueError(
            f"checkpoint {source} has more layers than the model, for instance {unused[0]}; "
            "make the encoder's layers those of the checkpoint"
        )
    module.load_state_dict({name: given[name] for name in own}, strict=False)
    return LoadReport(source, tuple(own), unused)


def _not_a(name: str, source: str, kind: str, encoder: nn.Module) -> str:
    return (
        f"checkpoint {source} holds a {kind}, the model's {name} is a {type(encoder).__name__}; "
        f"give {name} the shape of a {kind} or leave the checkpoint out"
    )


__all__ = ["ClipCheckpoints"]
