"""A folder per model: `model.safetensors` and `config.json`, nothing that could run code."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, Self

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from coefvq import __version__

WEIGHTS, CONFIG = "model.safetensors", "config.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
SEEN_CLIPS = "seen_clips.npy"  # coefvq.data.seen_clips writes it beside the weights


class Tokenizer(Protocol):
    """What is asked of a tokenizer here: transformers' own way of saving."""

    def save_pretrained(self, folder: str) -> Any:
        """Write tokenizer files into the folder."""


def check_weights(given: object, kind: type) -> None:
    """Refuse `pretrained` that is not what a model starts from.

    Raises:
        ValueError: for instance a plain table, from words added to a config without `_target_`.
    """
    if given is not None and not isinstance(given, kind):
        raise ValueError(
            f"pretrained is a {kind.__name__} or null, got {given!r}; choose a model whose config "
            "has one (student=xvlm_base, student=matchlite_base), or start=<folder> for one that "
            "was trained here"
        )


class PretrainedMixin:
    """Save and load for a module that `from_config` can make again from its `config`.

    A class that mixes this in, before `nn.Module`, defines both.
    """

    @property
    def config(self) -> dict[str, Any]:
        """Plain values that say the architecture."""
        raise NotImplementedError

    @classmethod
    def from_config(cls, values: Mapping[str, Any]) -> Self:
        """Make the module, randomly initialised."""
        raise NotImplementedError

    def save_pretrained(
        self,
        folder: str | Path,
        tokenizer: Tokenizer | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        overwrite: bool = False,
    ) -> Path:
        """Write weights, architecture, tokenizer and what else serving needs.

        Args:
            folder: made if it is not there.
            tokenizer: saved beside the model, None: no text is read.
            metadata: plain values that `load_metadata` gives back, for instance how files are
                read and what the logits mean.
            overwrite: replace a model that is already there.

        Returns:
            The folder.

        Raises:
            ValueError: a model is there and `overwrite` is not set; metadata is not plain.
            OSError: nothing can be written there; no half model is left.
        """
        folder = Path(folder)
        if (folder / CONFIG).exists() and not overwrite:
            raise ValueError(
                f"folder {folder} already holds a model; choose another or pass overwrite=True"
            )
        content = {
            "class": type(self).__name__,
            "coefvq_version": __version__,
            "config": self.config,
            "metadata": dict(metadata or {}),
        }
        try:
            text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        except TypeError as error:
            raise ValueError(f"metadata must be plain values for JSON: {error}") from None
        folder.mkdir(parents=True, exist_ok=True)
        for name in (*TOKENIZER_FILES, SEEN_CLIPS):  # of the model that is replaced
            (folder / name).unlink(missing_ok=True)
        if tokenizer is not None:
            tokenizer.save_pretrained(str(folder))
        # The config comes last and each file appears whole: what is half written is not a model.
        (folder / CONFIG).unlink(missing_ok=True)
        part = folder / f"{WEIGHTS}.part"
        weights = {name: value.cpu().contiguous() for name, value in self._weights().items()}
        try:
            save_file(weights, part, metadata={"format": "pt"})
        except SafetensorError as error:
            part.unlink(missing_ok=True)
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            code = int(number[1])  # a full disk must look like one to the caller
            raise OSError(code, os.strerror(code), str(part)) from error
        part.replace(folder / WEIGHTS)
        part = folder / f"{CONFIG}.part"
        part.write_text(text, encoding="utf-8")
        # safetensors writes for its owner alone, but who trains is not always who serves.
        for file in folder.rglob("*.safetensors"):
            file.chmod(stat.S_IMODE(part.stat().st_mode))
        part.replace(folder / CONFIG)
        return folder

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Make the model that a folder holds, on the CPU, in eval mode.

        Raises:
            ValueError: no model there, a model of another class, or weights of another shape.
        """
        content = read_config(folder)
        if content["class"] != cls.__name__:
            raise ValueError(
                f"folder {folder} holds {content['class']}, expected {cls.__name__}; "
                f"load it with {content['class']}.from_pretrained"
            )
        model = cls.from_config(content["config"])
        model._load_weights(folder)
        model._module().eval()
        return model

    def load_pretrained(self, folder: str | Path) -> None:
        """Load weights into a model that is already made, if the folder holds one just like it.

        Raises:
            ValueError: no model there, or of another class or architecture; the sentence names
                what differs.
        """
        content = read_config(folder)
        if content["class"] != type(self).__name__:
            raise ValueError(
                f"folder {folder} holds {content['class']}, expected {type(self).__name__}; "
                "give another checkpoint or choose the model it was saved from"
            )
        # Through JSON, so that tuples compare as the lists they were saved as.
        expected = _flatten(json.loads(json.dumps(self.config)))
        given = _flatten(content["config"])
        differing = [
            f"{name}={given.get(name)!r} (expected {expected.get(name)!r})"
            for name in sorted(expected.keys() | given.keys())
            if given.get(name) != expected.get(name)
        ]
        if differing:
            raise ValueError(
                f"checkpoint {folder} is of another architecture: {', '.join(differing)}; "
                "change the config to what was saved or give another checkpoint"
            )
        self._load_weights(folder)

    def _module(self) -> nn.Module:
        assert isinstance(self, nn.Module)
        return self

    def _weights(self) -> dict[str, Tensor]:
        return self._module().state_dict()

    def _load_weights(self, folder: str | Path) -> None:
        path = Path(folder) / WEIGHTS
        if not path.is_file():
            raise ValueError(f"folder {folder} has no {WEIGHTS}; save the model again")
        try:
            given, expected = load_file(path), self._weights()
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged: {error}; save the model again") from None
        if missing := sorted(expected.keys() ^ given.keys()):
            raise ValueError(
                f"{path} does not fit its {CONFIG}: {len(missing)} weights are on one side only, "
                f"first {missing[0]}; save the model again"
            )
        for name, value in expected.items():
            if value.shape != given[name].shape:
                raise ValueError(
                    f"{path} does not fit its {CONFIG}: {name} has shape "
                    f"{tuple(given[name].shape)}, expected {tuple(value.shape)}; "
                    "save the model again"
                )
        self._module().load_state_dict(given)


def read_config(folder: str | Path) -> dict[str, Any]:
    """Read a model folder's config: keys `class`, `coefvq_version`, `config`, `metadata`.

    Raises:
        ValueError: there is no such folder, or it holds no model of this library.
    """
    path = Path(folder) / CONFIG
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        way, student = "give the folder that save_pretrained wrote", Path(folder) / "student"
        if (student / CONFIG).is_file():
            way = f"it is a run: give its student, {student}"
        raise ValueError(f"folder {folder} holds no model: {CONFIG} is missing; {way}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}; save the model again") from None
    if not isinstance(content, dict) or not {"class", "config"} <= content.keys():
        raise ValueError(
            f"{path} is not a config of this library: keys class and config are missing; "
            "give the folder that save_pretrained wrote"
        )
    return content


def load_metadata(folder: str | Path) -> dict[str, Any]:
    """Give back the metadata that a model was saved with.

    Raises:
        ValueError: as `read_config`.
    """
    return read_config(folder).get("metadata", {})


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


__all__ = ["PretrainedMixin", "Tokenizer", "load_metadata", "read_config"]
