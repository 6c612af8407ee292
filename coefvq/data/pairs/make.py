"""Labelled pairs from any clips: transformed copies beside a table that says what is what."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas

from coefvq.data.media import BadClip
from coefvq.data.pairs.copies import Copy, Original, plan_copies, write_copies
from coefvq.data.pairs.drawing import Counts, File, draw_pairs, pair_row
from coefvq.data.pairs.jobs import run_jobs
from coefvq.data.pairs.paths import (
    CLIPS_FILE,
    clips_folder,
    entered_folder,
    put_table,
)
from coefvq.data.pairs.plan import TRANSFORMATIONS, NothingApplies
from coefvq.data.pairs.request import check_fractions, check_request, stop_at, stop_without_copies
from coefvq.data.pairs.sources import contents, listed, look, places
from coefvq.data.splits import SPLITS
from coefvq.types import Clip

VERSION = 3
"""Of the recipe; copies made by another one are not taken for this one's."""

SKIPPED_FILE = "skipped.csv"
"""In the folder of copies: what could not be read or copied, and why."""


@dataclasses.dataclass(frozen=True)
class MadePairs:
    """What `make_pairs` made.

    Args:
        table: the rows of the pair table.
        clips: the rows of the clip manifest.
        skipped: originals that cannot be read or that no chosen transformation can be applied to,
            and copies that could not be made.
    """

    table: pandas.DataFrame
    clips: pandas.DataFrame
    skipped: tuple[BadClip, ...]


def make_pairs(
    clips: str | Path,
    out: str | Path,
    *,
    root: str | Path | None = None,
    text: Sequence[str] = ("title",),
    copies: int = 3,
    least: int = 1,
    most: int = 3,
    transformations: Sequence[str] | None = None,
    segment_share: float = 0.5,
    counts: Counts | None = None,
    val_fraction: float = 0.1,
    test_fraction: float = 0.2,
    split: str | None = None,
    seed: int = 1,
    on_bad_clip: Literal["skip", "error"] = "skip",
    workers: int | None = None,
) -> MadePairs:
    """Make labelled pairs from a folder of clips.

    Every clip is a source. Sources are assigned to splits first; copies take what they need of
    other clips from their own split, and pairs are drawn inside each split, so no source is on two
    sides of one. Files in one folder that differ in their suffix only (`a.mp4`, `a.webm`) are taken
    for the same content, as are files of the same bytes and rows of a manifest that agree in a
    column `content`: they are reproductions of each other, and the first stands for all. A column
    `group` keeps sources together in a split. Choices and labels follow from the seed; bytes of
    files also from the encoders' versions and the processor, and from nothing else.

    Args:
        clips: a folder (every video file below it), or a manifest with columns `id` and `path`. At
            least six different ones can be read, or two with `split`: negatives need others.
        out: the table: `.parquet`, `.csv` or `.jsonl`. `<out>.clips/` holds the copies, the list of
            all clips, and the list of what was skipped. A killed call goes on where it was.
        root: where a manifest's paths start; None: the manifest's folder.
        text: text columns of the manifest; the first is the one that is rewritten, the others stay
            as they are.
        copies: copies of each source.
        least: fewest transformations that one copy combines.
        most: most of them.
        transformations: names out of `coefvq.data.pairs.plan.TRANSFORMATIONS`; None: all.
        segment_share: share of the sources of which two copies show disjoint parts.
        counts: pairs of each source; None: those of `Counts`.
        val_fraction: share of the sources for validation.
        test_fraction: likewise for the test split.
        split: put all pairs into this split instead.
        seed: another seed, other choices.
        on_bad_clip: `"skip"` leaves out what cannot be read, and what none of `transformations` can
            be applied to (no title, no sound, nobody to take a sound from), and lists it; `"error"`
            stops.
        workers: processes; 0: none, all is done in this one; None: one per core, at most 8.

    Raises:
        ValueError: `out` exists or has another ending, an option is impossible, a text column is
            missing, the folder beside `out` belongs to another call, too few clips can be read, no
            clip can have a copy, or `on_bad_clip="error"` and one cannot be read or copied.
        OSError: nothing can be written there.
    """
    out = Path(out).absolute()
    chosen = tuple(TRANSFORMATIONS if transformations is None else transformations)
    text = tuple(text or ())
    check_request(out, copies, least, most, chosen, segment_share, split, on_bad_clip)
    if split is None:
        check_fractions(val_fraction, test_fraction)
    if seed < 0 or (workers or 0) < 0:
        raise ValueError(f"seed and workers are at least 0, got seed={seed}, workers={workers}")
    found = listed(clips, root, text)
    folder = clips_folder(out)
    settings = [VERSION, copies, least, most, chosen, segment_share, val_fraction, test_fraction]
    settings += [split, seed, list(text)]
    with entered_folder(folder, settings, found):
        jobs = [(clip.id, clip.path) for clip in found]
        looks = dict(run_jobs(look, jobs, "Looking at clips", workers))
        skipped = [
            BadClip(c.id, c.path, looks[c.id]) for c in found if isinstance(looks[c.id], str)
        ]
        stop_at(skipped, on_bad_clip)
        good = [clip for clip in found if not isinstance(looks[clip.id], str)]
        content, group = contents(good, clips)
        firsts = list({content[clip.id]: clip for clip in reversed(good)}.values())[::-1]
        least_clips = 2 if split else 6
        if len(firsts) < least_clips:
            why = f" ({skipped[0].path}: {skipped[0].reason})" if skipped else ""
            raise ValueError(
                f"clips={clips} has {len(firsts)} different clips that can be read, and "
                f"{len(skipped)} that cannot{why}; negatives need others, so give at least "
                f"{least_clips}"
            )
        place = places(firsts, group, split, val_fraction, test_fraction, seed)

        originals: dict[str, Original] = {}
        files: list[File] = []
        for number, clip in enumerate(good):
            file = File(
                id=clip.id,
                path=str(clip.path),
                source=content[clip.id],
                original=True,
                kind=str(clip.path.parent),
                title=clip.text.get(text[0], "") if text else "",
                heard=content[clip.id] if looks[clip.id][0] else "",
                split=place[content[clip.id]],
            )
            files.append(file)
            if clip in firsts:
                name = f"{number:06d}-{_slug(clip.path.stem)}"
                originals[clip.id] = Original(file, clip.path, name, *looks[clip.id])
        planned, without = _planned(
            originals, seed, copies=copies, least=least, most=most, segment_share=segment_share,
            among=chosen,
        )  # fmt: skip
        stop_without_copies(without, on_bad_clip, any_left=bool(planned))
        skipped += without
        copied = {copy.file.id for some in planned for copy in some}
        if taken := copied & {clip.id for clip in found}:
            raise ValueError(
                f"a copy would have the id {min(taken)!r}, which a clip has; rename it"
            )
        done: set[str] = set()
        for there, reasons in run_jobs(
            write_copies, [(some, folder) for some in planned], "Making copies", workers
        ):
            done.update(there)
            skipped += reasons
            stop_at(reasons, on_bad_clip)
        made = [copy for some in planned for copy in some if copy.file.id in done]
        return _write(out, folder, files, made, {c.id: c for c in good}, text, counts, seed,
                      chosen, skipped)  # fmt: skip


