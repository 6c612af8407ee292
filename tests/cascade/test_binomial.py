import numpy as np
import pytest
from scipy.stats import beta, betabinom, binom, hypergeom

from coefvq.cascade.binomial import at_least, cdf, limits, log_pmf, two_sample_tails


@pytest.mark.parametrize(("n", "p"), [(1, 0.5), (59, 0.05), (300, 0.02), (5000, 0.3)])
def test_equals_scipy(n, p):
    k = np.arange(n + 1)
    np.testing.assert_allclose(log_pmf(n, p), binom.logpmf(k, n, p), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(cdf(n, p), binom.cdf(k, n, p), rtol=1e-8, atol=1e-12)
    for j in (0, 1, n // 3, n):
        assert at_least(n, p, j) == pytest.approx(binom.sf(j - 1, n, p), rel=1e-8, abs=1e-12)


@pytest.mark.parametrize(("n", "k"), [(10, 0), (10, 10), (10, 3), (150, 15), (4000, 1)])
def test_limits_are_clopper_and_pearsons(n, k):
    low = beta.ppf(0.01, k, n - k + 1) if k else 0.0
    high = beta.ppf(0.99, k + 1, n - k) if k < n else 1.0
    assert limits(n, k, 0.01) == pytest.approx((low, high), rel=1e-8, abs=1e-12)


SAMPLES = [(15, 150, 120, 1000), (0, 20, 3, 50), (20, 20, 50, 50), (5, 400, 2, 7), (2, 7, 90, 400)]


@pytest.mark.parametrize(("k", "n", "x", "m"), SAMPLES)
def test_two_samples_are_an_urn_and_an_order_statistic(k, n, x, m):
    below, above = two_sample_tails((k, n), (x, m))
    urn = hypergeom(n + m, m, k + x)
    assert below == pytest.approx(urn.cdf(x)) and above == pytest.approx(urn.sf(x - 1))
    # A threshold between the k-th and the next of n values: the share above it is Beta.
    if k < n:
        assert above == pytest.approx(betabinom(m, k + 1, n - k).sf(x - 1))
    if k > 0:
        assert below == pytest.approx(betabinom(m, k, n - k + 1).cdf(x))
