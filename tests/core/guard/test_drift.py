"""Drift: what is unchanged keeps quiet as often as is promised, what has changed does not, and a day is judged once."""

from __future__ import annotations

import numpy as np
import pytest

from router.core.guard import drift
from router.core.guard.detector import DAY_MS
from router.core.guard.drift import FAR, LEAST, MOST_CLASSES, MOST_DAYS, Drift, Sample, shift

T0 = 20_000 * DAY_MS
ROWS = Sample([100] * 10, 50)


def of_nature(random, m, bins):
    """Rows of an unknown distribution, cut at their own quantiles: the counts, and the shares that requests truly have in those bins."""
    drawn = np.sort(random.random(m))
    edges = [drawn[m * cut // bins] for cut in range(1, bins)]
    counts = np.bincount(np.searchsorted(edges, drawn, side="right"), minlength=bins)
    distances = np.sort(random.random(m))
    reach = distances[int(FAR * m)]
    rows = Sample(counts.tolist(), int((distances > reach).sum()))
    return rows, np.diff([0.0, *edges, 1.0]), 1.0 - reach


@pytest.mark.parametrize(("n", "m", "bins"), [(500, 200, 4), (500, 1000, 10), (5000, 500, 10)])
def test_unchanged_requests_speak_no_more_often_than_is_promised(monkeypatch, n, m, bins):
    """Without the floors, which hide most of it; at a chance of one in a hundred, where 4,000 windows tell."""
    for name in ("PSI_FLOOR", "KS_FLOOR", "OFF_FLOOR"):
        monkeypatch.setattr(drift, name, 0.0)
    random, windows, alpha = np.random.default_rng(n + m), 4000, 0.01
    spoke = np.zeros(3)
    for _ in range(windows):
        rows, shares, far = of_nature(random, m, bins)
        found = shift(Sample(random.multinomial(n, shares).tolist(), int(random.binomial(n, far))), rows, alpha)
        spoke += [found.psi >= found.psi_limit, found.ks >= found.ks_limit, found.off >= found.off_limit]
    assert (spoke <= alpha * windows + 3 * np.sqrt(alpha * windows)).all()
    assert spoke[0] > alpha * windows / 3, "the limit of PSI is that quantile, not any large number"


def test_no_pool_of_eight_classes_is_told_of_anything_in_four_thousand_unchanged_days():
    random = np.random.default_rng(5)
    for _ in range(200):
        one = Drift("v", T0)
        truths = {f"c{at}": of_nature(random, 300, 6) for at in range(8)}
        for day in range(1, 21):
            for name, (rows, shares, far) in truths.items():
                seen = Sample(random.multinomial(LEAST, shares).tolist(), int(random.binomial(LEAST, far)))
                one.add(name, seen, rows, T0 + day * DAY_MS - 1)
            assert one.step(T0 + day * DAY_MS)
            assert not one.speaking("confidence_drift")
            assert not one.speaking("off_centroid")


def test_confidence_that_moved_is_seen_in_the_class_where_it_did():
    one = Drift("v", T0)
    one.add("same", Sample([70] * 10, 35), ROWS, T0)
    one.add("moved", Sample([140, 120, 100, 90, 70, 60, 50, 30, 20, 20], 35), ROWS, T0)
    one.step(T0 + DAY_MS)
    assert list(one.speaking("confidence_drift")) == ["moved"]
    assert one.speaking("off_centroid") == {}


def test_requests_far_from_what_was_learned_are_seen_without_a_word_on_confidence():
    one = Drift("v", T0)
    one.add("other", Sample([70] * 10, 140), ROWS, T0)
    one.step(T0 + DAY_MS)
    assert list(one.speaking("off_centroid")) == ["other"]
    assert one.speaking("confidence_drift") == {}


def test_too_few_requests_wait_for_more_days_and_are_forgotten_in_the_end():
    one, far = Drift("v", T0), Sample([0] * 9 + [LEAST // 3], LEAST // 3)
    for day in (1, 2):
        one.add("rare", far, ROWS, T0 + day * DAY_MS - 1)
        one.step(T0 + day * DAY_MS)
        assert one.judged == {}
    for part in range(2):
        one.add("rare", far, ROWS, T0 + 3 * DAY_MS - 2 + part)
    one.step(T0 + 3 * DAY_MS)
    assert one.judged["rare"].shift.n == LEAST // 3 * 4
    one.add("rarer", far, ROWS, T0 + 3 * DAY_MS)
    one.step(T0 + (3 + MOST_DAYS) * DAY_MS)
    assert one.windows["rarer"].seen.n == 0


def test_what_was_seen_holds_until_the_class_is_judged_again_or_is_long_gone():
    one = Drift("v", T0)
    one.add("moved", Sample([700] + [0] * 9), ROWS, T0)
    assert one.step(T0 + DAY_MS)
    assert not one.step(T0 + DAY_MS + 1)
    one.step(T0 + 10 * DAY_MS)
    assert one.speaking("confidence_drift")
    one.step(T0 + 16 * DAY_MS)
    assert not one.speaking("confidence_drift")


def test_it_comes_back_as_it_was():
    one = Drift("v", T0)
    one.add("moved", Sample([700] + [0] * 9), ROWS, T0)
    one.step(T0 + DAY_MS)
    one.add("moved", Sample([3] * 10, 2), ROWS, T0 + DAY_MS)
    assert Drift.load(one.dump()) == one


def test_bins_that_do_not_fit_are_refused_and_classes_are_bounded():
    one = Drift("v", T0)
    for seen, rows in (
        (Sample([1, 2]), Sample([1, 2, 3])),
        (Sample([1]), Sample([0])),
        (Sample([-1, 2]), Sample([1, 1])),
    ):
        with pytest.raises(ValueError, match="class 'x'"):
            one.add("x", seen, rows, T0)
    for at in range(MOST_CLASSES + 5):
        one.add(f"c{at}", Sample([1, 1]), Sample([5, 5]), T0)
    assert len(one.windows) == MOST_CLASSES