def _planned(
    originals: dict[str, Original], seed: int, **options: Any
) -> tuple[list[list[Copy]], list[BadClip]]:
    """Plan the copies of every source, and tell which sources cannot have any."""
    planned: list[list[Copy]] = []
    without: list[BadClip] = []
    for name, original in originals.items():
        split = original.file.split
        donors = [o for o in originals.values() if o.file.split == split and o is not original]
        rng = np.random.default_rng([seed, _number(name)])
        try:
            planned.append(plan_copies(original, donors, rng, **options))
        except NothingApplies as error:
            without.append(BadClip(name, original.path, str(error)))
    return planned, without


def _write(
    out: Path,
    folder: Path,
    files: list[File],
    made: list[Copy],
    clips: dict[str, Clip],
    text: tuple[str, ...],
    counts: Counts | None,
    seed: int,
    names: Sequence[str],
    skipped: list[BadClip],
) -> MadePairs:
    """Draw the pairs and write the three tables, that of the pairs last."""
    copied = {copy.file.source for copy in made}
    usable = [f for f in [*files, *(copy.file for copy in made)] if f.source in copied]
    rows: list[dict[str, Any]] = []
    for number, split in enumerate(SPLITS):
        some = [file for file in usable if file.split == split]
        drawn = draw_pairs(some, np.random.default_rng([seed, number]), counts)
        rows += [pair_row(pair, names, split) for pair in drawn]
    if not rows:
        why = f" ({skipped[-1].path}: {skipped[-1].reason})" if skipped else ""
        raise ValueError(f"no copy of any clip could be made{why}, so there are no pairs")
    table = pandas.DataFrame(rows)
    subs = [name for name in table.columns if name.startswith("sub_")]
    table[subs] = table[subs].astype("Int8")
    plans = {copy.file.id: (copy.original, copy.plan.to_dict()) for copy in made}
    firsts = {str(clip.path): clip for clip in clips.values()}
    listed = []
    for file in usable:
        source = clips.get(file.id) or firsts[str(plans[file.id][0])]
        words = {name: source.text.get(name, "") for name in text} | (
            {text[0]: file.title} if text else {}
        )
        row = {name: value for name, value in file.to_dict().items() if name != "title"}
        plan = json.dumps(plans[file.id][1]) if file.id in plans else None
        listed.append({**row, **words, "group": file.source, "plan": plan})
    listing = pandas.DataFrame(listed)
    put_table(listing, folder / CLIPS_FILE)
    bad = [{"id": b.id, "path": str(b.path), "reason": b.reason} for b in skipped]
    put_table(pandas.DataFrame(bad, columns=["id", "path", "reason"]), folder / SKIPPED_FILE)
    put_table(table, out)
    return MadePairs(table, listing, tuple(skipped))


def _slug(text: str) -> str:
    """A name that is a plain file name everywhere."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text)[:40].strip("_") or "clip"


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest())


__all__ = ["SKIPPED_FILE", "MadePairs", "make_pairs"]
