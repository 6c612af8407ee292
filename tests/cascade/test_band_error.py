import math

import numpy as np
import pytest

from coefvq.cascade.band_error import band_error
from coefvq.cascade.gates import entropy
from coefvq.cascade.thresholds import by_budget
from coefvq.evaluation.metrics import compute_metrics
from coefvq.types import TaskSpec


def test_the_global_error_hides_what_the_band_shows(rare):
    """σ(z − 3.9) is calibrated at 2 %; a scale of 2 around its middle is not."""
    c = rare(60_000)
    shifted = c.light + math.log(0.02 / 0.98)
    bent = 2 * shifted
    found = {}
    for name, z in (("good", shifted), ("bent", bent)):
        u = entropy(z, "binary")
        found[name] = band_error(z, c.labels, u >= by_budget(u, 0.1), task="binary")
    assert found["good"].inside < 0.03
    assert found["bent"].everywhere < 0.03 < 0.06 < found["bent"].inside
    assert found["bent"].clips_inside == 6000


def test_everywhere_is_the_librarys_figure(shaped):
    import torch

    for task, names in (("binary", "01"), ("multiclass", "0123")):
        z, y = shaped(task)
        theirs = compute_metrics(
            torch.tensor(z), torch.tensor(y), TaskSpec("t", task, tuple(names))
        )
        found = band_error(z, y, np.zeros(len(y)), task=task)
        assert found.everywhere == found.outside == pytest.approx(theirs["ece"])
        assert math.isnan(found.inside)


def test_errors(shaped):
    z, y = shaped("binary")
    with pytest.raises(ValueError, match="routes must have shape"):
        band_error(z, y, [True], task="binary")
