import contextlib

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.snapshot import NO_ORDERS, FocusFacts, Snapshot, SnapshotError, two_digits
from tests.core.routing import AT_MS, LEARNED, MODELS, health, order, pool, snapshot

scopes = st.sampled_from(["all", "pool:auto", "tenant:acme", "stratum:auto/math", "stratum:auto/math/hard"])
orders = st.builds(
    order,
    scope=scopes,
    action=st.sampled_from(["pin", "rollout", "holdout", "rollback"]),
    model=st.sampled_from(["small", "large"]),
    percent=st.floats(0, 100),
    expires_at_ms=st.none() | st.integers(AT_MS - 10, AT_MS + 10),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(orders), st.randoms())
def test_equal_parts_in_any_order_are_one_snapshot_and_survive_their_canonical_form(given_orders, rng):
    unique = list({(one.scope, one.action): one for one in given_orders}.values())
    shuffled = list(unique)
    rng.shuffle(shuffled)
    parts = {"health": {"small": health("down", 120, AT_MS)}, "tenants": {"acme": ("auto",)}, "shadow_percent": 5.0} | {
        "tenant_models": {"acme": ("small",)},
        "known": ("acme", "b"),
    }
    one, other = {("auto", "math/hard"): FocusFacts(2.0, 0.0)}, {("auto", "code/easy"): FocusFacts(1.0, 9.5)}
    made = snapshot(*unique, **parts, focus=one | other)
    again = snapshot(*shuffled, **parts, focus=other | one)
    assert made.version == again.version
    back = Snapshot.from_canonical(made.canonical())
    assert back == made
    assert made.with_orders(unique) == made
    assert back.canonical() == made.canonical()


def test_any_changed_part_is_another_version():
    base = snapshot()
    others = [
        snapshot(order("all", "pin", model="small")),
        snapshot(weights={}),
        snapshot(health={"small": health("up")}),
        snapshot(holdout_percent=3.0),
        snapshot(models=MODELS | {"small": MODELS["mid"]}),
        snapshot(tenants={"acme": ("auto",)}),
        snapshot(tenant_models={"acme": ("small",)}),
        snapshot(tenants={"other": ("auto",)}),
        snapshot(tenants={"other": ("auto",)}, known=("acme",)),
        snapshot(classifier="0123456789abcdef"),
        snapshot(focus={("auto", "math/hard"): FocusFacts(2.0, 1.0)}),
        snapshot(shadow_percent=1.0),
    ]
    assert len({one.version for one in (base, *others)}) == len(others) + 1


def test_a_slice_under_suspicion_adds_to_what_its_stratum_gets():
    focus = {
        ("auto", "math/hard"): FocusFacts(2.0, 1.0),
        ("auto", "slice/language=cyrillic"): FocusFacts(6.0, 3.0),
        ("auto", "slice/tenant=acme"): FocusFacts(0.5, 0.0),
    }
    made = snapshot(focus=focus)
    assert made.focus_on("auto", "math/hard", "acme", ("language=latin", "length=short")) == FocusFacts(2.5, 1.0)
    assert made.focus_on("auto", "math/hard", "other", ("language=cyrillic",)) == FocusFacts(8.0, 4.0)
    assert made.focus_on("auto", "code/easy", "other", ("language=cyrillic",)) == FocusFacts(7.0, 4.0)
    assert made.focus_on("chat", "math/hard", "acme", ("language=cyrillic",)) == FocusFacts()


