"""A cascade as a folder: the policy, and where its two models are.

policy.json   gate, calibrators, thresholds, fingerprints of both models
models.json   {"light": folder, "heavy": folder}, relative to this folder where they can be
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path

from coefvq.cascade.policy import Policy
from coefvq.files import write_json
from coefvq.served_model import ServedModel, load_served

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
        models = self.light, self.heavy
        # How frames were drawn in training does not matter any more.
        inputs = [dataclasses.replace(m.inputs, train_sampling="uniform") for m in models]
        words = [None if m.tokenizer is None else m.tokenizer.get_vocab() for m in models]
        return inputs[0] == inputs[1] and words[0] == words[1]


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
    folder = Path(folder)
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
    light, heavy = load_served(paths["light"]), load_served(paths["heavy"])
    if (light.task.kind, light.task.classes) != (heavy.task.kind, heavy.task.classes):
        raise ValueError(
            f"the light model answers {light.task.kind} {list(light.task.classes)}, the heavy one "
            f"{heavy.task.kind} {list(heavy.task.classes)}; give two models of one task"
        )
    policy.check_models(light.fingerprint, heavy.fingerprint)
    return Cascade(light, heavy, policy)


def _place(folder: Path, model: Path) -> str:
    """Relative inside the run's own folder, so that a run can be moved; absolute elsewhere."""
    home, model = folder.absolute().parent, model.absolute()
    return os.path.relpath(model, folder.absolute()) if home in model.parents else str(model)


__all__ = ["Cascade", "is_cascade", "load_cascade", "save_cascade"]
