from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.contract.codec import decode, encode
from router.contract.records import Decision, Origin
from router.core.audit import decision_record, facts_of, refusal_record
from router.core.decide import decide
from router.core.facts import Assignment, Refusal
from router.core.mirror import Mirror
from router.core.records import First
from router.core.snapshot import FocusFacts
from router.history.replay import Snapshots, Verdict, replay
from tests.core.routing import AT_MS, facts, health, order, snapshot

ORIGIN = Origin(topic="llm.requests", partition=3, offset=12)
FIRST = First(stratum="math/hard", cohort="pilot", propensity=0.7, policy_version="thompson:7", model="small")
MIRROR = Mirror(of=1, model="small", served_model="small-1", answer_at=ORIGIN, inclusion=0.5, review=0.25)
PAIR = replace(MIRROR, shadow="large", shadow_served_model="large-1", shadow_at=ORIGIN)
ASSIGNED = Assignment(
    model="small",
    stratum="math/hard",
    cohort="pilot",
    weights={"small": 0.5, "large": 0.5},
    policy_version="thompson:3",
)
WORLD = snapshot(
    order("pool:auto", "holdout", percent=1.0, expires_at_ms=AT_MS + 5),
    order("stratum:auto/slice/language=cyrillic", "rollback"),
    health={"mid": health("probing", 1200, AT_MS + 9)},
    tenants={"other": ("auto",)},
    focus={("auto", "math/hard"): FocusFacts(5.0, 2.0)},
    shadow_percent=50.0,
)


def recorded(asked, world=WORLD):
    choice = decide(asked, world)
    return encode(decision_record(asked, choice, snapshot_version=world.version, lane="batch", origin=ORIGIN))


def replayed(value, stored=None):
    return replay(value, Snapshots({WORLD.version: WORLD.canonical()} if stored is None else stored))


CASES = {
    "a first attempt": facts(),
    "a direct one": facts(target="small", session="s", completion_tokens=10, max_cost_nano_usd=10**9),
    "in a session": facts(session="s", assignment=ASSIGNED, needs=("tools",)),
    "a retry": facts(
        attempt=2, reason="retry", first=FIRST, prefer="small", exclude=("mid",), last_error="provider_error"
    ),
    "with probabilities": facts(p_ok={"small": 0.25, "large": 0.5}),
    "one that was drawn": facts(pace=0.5),
    "in a slice that was given back": facts(slices=("language=cyrillic", "length=short")),
    "a shadow": facts(attempt=101, reason="shadow", first=FIRST, mirror=MIRROR),
    "the judge of a pair": facts(attempt=201, reason="judge", prefer="mid", first=FIRST, mirror=PAIR),
}


@pytest.mark.parametrize("name", CASES)
def test_an_untouched_record_is_decided_again_to_the_byte(name):
    value = recorded(CASES[name])
    assert facts_of(decode(Decision, value)) == CASES[name]
    assert replayed(value).verdict == Verdict.IDENTICAL


@pytest.mark.parametrize("name", CASES)
def test_any_changed_byte_of_the_record_shows(name):
    value = recorded(CASES[name])
    for place in range(len(value)):
        for changed in {value[place] ^ 1, ord("7") if value[place] != ord("7") else ord("8")}:
            found = replayed(value[:place] + bytes([changed]) + value[place + 1 :])
            assert found.verdict == Verdict.DIFFERENT, (place, value[max(0, place - 20) : place + 20])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_changed_byte_of_the_snapshot_shows(data):
    canonical = WORLD.canonical()
    place = data.draw(st.integers(0, len(canonical) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != canonical[place]))
    changed = canonical[:place] + bytes([other]) + canonical[place + 1 :]
    found = replayed(recorded(facts()), {WORLD.version: changed})
    assert found.verdict == Verdict.DIFFERENT
    assert found.differences[0].path == "snapshot_version"


def test_a_record_of_before_there_were_slices_is_decided_again_to_the_byte():
    value = recorded(CASES["a first attempt"])
    assert b'"slices"' not in value
    assert b'"fence"' not in value
    fenced = recorded(CASES["in a slice that was given back"])
    assert b'"fence":"stratum:auto/slice/language=cyrillic"' in fenced


def test_another_snapshot_shows_even_where_the_choice_is_the_same():
    value = recorded(facts())
    other = snapshot(holdout_percent=1.0)
    renamed = value.replace(WORLD.version.encode(), other.version.encode())
    assert replayed(renamed, {other.version: other.canonical()}).verdict == Verdict.DIFFERENT


def test_differences_are_listed_by_field():
    value = recorded(facts()).replace(b'"cohort":"pilot"', b'"cohort":"holdout"')
    (found,) = replayed(value).differences
    assert (found.path, found.recorded, found.replayed) == ("cohort", "holdout", "pilot")
    assert str(found) == 'cohort: recorded "holdout", replayed "pilot"'


def test_a_missing_snapshot_is_said():
    assert "not stored" in str(replayed(recorded(facts()), {}).differences[0])


def test_a_refusal_cannot_be_replayed_and_says_so():
    refusal = Refusal("model_not_found", "no such model")
    value = encode(
        refusal_record(refusal, request_id="0" * 32, tenant="acme", at_ms=AT_MS, lane="batch", origin=ORIGIN)
    )
    assert replayed(value).verdict == Verdict.REFUSAL


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_are_answered(value):
    assert replayed(value).verdict == Verdict.DIFFERENT
