"""Run folders: made once, never overwritten, continued only when asked."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from coefvq.config import task_word
from coefvq.files import write_text

_log = logging.getLogger(__name__)

# Keys that say where and how to go on, not what to compute.
_NOT_COMPARED = ("run_dir", "resume", "cache_dir", "runtime", "logger")
_ENVIRONMENT = "COEFVQ_RUN_DIR"


@dataclass(frozen=True)
class RunFolder:
    """The files of one run.

    Args:
        path: the folder itself.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The composed config, YAML."""
        return self.path / "config.yaml"

    @property
    def report(self) -> Path:
        """The finished run's report; its existence means that the run is finished."""
        return self.path / "report.json"

    @property
    def checkpoint(self) -> Path:
        """The last epoch's Lightning checkpoint."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def student(self) -> Path:
        """The exported student: all that serving needs."""
        return self.path / "student"

    @property
    def cascade(self) -> Path:
        """The cascade of the student and its teacher, where the run fitted one."""
        return self.path / "cascade"

    @property
    def plots(self) -> Path:
        """PNG pictures."""
        return self.path / "plots"


def default_run_dir(name: str, task: str, seed: int, swept: Sequence[str] = ()) -> Path:
    """Make `runs/<name>-<task>-s<seed>-<time>`, with a number behind it if that is taken.

    The folder is made here, so that runs that start in the same second never share one.

    Args:
        name: of the recipe.
        task: of the data.
        seed: of the run.
        swept: `key=value` words in which runs of one sweep differ; they stand in the name.
    """
    words = [
        f"{key.rpartition('.')[2]}={value}" for key, _, value in (w.partition("=") for w in swept)
    ]
    middle = "-".join([name, task, *words, f"s{seed}"])
    middle = "".join(c if c.isalnum() or c in "._=-" else "_" for c in middle)[:150]
    stem = f"{middle}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = Path("runs") / stem, 1
    while True:
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            number += 1
            path = Path("runs") / f"{stem}-{number}"
        else:
            return path


def rank() -> int:
    """This process's place among those that were launched for one run: 0 for the first.

    Lightning's launcher sets LOCAL_RANK, torchrun RANK, Slurm SLURM_PROCID; the first process on
    another machine has a NODE_RANK.
    """
    names = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
    return max(int(os.environ.get(name) or 0) for name in names)


def open_run(path: str | Path | None, config: dict[str, Any], resume: bool) -> RunFolder:
    """Make the folder of a run, or enter it again when `resume` says so.

    Args:
        path: where; None: `default_run_dir`.
        config: the composed config, compared with the stored one when resuming.
        resume: go on with an unfinished run. A folder that does not exist yet is simply made, so
            that a preempted job can always be started with `resume=true`.

    Raises:
        ValueError: if the folder holds a run and `resume` is off, if the run in it is finished, or
            if its config was another one.
    """
    if rank() > 0:
        # A process launched beside ours: the first process has made the folder.
        given = os.environ.get(_ENVIRONMENT) or path
        if given is None:
            raise ValueError(
                "several processes were started but run_dir is not set, so that each would make a "
                "folder of its own; add run_dir=runs/<name>"
            )
        return RunFolder(Path(given).absolute())
    if path is None:
        if resume:
            raise ValueError("resume=true needs the folder to go on with: add run_dir=runs/<name>")
        path = default_run_dir(config["name"], task_word(config), config["seed"])
    run = RunFolder(Path(path).absolute())
    if run.path.exists() and not run.path.is_dir():
        raise ValueError(f"run_dir={path} is a file; give a folder")
    if run.report.exists():
        raise ValueError(
            f"{path} holds a finished run ({run.report.name} exists); choose another run_dir, or "
            "read it with python -m coefvq.evaluate run=" + str(path)
        )
    if run.config.exists():
        if not resume:
            raise ValueError(
                f"{path} holds an unfinished run; add resume=true to go on with it, or choose "
                "another run_dir"
            )
        stored = yaml.safe_load(run.config.read_text(encoding="utf-8"))
        changed = differing_keys(stored, config)
        if changed:
            raise ValueError(
                f"{path} was started with other settings ({'; '.join(changed[:6])}); give the "
                "same ones to resume, or choose another run_dir"
            )
    elif run.path.exists() and any(run.path.iterdir()):
        raise ValueError(f"run_dir={path} exists and is not empty; choose another folder")
    elif resume:
        _log.info("resume=true, but %s does not exist yet: a new run starts there", path)
    run.path.mkdir(parents=True, exist_ok=True)
    write_text(run.config, yaml.safe_dump(config, sort_keys=False))
    os.environ[_ENVIRONMENT] = str(run.path)
    return run


@contextmanager
def forgotten_if_unused(run: RunFolder) -> Iterator[None]:
    """Remove the folder if what is inside fails before a step is logged or anything else is there.

    A mistyped word then leaves nothing behind that a second try would stumble over.
    """
    try:
        yield
    except BaseException:
        settings = {run.config, run.path / "logs" / "hparams.yaml"}
        if rank() == 0 and settings.issuperset(p for p in run.path.rglob("*") if p.is_file()):
            shutil.rmtree(run.path)
        raise


_words: ContextVar[Sequence[str] | None] = ContextVar("words", default=None)


@contextmanager
def made_by(words: Sequence[str]) -> Iterator[None]:
    """Runs in here are made by these words of `coefvq.train`, whatever program was started."""
    token = _words.set(words)
    try:
        yield
    finally:
        _words.reset(token)


def run_command() -> str:
    """The command that makes this run again."""
    words = _words.get()
    return "python -m coefvq.train " + shlex.join(sys.argv[1:] if words is None else words)


def differing_keys(stored: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """`key: stored -> given` for every dotted key that differs, without the bookkeeping keys.

    A key that is missing is null: a word that an older version did not know.
    """
    left, right = flatten(stored), flatten(given)
    return [
        f"{key}: {left.get(key)!r} -> {right.get(key)!r}"
        for key in sorted(left.keys() | right.keys())
        if key.split(".")[0] not in _NOT_COMPARED and left.get(key) != right.get(key)
    ]


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """A nested dict as dotted keys; lists are values."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
