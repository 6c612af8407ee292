import numpy as np
import pytest
from scipy.stats import binom

from coefvq.cascade.binomial import at_least, cdf, log_pmf


@pytest.mark.parametrize(("n", "p"), [(1, 0.5), (59, 0.05), (300, 0.02), (5000, 0.3)])
def test_equals_scipy(n, p):
    k = np.arange(n + 1)
    np.testing.assert_allclose(log_pmf(n, p), binom.logpmf(k, n, p), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(cdf(n, p), binom.cdf(k, n, p), rtol=1e-8, atol=1e-12)
    for j in (0, 1, n // 3, n):
        assert at_least(n, p, j) == pytest.approx(binom.sf(j - 1, n, p), rel=1e-8, abs=1e-12)
