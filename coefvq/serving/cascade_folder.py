"""A cascade as a folder: the policy, and where its two models are.

policy.json   gate, calibrators, thresholds, fingerprints of both models
models.json   {"light": folder, "heavy": folder}, relative to this folder where they can be
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from coefvq.cascade.policy import Policy
from coefvq.files import write_json
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
    """A light model, a heavy model, and the policy between them; fingerprints agree."""

    light: ServedModel
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
        model: the light or the heavy one.
        other: what is known of the other one, which is not loaded.
    """

    policy: Policy
    model: ServedModel
    other: Interface


def is_cascade(folder: str | Path) -> bool:
    """Whether a folder holds a cascade rather than a model."""
    return (Path(folder) / POLICY).is_file()


def save_cascade(
    folder: str | Path, policy: Policy, light: str | Path, heavy: str | Path, *, overwrite=False
) -> Path:
    """Write a policy and where its models are; the models stay where they are.

    Args:
        folder: made if missing.
        policy: fitted for these two models.
        light: folder of the light model.
        heavy: folder of the heavy model.
        overwrite: replace a cascade that is there.

    Raises:
        ValueError: a cascade is there and `overwrite` is not set.
    """
    folder = Path(folder)
    if is_cascade(folder) and not overwrite:
        raise ValueError(f"{folder} already holds a cascade; give another out= or overwrite=true")
    folder.mkdir(parents=True, exist_ok=True)
    places = {"light": _place(folder, Path(light)), "heavy": _place(folder, Path(heavy))}
    write_json(folder / MODELS, places)
    policy.save(folder / POLICY)  # last: where it is, the cascade is whole
    return folder


def load_cascade(folder: str | Path) -> Cascade:
    """Load both models and the policy, and check that they belong together.

    Raises:
        ValueError: no cascade there, a model that is gone or was changed, or models of different
            tasks.
    """
    policy, paths = _read(Path(folder))
    light, heavy = load_served(paths["light"]), load_served(paths["heavy"])
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
    policy, paths = _read(Path(folder))
    model = load_served(paths[who])
    other = read_interface(paths["heavy" if who == "light" else "light"])
    tasks = (model.task, other.task)
    _check_tasks(*(tasks if who == "light" else reversed(tasks)))
    prints = {"light": policy.light_fingerprint, "heavy": policy.heavy_fingerprint}
    prints[who] = model.fingerprint
    policy.check_models(prints["light"], prints["heavy"])
    return Half(policy, model, other)


def _read(folder: Path) -> tuple[Policy, dict[str, Path]]:
    """The policy, and where both models are."""
    if not is_cascade(folder):
        raise ValueError(
            f"{folder} holds no cascade (no {POLICY}); give the cascade folder of a run or of "
            "coefvq.fit_cascade"
        )
    policy = Policy.load(folder / POLICY)
    try:
        places = json.loads((folder / MODELS).read_text(encoding="utf-8"))
        paths = {who: (folder / places[who]).resolve() for who in ("light", "heavy")}
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{folder / MODELS} does not name both models ({error}); expected "
            '{"light": folder, "heavy": folder}'
        ) from None
    for who, path in paths.items():
        if not path.is_dir():
            raise ValueError(
                f"the {who} model of {folder} is not at {path}; write its new place into "
                f"{folder / MODELS}"
            )
    return policy, paths


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


__all__ = ["Cascade", "Half", "is_cascade", "load_cascade", "load_half", "save_cascade"]
