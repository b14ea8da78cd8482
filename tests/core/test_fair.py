"""Who goes first: at most as much of a tenant as others want, by weight; all of it where nobody else is there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.fair import LOOK_EVERY_MS, MARGIN, Fair

NOW_MS = 1_770_000_000_000


def ask(fair, tenant, tokens, now_ms, **how):
    first = fair.goes_first(tenant, tokens, now_ms, **how)
    fair.note(tenant, tokens, now_ms, first=first)
    return first


def played(rates, *, weights=None, crowded=True, elsewhere=None, seconds=60):
    """Requests of one token, so many a second of each tenant, evenly; of each tenant the share that went first after a while."""
    fair = Fair(weights or {})
    went, asked = dict.fromkeys(rates, 0), dict.fromkeys(rates, 0)
    due = dict.fromkeys(rates, 0.0)
    for ms in range(0, seconds * 1000, 5):
        for tenant, rate in rates.items():
            due[tenant] += rate * 0.005
            while due[tenant] >= 1:
                due[tenant] -= 1
                first = ask(fair, tenant, 1, NOW_MS + ms, crowded=crowded, elsewhere=elsewhere or {})
                if ms > 30_000:
                    asked[tenant] += 1
                    went[tenant] += first
    return {tenant: went[tenant] / asked[tenant] for tenant in rates}


def test_one_that_wants_a_hundred_times_as_much_goes_first_with_as_much_as_the_others():
    shares = played({"noisy": 200, "quiet": 2, "other": 1})
    assert shares["quiet"] == shares["other"] == 1.0
    assert 2 / 200 <= shares["noisy"] <= 2 * MARGIN * 2 / 200


def test_tenants_that_want_alike_all_go_first_and_one_alone_too():
    assert played({"a": 20, "b": 20, "c": 20}) == {"a": 1.0, "b": 1.0, "c": 1.0}
    assert played({"a": 100}) == {"a": 1.0}


def test_where_there_is_room_everybody_goes_first():
    assert played({"noisy": 200, "quiet": 2}, crowded=False) == {"noisy": 1.0, "quiet": 1.0}


@pytest.mark.parametrize("weight", [0.5, 4, 20])
def test_a_share_goes_by_weight(weight):
    share = played({"noisy": 200, "quiet": 4}, weights={"noisy": weight})["noisy"]
    assert share == pytest.approx(min(1.0, MARGIN * weight * 4 / 200), rel=0.3)


def test_what_other_lanes_get_counts_too_and_the_share_is_divided_between_lanes():
    alone = played({"noisy": 100}, elsewhere={"quiet": 4})["noisy"]
    assert alone == pytest.approx(MARGIN * 4 / 100, rel=0.3)
    half = played({"noisy": 100}, elsewhere={"quiet": 4, "noisy": 100})["noisy"]
    assert half == pytest.approx(alone / 2, rel=0.3)


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 50), min_size=2), st.integers(1, 1000))
def test_whoever_wants_less_than_another_goes_first(rates, tokens):
    fair = Fair({})
    for tenant, rate in rates.items():
        for _ in range(rate):
            ask(fair, tenant, tokens, NOW_MS, crowded=True, elsewhere={})
    least = min(rates, key=lambda tenant: rates[tenant])
    if rates[least] + 1 < max(rates.values()):
        assert ask(fair, least, tokens, NOW_MS + LOOK_EVERY_MS, crowded=True, elsewhere={})


def test_who_has_gone_is_forgotten():
    fair = Fair({})
    ask(fair, "a", 100, NOW_MS, crowded=True, elsewhere={})
    assert fair.wanted(NOW_MS) == {"a": 10.0}
    assert fair.wanted(NOW_MS + 100_000) == {}
