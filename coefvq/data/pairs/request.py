"""What `make_pairs` is asked for: refused where impossible, stopped where the user wants it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from coefvq.data.media import BadClip
from coefvq.data.pairs.paths import WRITERS
from coefvq.data.pairs.plan import TRANSFORMATIONS
from coefvq.data.splits import SPLITS


def check_request(
    out: Path,
    copies: int,
    least: int,
    most: int,
    chosen: Sequence[str],
    segment_share: float,
    split: str | None,
    on_bad_clip: str,
) -> None:
    """Check the options of `make_pairs`, before anything is read.

    Args:
        out: the table to write.
        copies: of each source.
        least: fewest transformations of one copy.
        most: most of them.
        chosen: names of transformations.
        segment_share: share of sources with disjoint parts.
        split: where all pairs go, or None.
        on_bad_clip: `"skip"` or `"error"`.

    Raises:
        ValueError: one of them is impossible, or `out` is there.
    """
    if on_bad_clip not in ("skip", "error"):
        raise ValueError(f"on_bad_clip is skip or error, got {on_bad_clip!r}")
    if split is not None and split not in SPLITS:
        raise ValueError(f"split is one of {', '.join(SPLITS)} or null, got {split!r}")
    if strangers := [name for name in chosen if name not in TRANSFORMATIONS]:
        raise ValueError(
            f"transformations {', '.join(strangers)} are unknown; choose from "
            f"{', '.join(TRANSFORMATIONS)}"
        )
    if copies < 1 or not 1 <= least <= most or not 0 <= segment_share <= 1:
        raise ValueError(
            "copies and least must be at least 1, most at least least, and segment_share in "
            f"[0, 1]; got copies={copies}, least={least}, most={most}, "
            f"segment_share={segment_share}"
        )
    if out.suffix not in WRITERS:
        raise ValueError(f"out={out} must end in {', '.join(WRITERS)}")
    if out.exists():
        raise ValueError(f"out={out} exists; give another name, or remove it and {out}.clips")
    if not chosen:
        raise ValueError("transformations is empty; name some, or leave it out for all of them")


def check_fractions(val_fraction: float, test_fraction: float) -> None:
    """Check shares of the sources, as the user has given them.

    Raises:
        ValueError: one is not in [0, 1), or nothing is left for training.
    """
    if not (0 <= val_fraction < 1 and 0 <= test_fraction < 1 and val_fraction + test_fraction < 1):
        raise ValueError(
            "val_fraction and test_fraction are at least 0 and leave something for training, got "
            f"val_fraction={val_fraction} and test_fraction={test_fraction} (of these, 0.1 and 0.2 "
            "are what holds where nothing is given)"
        )


def stop_at(bad: Sequence[BadClip], on_bad_clip: str) -> None:
    """Stop at a clip that cannot be read, where that is wanted.

    Raises:
        ValueError: naming the first.
    """
    if bad and on_bad_clip == "error":
        raise ValueError(
            f"clip {bad[0].id} ({bad[0].path}) cannot be read: {bad[0].reason}; repair or remove "
            "it, or set on_bad_clip=skip"
        )


def stop_without_copies(bad: Sequence[BadClip], on_bad_clip: str, *, any_left: bool) -> None:
    """Stop at a clip that no chosen transformation can be applied to, where that is wanted.

    Args:
        bad: such clips.
        on_bad_clip: `"error"` stops at the first.
        any_left: whether other clips can have copies; without one there is nothing to make.

    Raises:
        ValueError: naming the first.
    """
    if not bad or (any_left and on_bad_clip != "error"):
        return
    which = "" if any_left else f"no clip can have a copy; the first of {len(bad)}: "
    remedy = ", or set on_bad_clip=skip" if any_left else ""
    raise ValueError(
        f"{which}clip {bad[0].id} ({bad[0].path}): {bad[0].reason}; allow more "
        f"transformations{remedy}"
    )


__all__ = ["check_fractions", "check_request", "stop_at", "stop_without_copies"]
