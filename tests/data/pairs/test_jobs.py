import logging
import math

import pytest

from coefvq.data.pairs import jobs
from coefvq.data.pairs.jobs import POOL_FROM, run_jobs

WORK = [(float(n), 2.0) for n in range(POOL_FROM + 3)]
WANTED = [float(n) ** 2 for n in range(POOL_FROM + 3)]


def test_here_and_in_worker_processes():
    # `math.pow` is a function that a fresh process can import.
    assert list(run_jobs(math.pow, WORK, "Working", workers=0)) == WANTED
    assert sorted(run_jobs(math.pow, WORK, "Working", workers=2)) == WANTED
    assert list(run_jobs(math.pow, [], "Working")) == []


def test_a_broken_pool_is_replaced_by_this_process(monkeypatch, caplog):
    real = jobs._in_pool

    def dying(work, some, workers):
        yield next(real(work, some[:1], 1))
        raise RuntimeError("no processes here")

    monkeypatch.setattr(jobs, "_in_pool", dying)
    with caplog.at_level(logging.WARNING):
        assert sorted(run_jobs(math.pow, WORK, "Working", workers=2)) == WANTED
    assert "no processes here" in caplog.text


def test_an_error_of_the_work_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        list(run_jobs(divmod, [(1, 0)], "Working", workers=0))