@pytest.mark.parametrize("order_of_bytes", ["first", "middle", "last"])
def test_a_changed_byte_is_no_snapshot_or_another_one(order_of_bytes):
    made = snapshot(order("all", "pin", model="small"))
    value = bytearray(made.canonical())
    at = {"first": 0, "middle": len(value) // 2, "last": len(value) - 1}[order_of_bytes]
    value[at] ^= 1
    with contextlib.suppress(SnapshotError):
        assert Snapshot.from_canonical(bytes(value)).version != made.version


@pytest.mark.parametrize("value", [b"", b"null", b"[]", b"{}", b'{"models":1}', b"\xff"])
def test_what_is_no_snapshot_is_said_to_be_none(value):
    with pytest.raises(SnapshotError):
        Snapshot.from_canonical(value)


def test_white_space_is_not_canonical():
    with pytest.raises(SnapshotError):
        Snapshot.from_canonical(orjson.dumps(orjson.loads(snapshot().canonical()), option=orjson.OPT_INDENT_2))


WIDEST_FIRST = ["all", "pool:auto", "tenant:acme", "stratum:auto/math", "stratum:auto/math/hard"]


def holdout_of(*standing, at_ms=AT_MS):
    return snapshot(*standing).orders_for("auto", "math/hard", "acme", at_ms).holdout_percent


def test_the_narrower_scope_wins():
    for narrow in range(1, len(WIDEST_FIRST) + 1):
        standing = [order(scope, "holdout", percent=float(n)) for n, scope in enumerate(WIDEST_FIRST[:narrow])]
        assert holdout_of(*standing) == narrow - 1


def test_orders_of_other_scopes_say_nothing():
    elsewhere = ["pool:other", "tenant:other", "stratum:auto/code/hard", "stratum:other/math/hard"]
    assert (
        snapshot(*[order(scope, "pin", model="small") for scope in elsewhere]).orders_for(
            "auto", "math/hard", "acme", AT_MS
        )
        == NO_ORDERS
    )


def test_an_order_holds_until_it_expires():
    short = order("all", "holdout", percent=5.0, expires_at_ms=AT_MS)
    wide = order("pool:auto", "holdout", percent=7.0, expires_at_ms=AT_MS - 100)
    assert holdout_of(short, wide, at_ms=AT_MS - 1) == 5.0
    assert holdout_of(short, wide, at_ms=AT_MS - 101) == 7.0
    assert holdout_of(short, wide, at_ms=AT_MS) is None


def test_of_pin_and_rollback_the_narrower_wins_and_at_one_scope_the_pin():
    pin, rollback = order("pool:auto", "pin", model="small"), order("pool:auto", "rollback")
    narrow = order("stratum:auto/math/hard", "rollback")

    def found(*standing):
        orders = snapshot(*standing).orders_for("auto", "math/hard", "acme", AT_MS)
        return orders.pin, orders.rolled_back

    assert found(pin) == ("small", False)
    assert found(rollback) == (None, True)
    assert found(pin, rollback) == ("small", False)
    assert found(pin, narrow) == (None, True)


def test_of_a_slice_only_its_requests_are_rolled_back_and_only_there():
    cyrillic, pin = (
        order("stratum:auto/slice/language=cyrillic", "rollback"),
        order("tenant:acme", "pin", model="small"),
    )
    standing = snapshot(cyrillic, pin)

    def found(slices, pool="auto"):
        orders = standing.orders_for(pool, "math/hard", "acme", AT_MS, slices)
        return orders.rolled_back, orders.pin, orders.fence

    assert found(("language=cyrillic", "length=short")) == (True, None, cyrillic.scope)
    assert found(("language=latin", "length=short")) == found(()) == (False, "small", None)
    assert found(("language=cyrillic",), pool="other") == (False, "small", None)
    narrower = snapshot(cyrillic, order("stratum:auto/math", "pin", model="small"))
    assert narrower.orders_for("auto", "math/hard", "acme", AT_MS, ("language=cyrillic",)).pin == "small"


def test_freezing_is_the_learners_matter_and_no_new_version():
    assert snapshot(order("all", "freeze")).version == snapshot().version


@settings(deadline=None)
@given(st.floats(0, 1e9))
def test_latency_is_rounded_up_by_less_than_a_tenth(ms):
    assert ms <= two_digits(ms) <= max(ms * 1.1 + 1, 1)


def test_weights_of_strata_with_odd_names_survive():
    odd = {("auto", 'a/b"c'): LEARNED["auto", "math/hard"], ("auto", ""): LEARNED["auto", "math/hard"]}
    made = snapshot(weights=odd, pools={"auto": pool(), "b": pool("b")})
    assert Snapshot.from_canonical(made.canonical()).weights == odd
