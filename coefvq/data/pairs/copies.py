"""The copies of one source: planned by chance, written to disk, listed with what they show."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from coefvq.data.media import BadClip, UnreadableClip
from coefvq.data.pairs.drawing import File
from coefvq.data.pairs.plan import TRANSFORMATIONS, Plan, draw_plan
from coefvq.data.pairs.transforms import make_copy, suffix_of

GAP = 0.05
"""Share of a source between two parts of it that count as disjoint."""


@dataclass(frozen=True)
class Copy:
    """A copy that is to be made.

    Args:
        file: what it will be; `path` is its name inside the folder of copies.
        plan: how it is made.
        original: the file it is made from.
        donor: another original, where the plan takes something from it.
    """

    file: File
    plan: Plan
    original: Path
    donor: Path | None = None


@dataclass(frozen=True)
class Original:
    """A clip that was there before.

    Args:
        file: what is in it.
        path: where it is.
        name: what the names of its copies begin with.
        sound: whether it has any.
        seconds: how long it is.
    """

    file: File
    path: Path
    name: str
    sound: bool = True
    seconds: float = 2.0


def plan_copies(
    original: Original,
    donors: Sequence[Original],
    rng: np.random.Generator,
    *,
    copies: int = 3,
    least: int = 1,
    most: int = 3,
    segment_share: float = 0.5,
    least_seconds: float = 0.8,
    among: Sequence[str] = TRANSFORMATIONS,
) -> list[Copy]:
    """Plan the copies of one source.

    Args:
        original: the source.
        donors: other sources of the same split, to splice into and to take sound from.
        rng: where chance comes from; it is for this source alone.
        copies: how many.
        least: fewest transformations of one copy.
        most: most of them.
        segment_share: share of the sources of which two copies show disjoint parts.
        least_seconds: shortest part; shorter sources have no such copies.
        among: names of transformations to choose from.

    A donor is drawn before the plan. One without sound is drawn anew, among those with sound, where
    the plan needs it: to replace a sound, and to splice a clip with sound, as long as there is one.

    Returns:
        The plans; a spliced copy shows its donor, one with replaced sound plays it.

    Raises:
        NothingApplies: none of `among` can be applied to this source.
    """
    source = original.file
    spans: list[tuple[float, float] | None] = [None] * copies
    split = copies > 1 and rng.random() < segment_share and "trim" in among
    if split and original.seconds * (0.5 - GAP) >= least_seconds:
        cut = float(rng.uniform(0.45, 0.55))
        spans[-2:] = [(0.0, round(cut - GAP / 2, 4)), (round(cut + GAP / 2, 4), 1.0)]
    heard_donors = [other for other in donors if other.sound]
    made = []
    for number, span in enumerate(spans):
        donor = donors[int(rng.integers(len(donors)))] if donors else None
        plan = draw_plan(
            rng,
            least=least,
            most=most,
            span=span,
            title=source.title,
            sound=original.sound,
            donors=donor is not None,
            donor_sound=bool(heard_donors),
            among=among,
        )
        taken = {"splice", "audio_replaced"} & set(plan.how)
        wanted = "audio_replaced" in taken or ("splice" in taken and original.sound)
        if wanted and donor is not None and not donor.sound and heard_donors:
            donor = heard_donors[int(rng.integers(len(heard_donors)))]
        name = f"{original.name}-copy{number}"
        heard = source.heard
        if "audio_removed" in plan.how:
            heard = ""
        elif "audio_replaced" in plan.how and donor is not None:
            heard = donor.file.source
        file = dataclasses.replace(
            source,
            id=name,
            path=f"{name}{suffix_of(plan.codec)}",
            start=plan.span[0],
            end=plan.span[1],
            how=plan.how,
            original=False,
            title=source.title if plan.title is None else plan.title,
            inserted=donor.file.source if donor is not None and "splice" in taken else "",
            heard=heard,
        )
        made.append(Copy(file, plan, original.path, donor.path if taken and donor else None))
    return made


def write_copies(copies: Sequence[Copy], folder: Path) -> tuple[list[str], list[BadClip]]:
    """Write copies into a folder, those that are not there; runs in the worker processes.

    Returns:
        Ids of the copies that are there now, and those that could not be made, with the reasons.
    """
    av.logging.set_level(None)
    done, bad = [], []
    for copy in copies:
        target = folder / copy.file.path
        try:
            if not target.exists():  # files appear whole: one that is there is done
                make_copy(copy.original, target, copy.plan, copy.donor)
        except UnreadableClip as error:
            bad.append(BadClip(copy.file.id, error.path or copy.original, error.reason))
        else:
            done.append(copy.file.id)
    return done, bad


__all__ = ["GAP", "Copy", "Original", "plan_copies", "write_copies"]
