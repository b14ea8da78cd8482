"""Orders of people: who may give them, and what of a rollout's own they take back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router import control
from router.contract.errors import ConfigError
from router.contract.orders import ROLLOUT

NOW_MS = 1_780_000_000_000


def share(scope, percent, by="ann"):
    made = control.order(scope, "rollout", {"percent": percent}, by="ann", reason="test", now_ms=NOW_MS)
    return replace(made, by=by)


def test_nobody_signs_as_the_product():
    with pytest.raises(ConfigError, match="give a person's name"):
        control.order("all", "freeze", {}, by="pointsman guard", reason="test", now_ms=NOW_MS)
    with pytest.raises(ConfigError, match="give a person's name"):
        control.release([], "all", None, by="pointsman rollout", reason="test", now_ms=NOW_MS)


@pytest.mark.parametrize(
    ("scope", "taken"),
    [
        ("pool:auto", ["stratum:auto/math/easy", "stratum:auto/math/hard"]),
        ("stratum:auto/math", ["stratum:auto/math/easy", "stratum:auto/math/hard"]),
        ("stratum:auto/math/easy", []),
        ("stratum:auto/mat", []),
        ("all", ["pool:auto", "stratum:auto/math/easy", "stratum:auto/math/hard", "stratum:other/math/easy"]),
        ("tenant:acme", []),
    ],
)
def test_a_share_for_a_wider_scope_takes_back_what_the_rollout_ordered_within(scope, taken):
    scopes = ("pool:auto", "stratum:auto/math/easy", "stratum:auto/math/hard", "stratum:other/math/easy")
    standing = [share(one, 5, by=ROLLOUT) for one in scopes] + [share("stratum:auto/chat/easy", 5)]
    found = control.overruled(standing, share(scope, 1), NOW_MS)
    assert sorted(one.scope for one in found) == taken
    assert not any(one.active for one in found)
    assert control.overruled(standing, replace(share(scope, 1), action="holdout"), NOW_MS) == []
