import numpy as np
import pytest
from scipy.stats import binomtest

from coefvq.cascade.monitor import miss_rate, recall_from_audit


def test_equal_probabilities_are_a_plain_share():
    found = miss_rate([1, 0, 0, 0], [0.5] * 4)
    assert (found.rate, found.total, found.kept, found.effective) == (0.25, 2.0, 8.0, 4.0)
    theirs = binomtest(1, 4).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))


def audits(n, rounds, seed=0):
    """Kept traffic where suspicious clips are audited more often and missed more often."""
    draw = np.random.default_rng(seed)
    for _ in range(rounds):
        risk = draw.random(n)
        missed = draw.random(n) < 0.06 * risk**2
        chance = 0.05 + 0.25 * risk
        taken = draw.random(n) < chance
        yield missed, chance, taken


def test_weighting_undoes_that_suspicious_clips_are_audited_more():
    weighted, plain, totals, truth = [], [], [], []
    covered = 0
    for missed, chance, taken in audits(20_000, 200):
        found = miss_rate(missed[taken], chance[taken])
        weighted.append(found.rate)
        totals.append(found.total - missed.sum())
        plain.append(missed[taken].mean())
        truth.append(missed.mean())
        covered += found.low <= 0.02 <= found.high
    assert np.mean(weighted) == pytest.approx(0.02, rel=0.03)
    assert abs(np.mean(totals)) < 12  # of 400
    assert np.mean(plain) > 1.3 * np.mean(truth)
    assert 0.92 <= covered / 200 <= 1


def test_no_miss_is_not_no_doubt():
    found = miss_rate(np.zeros(200), np.full(200, 0.1))
    assert found.rate == found.low == 0 and 0.015 < found.high < 0.025


def coverage(draw_one, rounds, truth=None):
    """Share of intervals that hold the true rate, and their mean width."""
    inside, width = 0, 0.0
    for seed in range(rounds):
        found, rate = draw_one(np.random.default_rng(seed))
        inside += found.low <= rate <= found.high
        width += found.high - found.low
    return inside / rounds, width / rounds


@pytest.mark.parametrize("heavy", [0.5, 0.1])
def test_intervals_cover_where_rarely_audited_clips_are_missed_most(heavy):
    """The effective number of clips by weights alone covers .88 of the first and .72 of the other.

    Clips that are audited at 2 % weigh ten times the rest and hold nearly all misses.
    """

    def one(draw):
        rare = draw.random(5000) < heavy
        missed = draw.random(5000) < np.where(rare, 0.2 if heavy < 0.5 else 0.06, 0.01)
        chance = np.where(rare, 0.02, 0.2)
        taken = draw.random(5000) < chance
        return miss_rate(missed[taken], chance[taken]), missed.mean()

    covered, width = coverage(one, 600)
    print(f"\nunequal chances: {covered:.3f} of 95 % intervals, {width:.3f} wide")
    assert 0.93 <= covered <= 0.985


def uploads(draw, exponent, audit=0.1):
    """Kept contents by Zipf's law: what each upload is, whether it is missed and audited."""
    popularity = 1.0 / np.arange(1, 3001) ** exponent
    times = draw.multinomial(20_000, popularity / popularity.sum())
    missed, taken = draw.random(3000) < 0.1, draw.random(3000) < audit
    return np.repeat(np.arange(3000), times), times, missed, taken


@pytest.mark.parametrize("exponent", [1.1, 1.5])
def test_repeated_uploads_are_one_clip_each(exponent):
    def one(draw, clustered=True):
        which, times, missed, taken = uploads(draw, exponent)
        seen = which[taken[which]]
        more = {}
        if clustered:
            left = times[~taken & (times > 0)]
            more = {"contents": seen.tolist(), "kept": len(which), "unaudited": left}
        return miss_rate(missed[seen], np.full(len(seen), 0.1), **more), missed[which].mean()

    covered, width = coverage(one, 200)
    plain, narrow = coverage(lambda draw: one(draw, clustered=False), 200)
    print(f"\nZipf {exponent}: {covered:.3f} ({width:.2f} wide), as different: {plain:.3f}")
    assert covered >= 0.93 and plain < 0.3 and width > 5 * narrow


def test_a_content_weighs_as_much_as_its_uploads():
    # Two uploads of a missed file and one each of three others: 2 of 5.
    found = miss_rate([1, 1, 0, 0, 0], [0.5] * 5, contents=list("aabcd"))
    assert found.rate == pytest.approx(0.4) and (found.audited, found.distinct) == (5, 4)
    assert found.effective < 4
    assert found.high > miss_rate([1, 1, 0, 0, 0], [0.5] * 5).high
    alone = miss_rate([1, 0, 0], [0.5] * 3, contents=list("abc"), unaudited=[1, 1, 1])
    assert alone == miss_rate([1, 0, 0], [0.5] * 3)
    # A popular file that nobody looked at may be missed as a whole.
    unseen = miss_rate([1, 0, 0], [0.5] * 3, contents=list("abc"), kept=9, unaudited=[6])
    assert unseen.low < alone.low and unseen.high > alone.high and unseen.rate == alone.rate


def test_what_was_kept_is_counted_and_not_estimated():
    found = miss_rate([1, 0, 0, 0], [0.5] * 4, kept=10)
    assert (found.kept, found.total, found.rate) == (10.0, 2.5, 0.25)


def test_recall_from_an_audit():
    # 1 % of 1000 kept clips missed: 10; found 90
    found = miss_rate([1] + [0] * 99, [0.1] * 100)
    recall, low, high = recall_from_audit(found, 90)
    assert recall == pytest.approx(0.9) and low < recall < high
    assert np.isnan(recall_from_audit(miss_rate([0], [1.0]), 0)[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: miss_rate([], []), "no audited clip"),
        (lambda: miss_rate([1], [0.0]), r"probability must be in \(0, 1\]"),
        (lambda: miss_rate([1], [0.5, 0.5]), "missed must have shape"),
        (lambda: miss_rate([1], [0.5], contents="ab"), "contents names each audited clip, got 2"),
        (lambda: miss_rate([1, 0], [0.5] * 2, kept=1), "kept counts all kept clips, got 1 for 2"),
        (lambda: miss_rate([1], [0.5], unaudited=[0]), "unaudited counts uploads of each content"),
        (lambda: miss_rate([1], [0.5], confidence=95), "for 95 % write 0.95"),
        (lambda: recall_from_audit(miss_rate([1], [1.0]), -1), "found must be at least 0"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
