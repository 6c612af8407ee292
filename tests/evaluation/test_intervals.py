import pytest
from scipy.stats import binomtest

from coefvq.evaluation.intervals import wilson


@pytest.mark.parametrize(("hits", "n"), [(0, 30), (1, 4), (7, 50), (50, 50)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_it_is_scipys(hits, n, confidence):
    theirs = binomtest(hits, n).proportion_ci(confidence, method="wilson")
    assert wilson(hits / n, n, confidence) == pytest.approx((theirs.low, theirs.high))
