import pytest

from router.contract.codec import decode, encode
from router.contract.errors import ConfigError
from router.contract.records import (
    Attempt,
    Decision,
    ErrorInfo,
    Origin,
    Outcome,
    OutcomeError,
    Response,
    Result,
    ResultRouter,
)
from router.core.audit import decision_record, refusal_record
from router.core.bandit.squarecb import Regression
from router.core.decide import decide
from router.core.facts import Assignment, Purse, Refusal
from router.core.records import First
from router.core.snapshot import StratumWeights
from router.history.explain import Account, accounts_in, explain
from tests.core.routing import AT_MS, MODELS, facts, health, order, snapshot

RID = "0" * 32
ORIGIN = Origin(topic="llm.requests", partition=3, offset=12)
FIRST = First(stratum="math/hard", cohort="pilot", propensity=0.7, policy_version="thompson:7", model="small")


def decision(asked, world):
    record = decision_record(asked, decide(asked, world), snapshot_version=world.version, lane="batch", origin=ORIGIN)
    return decode(Decision, encode(record))


def result(**changed):
    attempt = Attempt(
        attempt=1, model="small", endpoint="eu", served_model=None, status="ok", reason="routed", latency_ms=5,
        cost_nano_usd=7, price_version="v1",
    )  # fmt: skip
    router = ResultRouter(
        tenant="acme", pool="auto", model="mid", stratum="math/hard", cohort="pilot", propensity=0.7,
        policy_version="thompson:7", cost_nano_usd=412_000, cost_unknown=False, latency_ms=830, feedback_token=None,
        metadata=None, attempts=[attempt],
    )  # fmt: skip
    given = {"response": Response(status_code=200, request_id=RID, body={}), "error": None} | changed
    return Result(id=RID, custom_id="r-1", router=router, **given)


def test_an_account_tells_what_was_excluded_and_why_and_how_it_ended():
    world = snapshot(order("model:large", "ban"), holdout_percent=0.0)
    first = decision(facts(RID, session="s-9"), world)
    second = decision(
        facts(RID, attempt=2, reason="fallback", first=FIRST, exclude=("small",), at_ms=AT_MS + 300), world
    )
    failed = Outcome(
        request_id=RID, attempt=1, model=first.model, status="error", slip="x", endpoint="eu-1", latency_ms=20,
        error=OutcomeError(code="http_503"),
    )  # fmt: skip
    text = "\n".join(explain(Account(request_id=RID, decisions=[second, first], outcomes=[failed], result=result())))
    assert text.index("attempt 1 ->") < text.index("attempt 2 -> mid (fallback)")
    for part in (
        "session s-9",
        "llm.requests/3@12",
        "large: out: banned by an order",
        "small: out: it had its chance in an earlier attempt",
        "outcome: error, http_503, 20 ms, endpoint eu-1",
        "cohort pilot: under the policy",
        f"snapshot {world.version}",
        "answered by mid after 830 ms, 0.000412000 USD",
    ):
        assert part in text


def test_a_refusal_and_a_failure_are_told():
    refusal = Refusal("model_not_found", "no pool or model")
    record = refusal_record(refusal, request_id=RID, tenant="acme", at_ms=AT_MS, lane="batch", origin=ORIGIN)
    failed = result(response=None, error=ErrorInfo(code="model_not_found", message="no pool or model"))
    text = "\n".join(explain(Account(request_id=RID, decisions=[decode(Decision, encode(record))], result=failed)))
    assert "refused, model_not_found: no pool or model" in text
    assert "failed after 830 ms" in text


def test_a_session_that_kept_or_lost_its_model_is_told():
    kept = Assignment(
        model="small", stratum="math/hard", cohort="pilot", weights={"small": 1.0}, policy_version="thompson:3"
    )
    asked = facts(RID, session="s", assignment=kept)
    steady = decision(asked, snapshot(holdout_percent=0.0))
    broken = decision(asked, snapshot(health={"small": health("down")}, holdout_percent=0.0))
    assert "    the session kept its model" in explain(Account(request_id=RID, decisions=[steady]))
    assert "    the session lost its model: it was down" in explain(Account(request_id=RID, decisions=[broken]))


def test_every_candidate_is_told_with_what_is_thought_of_it():
    learned = {
        ("auto", "math/hard"): StratumWeights(
            weights={}, policy_version="squarecb:3", regression=Regression({}, dict.fromkeys(MODELS, 500.0), 50.0)
        )
    }
    world = snapshot(
        policy="squarecb", weights=learned, holdout_percent=0.0, objective="budget", budget_nano_usd=1_000_000
    )
    purse = Purse(price=0.5, left_nano_usd=2_000_000, burst_nano_usd=0)
    asked = facts(RID, p_ok={"small": 0.4, "large": 0.9}, purse=purse, needs=("tools",), completion_tokens=300)
    told = explain(Account(request_id=RID, decisions=[decision(asked, world)]))
    text = "\n".join(told)
    assert "asks: needs tools; an answer of at most 300 tokens" in text
    assert "the pool's budget: 0.002000000 USD left" in text
    assert sum(", taken (" in line for line in told) == 1
    for model in MODELS:
        (line,) = [line.strip() for line in told if line.strip().startswith(f"{model}: ")]
        assert "expected quality" in line
        assert "expected cost" in line
    assert "small: " in text
    assert "p_ok 0.400" in text


def test_decisions_in_a_file_are_told_request_by_request(tmp_path):
    world = snapshot(holdout_percent=0.0)
    file = tmp_path / "decisions.jsonl"
    made = [decision(facts(f"{n:032x}"), world) for n in (1, 2, 1)]
    file.write_bytes(b"\n".join(map(encode, made)) + b"\n\n")
    found = accounts_in(file)
    assert [(one.request_id[-1], len(one.decisions)) for one in found] == [("1", 2), ("2", 1)]
    file.write_bytes(encode(made[0]) + b"\n{}\n")
    with pytest.raises(ConfigError, match="line 2: no decision"):
        accounts_in(file)
    with pytest.raises(ConfigError, match="No such file"):
        accounts_in(tmp_path / "absent")


def test_nothing_found_is_said():
    assert "past retention" in explain(Account(request_id=RID))[1]
