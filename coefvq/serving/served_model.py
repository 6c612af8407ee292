"""A saved model with everything that serving it needs, whatever class it is of."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from coefvq.data.reader import ClipReader
from coefvq.data.text import load_tokenizer
from coefvq.modules.pretrained import load_metadata, read_config
from coefvq.students.load import STUDENTS, takes_pairs
from coefvq.teachers.lmm_vqa import LMMVQA
from coefvq.teachers.mllm import ClipMLLM
from coefvq.types import Batch, InputSpec, TaskSpec

# Only classes named here are ever made: a downloaded folder cannot choose what code runs.
MODELS = (*(c for c in STUDENTS if c.__name__ != "MatchLite"), ClipMLLM, LMMVQA)


@dataclass(frozen=True)
class Interface:
    """What is known of a served model without its weights.

    Args:
        task: what its logits mean.
        inputs: how it reads a file.
        tokenizer: for its text fields; None if it reads none.
    """

    task: TaskSpec
    inputs: InputSpec
    tokenizer: Any


@dataclass(frozen=True)
class ServedModel:
    """A model that answers about single clips.

    Args:
        module: in eval mode.
        task: what its logits mean.
        inputs: how it reads a file.
        tokenizer: for its text fields; None if it reads none.
        threshold: chosen on validation clips; None where the folder knows none.
        fingerprint: of config and weights.
        folder: where it was loaded from.
    """

    module: nn.Module
    task: TaskSpec
    inputs: InputSpec
    tokenizer: Any
    threshold: Any
    fingerprint: str
    folder: Path

    def reader(self) -> ClipReader:
        """Reads a clip's file as the model was trained on."""
        return ClipReader(self.inputs, self.tokenizer)

    def to(self, device: torch.device | str) -> ServedModel:
        """Move the module, in place."""
        self.module.to(device)
        return self

    @torch.no_grad()
    def logits(self, batch: Batch) -> Tensor:
        """(B,), (B, C) or (B, L) float32 on the CPU."""
        device = next(self.module.parameters()).device
        answer: Tensor = self.module(batch.to(device).public()).logits
        return answer.float().cpu()


def pick_device(name: str) -> str:
    """`auto` becomes cuda where there is one.

    Raises:
        ValueError: cuda is asked for and not there.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device={name}, but no CUDA device is here; use device=cpu")
    return name


def model_fingerprint(folder: str | Path) -> str:
    """Hash of a saved model's config and weights, the adapters' included: 16 hexadecimal digits.

    Raises:
        ValueError: the folder holds no model.
    """
    folder = Path(folder)
    read_config(folder)
    digest = hashlib.sha256()
    for path in sorted([*folder.rglob("*.safetensors"), *folder.rglob("config.json")]):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


class Reads(Protocol):
    """Whatever reads a clip: a loaded model, several, or the description of one."""

    @property
    def inputs(self) -> InputSpec:
        """How it reads a file."""

    @property
    def tokenizer(self) -> Any:
        """For its text fields."""


def decode_alike(one: Reads, other: Reads) -> bool:
    """Whether both want the same frames, sound and text fields of a clip."""
    # How frames were drawn in training does not matter any more.
    ours, its = (dataclasses.replace(m.inputs, train_sampling="uniform") for m in (one, other))
    return ours == its


def reads_alike(one: Reads, other: Reads) -> bool:
    """Whether what was read for one model is what the other reads, too: words included."""
    words = [None if m.tokenizer is None else m.tokenizer.get_vocab() for m in (one, other)]
    return decode_alike(one, other) and words[0] == words[1]


def read_interface(folder: str | Path) -> Interface:
    """Read what a served model answers and reads, without loading it.

    Raises:
        ValueError: as `load_served`.
    """
    folder = Path(folder)
    _class_of(folder)
    metadata = load_metadata(folder)
    if "task" not in metadata or "inputs" not in metadata:
        raise ValueError(
            f"{folder} does not say how it reads a clip (an older version wrote it, or it is no "
            "run's student or teacher); train it again"
        )
    inputs = InputSpec(**metadata["inputs"])
    tokenizer = load_tokenizer(folder) if inputs.text_fields else None
    return Interface(TaskSpec(**metadata["task"]), inputs, tokenizer)


def load_served(folder: str | Path) -> ServedModel:
    """Load a student that a run exported, or a teacher that reads only what exists at serving.

    Args:
        folder: `runs/…/student`, or the teacher folder that a report names.

    Raises:
        ValueError: no model, one that reads pairs or privileged features, or a folder without the
            description that serving needs.
    """
    folder = Path(folder)
    known = read_interface(folder)
    return ServedModel(
        module=_class_of(folder).from_pretrained(folder).eval(),
        task=known.task,
        inputs=known.inputs,
        tokenizer=known.tokenizer,
        threshold=load_metadata(folder).get("threshold"),
        fingerprint=model_fingerprint(folder),
        folder=folder.absolute(),
    )


def _class_of(folder: Path) -> Any:
    name = read_config(folder)["class"]
    if takes_pairs(folder):
        raise ValueError(f"{folder} judges pairs; a cascade is of models that judge one clip")
    found = next((c for c in MODELS if c.__name__ == name), None)
    if found is None:
        raise ValueError(
            f"{folder} holds a {name}, which cannot be served: it is not one of "
            f"{', '.join(c.__name__ for c in MODELS)} (a teacher that reads privileged features "
            "has nothing to read there)"
        )
    return found


__all__ = [
    "MODELS",
    "Interface",
    "Reads",
    "ServedModel",
    "decode_alike",
    "load_served",
    "model_fingerprint",
    "pick_device",
    "read_interface",
    "reads_alike",
]
