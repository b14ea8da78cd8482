import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.contract.ids import request_id
from router.core.draw import HOLDOUT, MODEL, ROLLOUT, draw


@settings(deadline=None)
@given(st.text(), st.text(), st.sampled_from([HOLDOUT, MODEL, ROLLOUT]))
def test_a_draw_is_in_the_unit_interval_and_always_the_same(tenant, unit, salt):
    assert 0.0 <= draw(tenant, unit, salt) < 1.0
    assert draw(tenant, unit, salt) == draw(tenant, unit, salt)


def test_one_tenant_without_sessions_has_two_per_cent_in_the_holdout():
    drawn = [draw("acme", request_id("acme", f"r-{i}"), HOLDOUT) for i in range(100_000)]
    assert sum(one < 0.02 for one in drawn) / 100_000 == pytest.approx(0.02, abs=0.002)


def test_draws_of_different_salts_are_independent():
    units = [request_id("acme", f"r-{i}") for i in range(50_000)]
    both = sum(draw("acme", u, HOLDOUT) < 0.5 and draw("acme", u, MODEL) < 0.5 for u in units)
    assert both / 50_000 == pytest.approx(0.25, abs=0.01)


def test_a_lone_surrogate_draws_too():
    assert 0.0 <= draw("\ud800", "\udfff", MODEL) < 1.0
