"""Is a cascade at work still what was fitted: from a table of its answers, or a server's log."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from coefvq.cascade.drift import RateTest, RateWatch, rate_drift
from coefvq.cascade.monitor import MissEstimate, miss_rate
from coefvq.cascade.policy import Policy
from coefvq.files import write_json
from coefvq.serving.cascade_folder import read_policy
from coefvq.types import TaskSpec


@dataclass(frozen=True)
class Watched:
    """What a period of answers says.

    Args:
        clips: answered.
        deferred: how many of them the heavy model answered.
        rate: whether that is the share that was fitted, over different files; None where the
            policy defers everything or nothing.
        alarm: the clip (from 1, in order of time) at which a running watch noticed a change of that
            share; None: it did not, or the order is unknown.
        direction: `"up"`, `"down"` or empty.
        missed: what a miss is, in words.
        misses: estimated among the kept clips; None where no kept clip was audited.
        failed: kept clips that were drawn for the audit and not judged.
        repeats: answered clips whose file had been answered before; None: unknown.
        unhashed: lines of a log without the file's hash, as older servers wrote them.
    """

    clips: int
    deferred: int
    rate: RateTest | None
    alarm: int | None
    direction: str
    missed: str
    misses: MissEstimate | None
    failed: int
    repeats: int | None = None
    unhashed: int = 0

    def share_lines(self) -> list[str]:
        """What is known of the share deferred, a sentence each."""
        share = self.deferred / max(self.clips, 1)
        found = [f"deferred {self.deferred} of {self.clips} clips ({share:.1%})"]
        if self.rate is not None:
            of = f" on {self.rate.calibration} clips" if self.rate.calibration else ""
            word = "drifted" if self.rate.drifted else "no drift"
            found[0] += f", fitted {self.rate.expected:.1%}{of}: {word} "
            found[0] += f"(p = {self.rate.p_value:.2g})"
        if self.repeats:
            found.append(f"{self.repeats} clips repeat a file; as evidence each file counts once")
        if self.unhashed:
            found.append(
                f"{self.unhashed} lines have no hash of their file, so that repeats among them "
                "count as different clips, and p-value and interval may claim too much"
            )
        if self.alarm is not None:
            found.append(f"the share deferred went {self.direction} by clip {self.alarm}")
        return found

    def lines(self) -> list[str]:
        """For people, a sentence each."""
        found = self.share_lines()
        if self.misses is None:
            found.append("no kept clip was audited, so that nothing is known of what is missed")
        else:
            m = self.misses
            found.append(
                f"missed ({self.missed}): {m.rate:.2%} of the kept clips "
                f"[{m.low:.2%}, {m.high:.2%}], about {m.total:.0f} of {m.kept:.0f}, from "
                f"{m.audited} audited"
                + (f" ({m.distinct} different files)" if m.distinct < m.audited else "")
            )
        if self.failed:
            found.append(f"{self.failed} drawn for the audit and not judged")
        return found

    def write(self, path: str | Path) -> None:
        """Write everything as one JSON."""
        write_json(Path(path), dataclasses.asdict(self))


def watch(table: pandas.DataFrame, policy: Policy, task: TaskSpec) -> Watched:
    """Estimate what is missed among kept clips, and test the share deferred.

    A miss is a kept clip that the light model answers no and the heavy one yes; for several classes
    or labels, one that the heavy model would have answered otherwise. The heavy model is the judge:
    what it misses itself is not counted, and what it wrongly flags is.

    Where rows have a `content`, as a server's log does, a file that came several times counts as
    often as it came in the rates and once as evidence for them.

    Args:
        table: one row per clip: `route`, `prediction`, and for the audit `audited`,
            `audit_probability`, `heavy_prediction`; `time` where rows have one, `problem` where a
            clip could not be answered, `audit_failed` where a drawn clip was not judged, `content`
            what names the file's content.
        policy: that answered. One of an older version does not say on how many clips its share was
            fitted; it is then taken as exact, and long windows find drift where there is none.
        task: what it answers.

    Raises:
        ValueError: a column is missing, or there is no answer.
    """
    needed = ("route", "prediction", "audited", "audit_probability", "heavy_prediction")
    if missing := [name for name in needed if name not in table.columns]:
        raise ValueError(
            f"the answers have no column {missing[0]}; give what predict wrote for a cascade, or "
            "a server's log"
        )
    table = table[table["route"].isin(["light", "heavy"])].reset_index(drop=True)
    if table.empty:
        raise ValueError("there is no answered clip to watch a cascade by")
    timed = "time" in table.columns
    if timed:
        table = table.sort_values("time", kind="stable", ignore_index=True)
    deferred = (table["route"] == "heavy").to_numpy()
    files, unhashed = _files(table)
    if not timed:
        unhashed = 0  # ids of a table differ, and each draws for itself
    first = ~files.duplicated().to_numpy()
    expected = float(policy.expected.get("deferred", math.nan))
    known = int(policy.expected.get("clips", 0))
    rate, alarm, direction = None, None, ""
    if 0 < expected < 1 and math.isfinite(policy.threshold):
        went = deferred[first]
        rate = rate_drift(int(went.sum()), len(went), expected, calibration=known)
        if timed:
            running = RateWatch(expected, calibration=known).update(went)
            alarm, direction = running.alarm, running.direction
            if alarm is not None:
                alarm = int(np.flatnonzero(first)[alarm - 1]) + 1
    failed = table.get("audit_failed", pandas.Series(False, index=table.index)).eq(True)
    judged = table[~deferred & table["audited"].eq(True).to_numpy(bool) & ~failed.to_numpy()]
    wrong = judged["prediction"] != judged["heavy_prediction"]
    said = "the heavy model answers otherwise"
    if task.kind == "binary":
        yes = task.classes[1]
        wrong = (judged["prediction"] != yes) & (judged["heavy_prediction"] == yes)
        said = f"the heavy model says {yes}"
    misses = None
    if len(judged):
        own = files[judged.index]
        others = files[~deferred]
        misses = miss_rate(
            wrong.to_numpy(), judged["audit_probability"].to_numpy(float), contents=list(own),
            kept=int((~deferred).sum()), unaudited=others[~others.isin(own)].value_counts(),
        )  # fmt: skip
    repeats = None if unhashed == len(table) or not timed else int((~first).sum())
    return Watched(
        len(table), int(deferred.sum()), rate, alarm, direction, said, misses, int(failed.sum()),
        repeats, unhashed,
    )  # fmt: skip


def _files(table: pandas.DataFrame) -> tuple[pandas.Series, int]:
    """What names each row's content, its own place where nothing does; and how many of those."""
    named = table.get("content", pandas.Series(None, index=table.index, dtype=object))
    without = named.isna() | (named == "")
    return named.where(~without, pandas.Series(table.index, index=table.index)), int(without.sum())


def watch_folder(cascade: str | Path, table: pandas.DataFrame) -> Watched:
    """`watch` with the policy of a cascade's folder; neither model is loaded.

    Raises:
        ValueError: as `watch`; no cascade there.
    """
    return watch(table, *read_policy(cascade))


def read_log(folder: str | Path) -> pandas.DataFrame:
    """Read what the processes of a server wrote, a line per answer; half a last line is left out.

    Raises:
        ValueError: no log there.
    """
    files = sorted(Path(folder).glob("*.jsonl"))
    if not files:
        raise ValueError(f"{folder} holds no log (*.jsonl); give the server's log folder")
    rows: list[dict[str, Any]] = []
    for path in files:
        # What follows the last line's end is still being written, or its writer was killed.
        rows.extend(json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1])
    if not rows:
        raise ValueError(f"the log in {folder} has no answer yet")
    return pandas.DataFrame(rows)


__all__ = ["Watched", "read_log", "watch", "watch_folder"]
