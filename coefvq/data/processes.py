"""Worker processes that start fast, need no main guard, and end with whoever started them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def main_hidden() -> Iterator[None]:
    """Keep processes spawned in here from importing the program that started this one.

    A spawned process runs the main program's file again to find functions in it. Workers that need
    nothing from it start sooner without, and a script needs no `if __name__ == "__main__"`.
    """
    main: Any = sys.modules["__main__"]
    saved = {name: main.__dict__[name] for name in ("__spec__", "__file__") if name in vars(main)}
    main.__spec__ = None
    main.__dict__.pop("__file__", None)
    try:
        yield
    finally:
        main.__dict__.update(saved)


def start_worker() -> None:
    """Set a worker up; give it to a pool as its initializer.

    Ctrl-C is left to the parent. A parent that is killed cannot shut its pool down, and the
    workers would wait for work forever, so each watches it and leaves when it is gone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_leave_after, args=(parent,), daemon=True).start()


def _leave_after(parent: Any) -> None:
    parent.join()
    os._exit(1)


__all__ = ["cores", "main_hidden", "start_worker"]
