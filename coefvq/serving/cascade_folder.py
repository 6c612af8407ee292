"""A cascade as a folder: the policy, and where its two models are.

policy.json   gate, calibrators, thresholds, fingerprints of both models
models.json   {"light": folder, "heavy": folder}, relative to this folder where they can be; several
              light models are a list of folders
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from coefvq.cascade.policy import Policy
from coefvq.files import write_json
from coefvq.serving.light_models import Light, light_folders, load_light
from coefvq.serving.served_model import (
    Interface,
    ServedModel,
    load_served,
    read_interface,
    reads_alike,
)
from coefvq.types import TaskSpec

POLICY, MODELS = "policy.json", "models.json"


@dataclass(frozen=True)
class Cascade:
    """A light model (or several), a heavy one, and the policy between; fingerprints agree."""

    light: Light
    heavy: ServedModel
    policy: Policy

    @property
    def one_reading(self) -> bool:
        """Whether what was decoded for the light model is what the heavy one reads, too."""
        return reads_alike(self.light, self.heavy)


@dataclass(frozen=True)
class Half:
    """One model of a cascade, for a process that runs only that one.

    Args:
        policy: fitted for it.
        model: the light (one or several) or the heavy one.
        other: what is known of the other one, which is not loaded.
    """

    policy: Policy
    model: Light
    other: Interface


def is_cascade(folder: str | Path) -> bool:
    """Whether a folder holds a cascade rather than a model."""
    return (Path(folder) / POLICY).is_file()


def save_cascade(
    folder: str | Path,
    policy: Policy,
    light: str | Path | Sequence[str | Path],
    heavy: str | Path,
    *,
    overwrite: bool = False,
) -> Path:
    """Write a policy and where its models are; the models stay where they are.

    Args:
        folder: made if missing.
        policy: fitted for these two models.
        light: folder of the light model, or folders of several.
        heavy: folder of the heavy model.
        overwrite: replace a cascade that is there.

    Raises:
        ValueError: a cascade is there and `overwrite` is not set.
    """
    folder = Path(folder)
    if is_cascade(folder) and not overwrite:
        raise ValueError(f"{folder} already holds a cascade; give another out= or overwrite=true")
    folder.mkdir(parents=True, exist_ok=True)
    lights = [_place(folder, path) for path in light_folders(light)]
    places = {
        "light": lights[0] if len(lights) == 1 else lights,
        "heavy": _place(folder, Path(heavy)),
    }
    write_json(folder / MODELS, places)
    policy.save(folder / POLICY)  # last: where it is, the cascade is whole
    return folder


def load_cascade(folder: str | Path) -> Cascade:
    """Load both models and the policy, and check that they belong together.

    Raises:
        ValueError: no cascade there, a model that is gone or was changed, or models of different
            tasks.
    """
    policy, lights, heavy_path = _read(Path(folder))
    light, heavy = load_light(lights), load_served(heavy_path)
    _check_tasks(light.task, heavy.task)
    policy.check_models(light.fingerprint, heavy.fingerprint)
    return Cascade(light, heavy, policy)


def load_half(folder: str | Path, who: Literal["light", "heavy"]) -> Half:
    """Load one of the two models with the policy: what a process that runs only that one needs.

    Args:
        folder: of the cascade.
        who: which model.

    Raises:
        ValueError: as `load_cascade`; whether the other model was changed is for its own half to
            find.
    """
    policy, lights, heavy = _read(Path(folder))
    model: Light = load_light(lights) if who == "light" else load_served(heavy)
    other = read_interface(heavy if who == "light" else lights[0])
    tasks = (model.task, other.task)
    _check_tasks(*(tasks if who == "light" else reversed(tasks)))
    prints = {"light": policy.light_fingerprint, "heavy": policy.heavy_fingerprint}
    prints[who] = model.fingerprint
    policy.check_models(prints["light"], prints["heavy"])
    return Half(policy, model, other)


def read_policy(folder: str | Path) -> tuple[Policy, TaskSpec]:
    """Read the policy and what it answers; no model is loaded.

    Raises:
        ValueError: no cascade there, or a light model that is gone.
    """
    policy, lights, _ = _read(Path(folder))
    return policy, read_interface(lights[0]).task


def _read(folder: Path) -> tuple[Policy, tuple[Path, ...], Path]:
    """The policy, and where the light models and the heavy one are."""
    if not is_cascade(folder):
        raise ValueError(
            f"{folder} holds no cascade (no {POLICY}); give the cascade folder of a run or of "
            "coefvq.fit_cascade"
        )
    policy = Policy.load(folder / POLICY)
    try:
        places = json.loads((folder / MODELS).read_text(encoding="utf-8"))
        lights, heavy = (
            tuple((folder / place).resolve() for place in light_folders(places[who]))
            for who in ("light", "heavy")
        )
        (heavy_path,) = heavy
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{folder / MODELS} does not name both models ({error}); expected "
            '{"light": folder, "heavy": folder}'
        ) from None
    for who, path in [*(("light", path) for path in lights), ("heavy", heavy_path)]:
        if not path.is_dir():
            raise ValueError(
                f"the {who} model of {folder} is not at {path}; write its new place into "
                f"{folder / MODELS}"
            )
    return policy, lights, heavy_path


def _check_tasks(light: TaskSpec, heavy: TaskSpec) -> None:
    if (light.kind, light.classes) != (heavy.kind, heavy.classes):
        raise ValueError(
            f"the light model answers {light.kind} {list(light.classes)}, the heavy one "
            f"{heavy.kind} {list(heavy.classes)}; give two models of one task"
        )


def _place(folder: Path, model: Path) -> str:
    """Relative inside the run's own folder, so that a run can be moved; absolute elsewhere."""
    home, model = folder.absolute().parent, model.absolute()
    return os.path.relpath(model, folder.absolute()) if home in model.parents else str(model)


__all__ = [
    "Cascade",
    "Half",
    "is_cascade",
    "load_cascade",
    "load_half",
    "read_policy",
    "save_cascade",
]
