"""A few real clips, made once for the whole session."""

import numpy as np
import pytest

from coefvq.data.shortform import codec, sources
from coefvq.data.shortform.make import clip_name
from coefvq.data.shortform.pool import CHUNK, Pool

COUNT = 2 * CHUNK


@pytest.fixture(scope="session")
def pool(home):
    """The pool of seed 0 in the session's home, with at least `COUNT` clips."""
    pool = Pool(0, home)
    pool.ensure(COUNT, workers=0)
    return pool


@pytest.fixture(scope="session")
def table(pool):
    """Rows of the first `COUNT` clips."""
    return pool.ensure(COUNT)


@pytest.fixture
def clip_path(pool):
    """`clip_path(3)` is the file of clip 3."""
    return lambda index: pool.clips / clip_name(index)


@pytest.fixture(scope="session")
def picture_of():
    """`picture_of("life", 2)` is a picture of that kind, another one for another number."""

    def draw(kind, number=0):
        rng = np.random.default_rng([number, 2**20])
        while True:
            picture = sources.draw_picture(rng)
            if picture.kind == kind:
                return picture

    return draw


@pytest.fixture(scope="session")
def moving(picture_of):
    """A rendered picture with details that move: (24, 192, 128) uint8."""
    return codec.render(picture_of("mandelbrot"), [])[0]


@pytest.fixture(scope="session")
def within():
    """Whether `count` successes in `n` are plausible for a probability (4.5 deviations)."""

    def check(count, n, share):
        return abs(count - n * share) <= 4.5 * np.sqrt(n * share * (1 - share))

    return check
