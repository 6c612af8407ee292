"""A folder per model, in which transformers and peft find what is theirs.

config.json                 what the model is, prompt ids included
model.safetensors           heads, pooling, projectors
backbone/                   as transformers' `save_pretrained` writes it, without adapters
audio/                      Whisper's encoder, the same way (LMM-VQA: language/, spatial/, motion/)
adapter_model.safetensors   the adapters, as peft writes them
adapter_config.json
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from coefvq.modules.mllm.lora import ADAPTER, ADAPTER_CONFIG, base_state, load_adapter, save_adapter
from coefvq.modules.mllm.model import MLLM
from coefvq.modules.pretrained import CONFIG, WEIGHTS, PretrainedMixin, Tokenizer

BACKBONE, AUDIO = "backbone", "audio"
LANGUAGE, SPATIAL, MOTION = "language", "spatial", "motion"
FOLDERS = (BACKBONE, AUDIO, LANGUAGE, SPATIAL, MOTION)


class ModelFolder(PretrainedMixin):
    """Save and load for a module with models of transformers in it; mixed in before `nn.Module`.

    A class that mixes this in says which models have a folder of their own.
    """

    def _models(self) -> dict[str, tuple[str, PreTrainedModel]]:
        """By folder: what the names of its weights begin with, and the model."""
        raise NotImplementedError

    def _adapted(self) -> Any:
        """Peft's wrapper of the model that has adapters; None: none has."""
        return None

    def _ours(self) -> tuple[str, ...]:
        """What names of weights begin with that lie in such a model and are kept by us, too."""
        return ()

    def save_pretrained(
        self,
        folder: str | Path,
        tokenizer: Tokenizer | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        overwrite: bool = False,
    ) -> Path:
        """Write the folder; see `PretrainedMixin.save_pretrained`.

        Raises:
            ValueError: a model is there and `overwrite` is not set; metadata is not plain.
            OSError: nothing can be written there.
        """
        folder = Path(folder)
        if (folder / CONFIG).exists() and not overwrite:
            raise ValueError(
                f"folder {folder} already holds a model; choose another or pass overwrite=True"
            )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).unlink(missing_ok=True)  # it comes last: until then this is no model
        for name in FOLDERS:  # of the model that is replaced
            shutil.rmtree(folder / name, ignore_errors=True)
        for name in (ADAPTER, ADAPTER_CONFIG):
            (folder / name).unlink(missing_ok=True)
        for name, (_, model) in self._models().items():
            _save_transformers(model, base_state(model), folder / name)
        if (adapted := self._adapted()) is not None:
            save_adapter(adapted, folder)
        return super().save_pretrained(folder, tokenizer, metadata, overwrite=overwrite)

    def _weights(self) -> dict[str, Tensor]:
        """What is neither transformers' nor peft's, under the names of the whole module."""
        module, ours = self._module(), self._ours()
        assert isinstance(module, nn.Module)
        theirs = tuple(prefix for prefix, _ in self._models().values())
        return {
            name: value
            for name, value in module.state_dict().items()
            if name.startswith(ours) or not name.startswith(theirs)
        }

    def _load_weights(self, folder: str | Path) -> None:
        folder = Path(folder)
        for part, (_, model) in self._models().items():
            names = {name.replace(".base_layer.", "."): name for name in model.state_dict()}
            _load_transformers(model, folder / part, names)
        if (adapted := self._adapted()) is not None:
            load_adapter(adapted, folder)
        path, expected = folder / WEIGHTS, self._weights()
        if not path.is_file():
            raise ValueError(f"folder {folder} has no {WEIGHTS}; save the model again")
        try:
            given = load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged: {error}; save the model again") from None
        wrong = sorted(
            name
            for name in expected.keys() | given.keys()
            if name not in expected
            or name not in given
            or expected[name].shape != given[name].shape
        )
        if wrong:
            raise ValueError(
                f"{path} does not fit its {CONFIG}: {len(wrong)} weights differ in name or "
                f"shape, first {wrong[0]}; save the model again"
            )
        self._module().load_state_dict(given, strict=False)


class MLLMFolder(ModelFolder):
    """Save and load for a module whose `mllm` is the model; mixed in before `nn.Module`."""

    mllm: MLLM

    def _models(self) -> dict[str, tuple[str, PreTrainedModel]]:
        models = {BACKBONE: ("mllm.backbone.", self.mllm.backbone.model)}
        if self.mllm.audio is not None:
            models[AUDIO] = ("mllm.audio.tower.", self.mllm.audio.tower.encoder)
        return models

    def _adapted(self) -> Any:
        return self.mllm.adapted[0] if self.mllm.adapted else None

    def _ours(self) -> tuple[str, ...]:
        return tuple(f"mllm.backbone.model.{path}." for path in self.mllm.backbone.projector_paths)


def _save_transformers(model: PreTrainedModel, state: dict[str, Tensor], folder: Path) -> None:
    with _no_progress_bars():
        model.save_pretrained(str(folder), state_dict=state)


def _load_transformers(model: PreTrainedModel, folder: Path, names: Mapping[str, str]) -> None:
    """Copy a saved model's weights into one that is already made (and may have adapters).

    Read by transformers itself, which may store weights under other names than it runs them.
    """
    if not folder.is_dir():
        raise ValueError(f"folder {folder} is missing; save the model again")
    try:
        with _no_progress_bars():
            given = type(model).from_pretrained(str(folder), dtype="auto").state_dict()
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{folder} cannot be read: {error}; save the model again") from None
    model.load_state_dict({names[name]: value for name, value in given.items()}, strict=False)


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


__all__ = ["AUDIO", "BACKBONE", "LANGUAGE", "MOTION", "SPATIAL", "MLLMFolder", "ModelFolder"]
