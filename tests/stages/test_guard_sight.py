"""The guard says what it can see: once an hour at most, and blind where it is."""

from __future__ import annotations

from dataclasses import replace

from router.contract.codec import decode, encode
from router.core.guard.unit import HOUR_MS
from router.core.records import Sight
from tests.stages.test_guard import ATTEMPT, T0, Installation


def test_strata_with_reviews_are_seen_and_one_without_is_blind() -> None:
    one = Installation(auto_rollback=False)
    for _ in range(28):
        at_ms = T0 + (one.hour + 1) * HOUR_MS
        for cohort in ("pilot", "control"):
            deaf = replace(ATTEMPT, stratum="deaf", cohort=cohort, at_ms=at_ms)
            one.log.produce("llm.usage", b"k", encode(deaf))
        one.hours(1, {})
    told = [decode(Sight, record.value) for record in one.log.records("llm.guard.sight")]
    assert 3 <= len(told) <= 5, "nothing is known on the first day, then once an hour"
    assert (told[-1].pool, told[-1].margin) == ("auto", 0.1)
    found = {each.stratum: each for each in told[-1].strata}
    assert {name for name, each in found.items() if each.blind} == {"deaf"}
    assert found["deaf"].days is None
    assert found["math/hard"].days < 7
