"""What an order would have changed: the same requests, decided with and without it."""

from dataclasses import replace

import pytest

from router.contract.records import Control
from router.contract.times import to_rfc3339
from router.core.snapshot import standing_order
from router.history.what_if import REFUSED, changed, compare
from tests.core.routing import AT_MS, MODELS, facts, model, snapshot

ASKED = [facts(request_id=f"{number:032x}") for number in range(400)]


def order(scope, action, **args):
    return Control(scope=scope, action=action, args=args, active=True, by="ann", reason="test", at=to_rfc3339(AT_MS))


def change(*given, standing=(), **world):
    now, then = (
        snapshot(*(standing_order(one) for one in orders), **world)
        for orders in (changed(standing, (), AT_MS), changed(standing, given, AT_MS))
    )
    return compare(ASKED, now, then)


def test_an_order_that_asks_for_what_is_done_anyway_changes_nothing():
    found = change(order("tenant:somebody-else", "pin", model="large"))
    assert (found.requests, found.moved) == (400, 0)


def test_what_a_rollback_moves_goes_to_the_baseline_and_costs_more():
    found = change(order("stratum:auto/math/hard", "rollback"))
    assert {after for _, after in found.moves} == {"large"}
    assert found.moves["small", "large"] > 200
    assert found.cost_then_nano_usd > 5 * found.cost_now_nano_usd > 0


def test_what_would_be_refused_is_said():
    found = change(order("pool:auto", "pin", model="small"), order("model:small", "ban"))
    assert {after for _, after in found.moves} == {REFUSED}
    assert found.moved == 400


def test_an_order_replaces_the_standing_one_and_one_that_is_taken_back_is_gone():
    pinned = order("pool:auto", "pin", model="small")
    again = change(replace(pinned, args={"model": "mid"}), standing=[pinned])
    assert again.moves == {("small", "mid"): 400}
    back = change(replace(pinned, active=False), standing=[pinned])
    assert {before for before, _ in back.moves} == {"small"}
    assert back.moved < 400


def test_an_order_that_has_expired_holds_no_more():
    past = replace(order("pool:auto", "pin", model="small"), expires_at=to_rfc3339(AT_MS - 1))
    assert change(standing=[past]).moved == 0
    assert changed([past], (), AT_MS) == []


@pytest.mark.parametrize("action", ["pin", "rollback"])
def test_what_has_no_price_is_counted_and_its_cost_is_not(action):
    given = order("pool:auto", action, **({"model": "large"} if action == "pin" else {}))
    models = MODELS | {"large": model("large", priced=False)}
    found = change(given, models=models)
    assert found.moved > 200
    assert (found.cost_now_nano_usd, found.cost_then_nano_usd) == (0, 0)
