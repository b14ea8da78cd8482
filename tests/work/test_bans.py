"""Which models are banned, by the control topic. The clock is stepped by hand."""

from types import SimpleNamespace

import orjson
import pytest

from router.contract.codec import to_rfc3339
from router.work.bans import Bans

NOW_MS = 1_794_000_000_000


@pytest.fixture
def clock():
    return SimpleNamespace(now_ms=NOW_MS)


@pytest.fixture
def bans(clock):
    return Bans(lambda: clock.now_ms)


def order(scope="model:small", action="ban", active=True, **more):
    fields = {"scope": scope, "action": action, "args": {}, "active": active, "by": "kim", "reason": "bad answers"}
    value = orjson.dumps(fields | {"at": to_rfc3339(NOW_MS)} | more)
    return SimpleNamespace(key=f"{scope}/{action}".encode(), value=value)


def test_a_ban_holds_until_it_is_released(bans):
    bans.apply(order())
    assert bans.banned("small")
    assert not bans.banned("large")
    bans.apply(order(active=False))
    assert not bans.banned("small")


def test_a_ban_ends_at_its_expiry(bans, clock):
    bans.apply(order(expires_at=to_rfc3339(NOW_MS + 1000)))
    assert bans.banned("small")
    clock.now_ms += 1000
    assert not bans.banned("small")


def test_a_deleted_order_no_longer_holds(bans):
    bans.apply(order())
    bans.apply(SimpleNamespace(key=b"model:small/ban", value=None))
    assert not bans.banned("small")


def test_a_drain_is_no_ban(bans):
    bans.apply(order(action="drain"))
    assert not bans.banned("small")


@pytest.mark.parametrize("record", [
    SimpleNamespace(key=None, value=None), SimpleNamespace(key=b"\xff/ban", value=None), SimpleNamespace(key=b"x", value=b"{"),
    order(reason=""), order(expires_at="soon"), order(scope="pool:auto"),
])  # fmt: skip
def test_what_is_no_order_changes_nothing(bans, record):
    bans.apply(order())
    bans.apply(record)
    assert bans.banned("small")
