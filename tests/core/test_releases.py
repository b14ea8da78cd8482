"""What a later release says beyond is passed over, wherever stages of two releases read each other's words, slips and tables."""

import json
from dataclasses import asdict, replace

import orjson
import pytest

from router.contract.records import ErrorInfo, Origin
from router.contract.releases import by_name, by_place
from router.core.attempts import Charge, Try
from router.core.backlog import Backlog
from router.core.backoff import Again
from router.core.cascade import Trial, trial_of
from router.core.counts import SUMS, Counts
from router.core.evidence import Evidence
from router.core.health import ModelHealth
from router.core.mirror import Mirror, Sample, mirror_of, sample_of
from router.core.records import Spending
from router.core.row_format import row_from_bytes, row_to_bytes
from router.core.settlement import Pending, Row
from router.core.slip import Keyring, Slip, from_list, to_list
from router.core.survey import Ask, ask_of
from router.core.token import FeedbackFacts, Sampled, facts_of, issue, open_token

LATER = ["of a later release", {"and": "more"}]
PLACE = Origin(topic="llm.outcomes", partition=1, offset=7)
SLIP = Slip(
    request_id="1462af60e975e034dad89dbdd8b130e1",
    attempt=1,
    model="small",
    reason="routed",
    origin=PLACE,
    at_ms=1,
    deadline_at_ms=2,
    key=b"acme",
    tenant="acme",
    custom_id="r-1",
    metadata=None,
    lane="interactive",
    trial=Trial("large", 0.62, 0.05),
    sample=Sample(review=0.1, weight=1.5, shadow=0.05),
    mirror=Mirror(of=1, model="small", served_model="small-1", answer_at=PLACE, inclusion=0.05, token="t"),
    survey=Ask(name="s", inclusion=0.5, user="u"),
)
TOLD = Backlog(partition=0, at_ms=5, read_to_ms=4, interactive=2, batch=1, oldest_ms=3, answered_ms=2)


def test_an_object_may_say_more_and_what_it_does_not_say_has_its_default():
    spending = Spending(pool="auto", requests=1, charged=2, cost=3)
    assert by_name(Spending, asdict(spending) | {"later": LATER}) == spending
    earlier = asdict(spending)
    del earlier["shadow"]
    assert by_name(Spending, earlier) == spending


@pytest.mark.parametrize("found", [{"pool": "auto"}, [], None, "text"])
def test_an_object_that_lacks_what_has_no_default_is_refused(found):
    with pytest.raises(TypeError):
        by_name(Spending, found)


def test_a_list_may_be_longer_or_shorter_but_not_without_what_has_no_default():
    trial = Trial("large", 0.62, 0.05)
    assert by_place(Trial, [*trial.values(), *LATER]) == by_place(Trial, ["large", 0.62, 0.05]) == trial
    with pytest.raises(TypeError):
        by_place(Trial, [])


def test_a_queue_as_a_later_release_tells_it():
    assert Backlog.from_json(TOLD.to_json() | {"later": LATER}) == TOLD
    earlier = TOLD.to_json()
    del earlier["oldest_interactive_ms"]
    assert Backlog.from_json(earlier) == TOLD
    with pytest.raises(TypeError, match="whole numbers"):
        Backlog.from_json(TOLD.to_json() | {"batch": "1"})


def test_a_slip_and_all_that_lies_in_it():
    assert from_list([*to_list(SLIP), *LATER]) == SLIP
    for read, values in [
        (trial_of, SLIP.trial.values()),
        (sample_of, SLIP.sample.values()),
        (mirror_of, SLIP.mirror.values()),
        (ask_of, SLIP.survey.values()),
    ]:
        assert read([*values, *LATER]) == read(values), read


def test_a_row_of_settle_with_more_in_each_of_its_parts():
    done = Try(
        number=1,
        model="small",
        reason="routed",
        status="error",
        code="timeout",
        charge=Charge(5, "2026", None),
        trial=SLIP.trial,
        place=PLACE,
    )
    again = Again("fallback", 100, None, ("small",), PLACE)
    row = Row(
        slip=SLIP,
        tries=(done, Try(number=2, model="large", reason="fallback")),
        pending=Pending(2, again, 9, sent=True),
        refusal=ErrorInfo(code="c", message="m"),
    )
    found = orjson.loads(row_to_bytes(row))
    found[0] += LATER
    found[1][0][9] += LATER
    found[1][0] += LATER
    found[2][1] += LATER
    found[2] += LATER
    found += LATER
    assert row_from_bytes(orjson.dumps(found)) == row


def test_a_feedback_token_and_its_facts_in_verified_feedback():
    ring = Keyring((b"n" * 32,))
    sampled = Sampled(1, "small", "small-1", 0.5, None, 1.0, calibrated=True, scale="logprob", at_ms=3)
    facts = FeedbackFacts(
        request_id=SLIP.request_id,
        tenant="acme",
        lane="batch",
        pool="auto",
        stratum="math/hard",
        first_model="small",
        model="mid",
        answered_by_attempt=2,
        cohort="pilot",
        propensity=0.93,
        policy_version="thompson:1287",
        expires_at_ms=1_700_000_000_000,
        sampled=sampled,
    )
    said = asdict(facts) | {"later": LATER, "sampled": asdict(sampled) | {"later": LATER}}
    assert facts_of(json.loads(json.dumps(said))) == facts
    sealed = ring.tokens.unseal(issue(facts, ring))
    assert open_token(ring.tokens.seal(orjson.dumps([*orjson.loads(sealed), *LATER])), ring, 0) == facts


def test_a_second_of_evidence_and_the_health_of_a_model():
    evidence = Evidence(7)
    evidence.add("ok", None, at_ms=7_500, latency_ms=120, cost_nano_usd=5, endpoint="eu")
    evidence.add("error", "timeout", at_ms=7_600, latency_ms=None, cost_nano_usd=None, endpoint="eu")
    said = evidence.to_json()
    said[10]["eu"] += LATER
    assert Evidence.from_json([*said, *LATER]).to_json() == evidence.to_json()
    health = ModelHealth()
    health.observe(evidence, 7_700)
    kept = health.to_json()
    grown = [
        [*part, *LATER] if at != 2 else [[*one, *LATER] for one in part] for at, part in enumerate(health.to_json())
    ]
    assert ModelHealth.from_json([*grown, *LATER]).to_json() == kept


def test_counts_keep_the_sums_that_are_known_and_add_up():
    counts = Counts()
    counts.add_result(None, 120, asks=False)
    counts.add_feedback("thumbs", 1.0, repeat=False)
    sums, errors, latency, feedback = counts.to_json()
    more = {kind: [*numbers, 4] for kind, numbers in feedback.items()}
    later = Counts.from_json([[*sums, 3, 4], errors, latency, more, *LATER])
    assert later.to_json() == counts.to_json()
    earlier = Counts.from_json([sums[: len(SUMS) - 1], errors, latency, feedback])
    later.merge(earlier)
    assert later.of("requests") == 2
    assert later.feedback["thumbs"][0] == 2


def test_a_slip_with_too_little_is_of_another_format():
    with pytest.raises(Exception, match="format of another release"):
        from_list(to_list(replace(SLIP))[:15])
