"""Several light models as one: the gate `disagreement` asks all of them about every clip."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from coefvq.data.reader import ClipReader
from coefvq.serving.served_model import ServedModel, decode_alike, load_served
from coefvq.types import Batch, Clip, InputSpec, TaskSpec


@dataclass(frozen=True)
class LightModels:
    """M models of one task that decode a clip alike, so that it is decoded once for all.

    Their vocabularies may differ: each gets the texts in its own words.

    Args:
        members: two or more.

    Raises:
        ValueError: fewer, other tasks, or other ways of reading.
    """

    members: tuple[ServedModel, ...]

    def __post_init__(self) -> None:
        if len(self.members) < 2:
            raise ValueError(f"several light models are two or more, got {len(self.members)}")
        first = self.members[0]
        for other in self.members[1:]:
            if (first.task.kind, first.task.classes) != (other.task.kind, other.task.classes):
                raise ValueError(
                    f"{first.folder} answers {first.task.kind} {list(first.task.classes)}, "
                    f"{other.folder} {other.task.kind} {list(other.task.classes)}; several light "
                    "models must be of one task"
                )
            if not decode_alike(first, other):
                raise ValueError(
                    f"{first.folder} and {other.folder} read a clip in different ways (frames, "
                    "sound or text fields); several light models must read it alike"
                )

    @property
    def task(self) -> TaskSpec:
        """What all of them answer."""
        return self.members[0].task

    @property
    def inputs(self) -> InputSpec:
        """How all of them read a file."""
        return self.members[0].inputs

    @property
    def tokenizer(self) -> Any:
        """Of the first, whose words a sample from `reader` holds."""
        return self.members[0].tokenizer

    @property
    def fingerprint(self) -> str:
        """All fingerprints, in order, joined with plus signs."""
        return "+".join(member.fingerprint for member in self.members)

    def reader(self) -> ClipReader:
        """Reads a clip's file once for all of them."""
        return self.members[0].reader()

    def to(self, device: torch.device | str) -> LightModels:
        """Move all modules, in place."""
        for member in self.members:
            member.to(device)
        return self

    def logits(self, batch: Batch, clips: Sequence[Clip]) -> Tensor:
        """(M, B), (M, B, C) or (M, B, L) float32 on the CPU.

        Args:
            batch: as `reader` read it.
            clips: the same, for their texts.
        """
        return torch.stack(
            [
                member.logits(dataclasses.replace(batch, **member.reader().tokens(clips)._asdict()))
                for member in self.members
            ]
        )


Light = ServedModel | LightModels


def light_logits(light: Light, batch: Batch, clips: Sequence[Clip]) -> Tensor:
    """Logits of one light model, (B, …), or of several, (M, B, …); float32 on the CPU."""
    if isinstance(light, LightModels):
        return light.logits(batch, clips)
    return light.logits(batch)


def light_folders(light: str | Path | Sequence[str | Path]) -> tuple[Path, ...]:
    """One folder or several, as a tuple.

    Raises:
        ValueError: none, or one of them twice.
    """
    given = [light] if isinstance(light, str | Path) else list(light)
    folders = tuple(Path(folder) for folder in given)
    if not folders:
        raise ValueError("light names no model; give a folder, or several as [one,other]")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ValueError(f"light names a model twice: {', '.join(map(str, folders))}")
    return folders


def load_light(folders: Sequence[Path]) -> Light:
    """Load one light model, or several as one.

    Raises:
        ValueError: as `load_served` and `LightModels`.
    """
    if len(folders) == 1:
        return load_served(folders[0])
    return LightModels(tuple(load_served(folder) for folder in folders))


__all__ = ["Light", "LightModels", "light_folders", "light_logits", "load_light"]
