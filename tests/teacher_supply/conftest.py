"""Teachers of small runs on real clips."""

import pytest

from coefvq import engine
from coefvq.prepare import prepared_data
from coefvq.teacher_supply.opening import open_teacher


@pytest.fixture(autouse=True)
def _quiet():
    engine.quiet()


@pytest.fixture
def opened(small, tmp_path):
    """Open the teacher of a small run: `opened("seed=5") -> supply, data, lines said`."""

    def make(*words, recipe="cpfd"):
        cfg, said = small(f"+recipe={recipe}", *words, folder=tmp_path / "run"), []
        data = prepared_data(cfg)
        return open_teacher(cfg, data, lambda line, **_: said.append(line)), data, said

    return make
