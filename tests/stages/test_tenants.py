"""Limits of tenants through all stages, on several lanes and through restarts: what goes, what is refused, what is spent."""

from collections import Counter
from dataclasses import replace

import orjson

from router.config import loads
from router.contract.codec import decode
from router.contract.ids import partition_of
from router.contract.records import Alert, Usage
from router.core.records import TenantState
from router.core.slip import verify
from router.history.replay import Snapshots, Verdict, replay
from router.stages import route_attempts
from router.testing import MemoryLog
from tests.stages.system import NAMES, System

MODELS = """
[models.small]
input_usd_per_mtok = 1
output_usd_per_mtok = 10
max_output_tokens = 1000
[models.large]
input_usd_per_mtok = 10
output_usd_per_mtok = 100
max_output_tokens = 1000
[pools.auto]
models = ["small", "large"]
policy = "fixed"
weights = { small = 1.0 }
holdout_percent = 0
sticky = "none"
"""
#: What a call of small is charged before it is known, and what it costs: 8 prompt tokens by our count, 10 by the provider's.
PROMPT, COST = 10 * 1_000, 10 * 1_000 + 5 * 10_000
BODY = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
#: A key for each partition, so that all lanes have traffic.
KEYS = [next(str(n).encode() for n in range(99) if partition_of(str(n).encode(), 4) == lane) for lane in range(4)]


class Limited(System):
    """A world that begins at the start of a minute, a day, and a month."""

    def __init__(self, tenants, *, owner=True):
        super().__init__(loads(MODELS + tenants))
        self.clock.now_ms = 1_767_225_600_000
        self.asked = 0
        if not owner:
            self.owner = next(stage for stage in self.stages if stage.name == "llm-route-leases")
            self.stages.remove(self.owner)
            self.log = MemoryLog(*self.stages, clock=self.clock)

    def ask(self, custom_id=None, *, tenant="acme", lane="interactive", max_tokens=5, at=None, **changed):
        self.asked += 1
        body = BODY | changed.pop("body", {})
        if max_tokens is not None:
            body["max_tokens"] = max_tokens
        key = KEYS[(self.asked if at is None else at) % 4]
        return super().ask(
            custom_id or f"r-{self.asked}", lane=lane, key=key, body=body, router={"tenant": tenant}, **changed
        )

    def go(self, seconds, ask=()):
        """``ask``: numbers of requests, one item a step of 100 ms."""
        asks = list(ask)
        for step in range(seconds * 10):
            for _ in range(asks[step] if step < len(asks) else 0):
                self.ask()
            self.log.advance(100)

    def codes(self, **of):
        found = (one for one in self.results().values() if all(getattr(one.router, k) == v for k, v in of.items()))
        return Counter("ok" if one.error is None else one.error.code for one in found)

    def decided(self):
        found = [orjson.loads(record.value) for record in self.log.records(NAMES.of("decisions"))]
        return [one for one in found if one["attempt"]]

    def states(self):
        return {
            record.key.decode(): {one.kind: one for one in decode(TenantState, record.value).limits}
            for record in self.log.records(NAMES.of("tenants"))
            if record.value
        }

    def alerts(self):
        return [decode(Alert, record.value) for record in self.log.records(NAMES.of("alerts"))]

    def restart(self):
        for stage in self.stages:
            self.log.restart(stage)


def test_requests_a_minute_hold_for_all_lanes_together_and_again_in_the_next_minute():
    world = Limited("[tenants.acme]\nrequests_per_minute = 20")
    world.go(60, [10] * 10)
    assert world.codes() == {"ok": 20, "rate_limited": 80}
    world.go(60, [10] * 10)
    assert world.codes() == {"ok": 40, "rate_limited": 160}
    minutes = Counter(one["at"][:16] for one in world.decided())
    assert set(minutes.values()) == {20}


def test_a_refusal_says_which_limit_and_when_to_try_again():
    world = Limited("[tenants.acme]\nrequests_per_minute = 1")
    world.go(10, [1, 1])
    (refused,) = [one for one in world.results().values() if one.error is not None]
    assert refused.error.code == "rate_limited"
    said = refused.error.message
    assert said.startswith("the limit of 1 requests a minute (tenants.acme) is reached; try again in ")
    assert said.endswith(f" {refused.error.retry_after_ms // 1000} s")
    assert 55 <= int(said.split()[-2]) <= 60
    assert refused.router.latency_ms <= 1_100


def test_restarts_at_any_time_lend_nothing_twice():
    world = Limited("[tenants.acme]\nrequests_per_minute = 50\ntokens_per_minute = 360")
    for _ in range(40):
        world.go(1, [2, 1, 2])
        world.restart()
    world.go(3)
    assert len(world.results()) == world.asked
    assert set(world.codes()) == {"ok", "rate_limited"}
    assert 40 <= world.codes()["ok"] <= 45  # of 8 tokens each
    assert sum(one["features"]["prompt_tokens"] for one in world.decided()) <= 360


def test_tenants_without_limits_are_not_counted_and_the_owner_is_not_there_without_any():
    world = Limited("[tenants.acme]\nrequests_per_minute = 1\n[tenants.free]")
    for _ in range(20):
        world.ask(tenant="free")
        world.ask(tenant="unheard-of")
    world.log.run()
    assert world.codes() == {"ok": 40}
    assert not world.log.records(NAMES.of("leases.wanted"))
    assert [stage.name for stage in Limited("[tenants.free]\npools = ['auto']").stages if "leases" in stage.name] == []


def test_tenants_without_a_table_share_the_limits_of_other():
    world = Limited("[tenants.other]\nrequests_per_minute = 3\n[tenants.acme]")
    for number in range(10):
        world.ask(tenant=f"stranger-{number}")
        world.ask(tenant="acme")
    world.go(2)
    assert world.codes(tenant="acme") == {"ok": 10}
    assert sum(world.codes().values()) - 10 == 10
    assert world.codes()["rate_limited"] == 7
    assert list(world.states()) == ["other"]


def test_a_prompt_of_more_tokens_than_a_minute_has_is_refused_at_once():
    world = Limited("[tenants.acme]\ntokens_per_minute = 5")
    world.ask()
    world.log.run()
    (refused,) = world.results().values()
    assert refused.error.code == "rate_limited"
    assert "alone may use 8, more than the limit of 5" in refused.error.message


def test_a_budget_is_spent_to_the_nano_dollar_and_never_beyond():
    budget = 50 * COST
    world = Limited(f"[tenants.acme]\nbudget_usd_per_day = {budget / 1e9:.9f}")
    world.go(30, [4] * 20)
    for _ in range(6):
        world.go(10, [1] * 5)
    spent = sum(one.router.cost_nano_usd for one in world.results().values())
    codes = world.codes()
    assert set(codes) == {"ok", "budget_exceeded"}
    assert spent == codes["ok"] * COST
    assert budget - COST < spent <= budget
    state = world.states()["acme"]["day"]
    assert (state.used, state.limit) == (spent, budget)


def test_a_budget_holds_through_restarts_and_is_whole_again_when_the_day_ends():
    budget = 20 * COST
    world = Limited(f"[tenants.acme]\nbudget_usd_per_day = {budget / 1e9:.9f}")
    for _ in range(12):
        world.go(7, [3, 0, 1])
        world.restart()
    assert world.states()["acme"]["day"].used == sum(one.router.cost_nano_usd for one in world.results().values())
    assert world.codes()["ok"] == 20
    world.clock.advance(86_400_000)
    world.go(1, [4])
    world.go(3)
    assert world.codes()["ok"] == 24


def test_a_month_is_one_of_the_calendar():
    world = Limited(f"[tenants.acme]\nbudget_usd_per_month = {2 * COST / 1e9:.9f}")
    for _ in range(3):
        world.go(7, [1])
    assert world.codes() == {"ok": 2, "budget_exceeded": 1}
    before = 2
    world.clock.now_ms = 1_769_904_000_000 - 5_000  # February comes
    world.go(3, [1])
    assert world.codes()["ok"] == before
    world.go(10)
    world.go(2, [1])
    assert world.codes()["ok"] == before + 1


def test_what_may_be_spent_counts_while_a_call_is_out_and_comes_back_when_it_is_never_answered():
    longest = 8 * 1_000 + 1_000 * 10_000  # without max_tokens: as long as the model's answers get
    world = Limited(f"[tenants.acme]\nbudget_usd_per_day = {2 * longest / 1e9:.9f}")
    world.answers["small"] = world.answers["large"] = "silence"
    world.ask(max_tokens=None, at=0)
    world.ask(max_tokens=None, at=0)
    world.go(2)
    world.ask(max_tokens=None, at=0)
    world.go(2)
    assert world.codes() == {"budget_exceeded": 1}
    world.go(130)
    assert world.codes() == {"budget_exceeded": 1, "deadline_exceeded": 2}
    world.answers.clear()
    world.ask(max_tokens=None, at=1)
    world.go(2)
    assert world.codes()["ok"] == 1


def test_a_fallback_needs_money_of_its_own():
    """Small fails; large would cost ten times as much, and that is not there."""
    world = Limited(f"[tenants.acme]\nbudget_usd_per_day = {5 * COST / 1e9:.9f}")
    world.answers["small"] = "error"
    world.ask()
    world.go(20)
    (failed,) = world.results().values()
    assert [one.model for one in failed.router.attempts] == ["small", "small"]
    assert failed.error.code == "provider_error"
    assert "this call alone may use" in failed.error.message
    rich = Limited(f"[tenants.acme]\nbudget_usd_per_day = {500 * COST / 1e9:.9f}")
    rich.answers["small"] = "error"
    rich.ask()
    rich.go(20)
    assert [one.model for one in rich.results()["r-1"].router.attempts] == ["small", "small", "large"]
    assert rich.codes() == {"ok": 1}


def test_a_further_attempt_is_no_second_request():
    world = Limited("[tenants.acme]\nrequests_per_minute = 2")
    world.answers["small"] = "error"
    world.ask()
    world.ask()
    world.go(20)
    assert world.codes() == {"ok": 2}


def test_what_a_call_costs_beyond_what_was_expected_is_owed():
    class Greedy(Limited):
        def usage(self, work):
            return Usage(prompt_tokens=10, completion_tokens=500)

    world = Greedy(f"[tenants.acme]\nbudget_usd_per_day = {100 * COST / 1e9:.9f}")
    world.go(30, [1] * 40)
    spent = sum(one.router.cost_nano_usd for one in world.results().values())
    assert world.codes()["budget_exceeded"] > 20
    assert world.states()["acme"]["day"].used == spent


def test_a_duplicate_in_the_other_lane_and_its_money():
    world = Limited(f"[tenants.acme]\nbudget_usd_per_day = {10 * COST / 1e9:.9f}")
    world.ask("same", at=0)
    world.log.run()
    world.ask("same", lane="batch", at=1)
    world.go(10)
    world.go(5)
    assert len(world.results()) == 1
    usage = [orjson.loads(record.value)["cost_nano_usd"] for record in world.log.records(NAMES.of("usage"))]
    assert world.states()["acme"]["day"].used == sum(usage)


def test_alerts_say_when_a_budget_is_nearly_spent_when_it_is_and_when_the_day_is_over():
    world = Limited(
        f"[tenants.acme]\nbudget_usd_per_day = {20 * COST / 1e9:.9f}\nsoft_usd_per_day = {10 * COST / 1e9:.9f}"
    )
    world.go(10, [1] * 12)
    (soft,) = world.alerts()
    assert (soft.state, soft.severity, soft.signal) == ("open", "watch", "budget_day")
    assert soft.evidence["tenant"] == "acme"
    assert world.codes() == {"ok": 12}
    world.restart()
    world.go(10, [1] * 20)
    assert [one.signal for one in world.alerts()] == ["budget_day", "budget_day_spent"]
    hard = world.alerts()[-1]
    assert (hard.state, hard.severity) == ("open", "page")
    assert "requests are refused" in hard.evidence["summary"]
    world.clock.advance(86_400_000)
    world.go(2)
    closed = world.alerts()[2:]
    assert {(one.id, one.state) for one in closed} == {(soft.id, "closed"), (hard.id, "closed")}


def test_a_soft_limit_alone_refuses_nothing():
    world = Limited(f"[tenants.acme]\nsoft_usd_per_month = {3 * COST / 1e9:.9f}")
    world.go(10, [2] * 10)
    assert world.codes() == {"ok": 20}
    assert [one.signal for one in world.alerts()] == ["budget_month"]
    state = world.states()["acme"]["month"]
    assert (state.limit, state.soft, state.used) == (None, 3 * COST, 20 * COST)


def test_without_an_owner_a_request_is_refused_within_seconds_says_why_and_nobody_else_waits():
    world = Limited("[tenants.acme]\nrequests_per_minute = 100", owner=False)
    world.ask(at=0)
    world.ask(tenant="free", at=0)
    world.log.run()
    assert world.codes() == {"ok": 1}
    world.go(6)
    assert world.codes() == {"ok": 1, "rate_limited": 1}
    refused = world.results()["r-1"]
    assert refused.router.latency_ms <= 5_200
    said = "the limit of 100 requests a minute (tenants.acme) could not be asked in time; try again in 5 s"
    assert (refused.error.message, refused.error.retry_after_ms) == (said, 5_000)


def test_who_waits_is_read_again_after_a_restart_and_headers_go_on():
    world = Limited("[tenants.acme]\nrequests_per_minute = 100", owner=False)
    world.log.produce(
        NAMES.of("requests"),
        KEYS[0],
        orjson.dumps({"custom_id": "r-1", "body": BODY, "router": {"tenant": "acme"}}),
        headers=[("traceparent", b"00-1-2-03")],
    )
    world.log.run()
    world.restart()
    world.log.add(world.owner)
    world.go(1)
    assert world.codes() == {"ok": 1}
    (result,) = world.log.records(NAMES.of("results"))
    assert ("traceparent", b"00-1-2-03") in result.headers


def test_a_request_that_waited_and_whose_work_is_too_large_is_refused_once_and_costs_nothing(monkeypatch):
    monkeypatch.setattr(route_attempts, "MAX_WORK_BYTES", 100)
    world = Limited(f"[tenants.acme]\nbudget_usd_per_day = {3 * COST / 1e9:.9f}")
    world.ask()
    world.go(10)
    assert world.codes() == {"invalid_request": 1}
    assert world.states()["acme"]["day"].used == 0


def test_a_request_that_waited_and_whose_body_is_gone_has_a_result_all_the_same():
    world = Limited("[tenants.acme]\nrequests_per_minute = 100", owner=False)
    asked = world.ask(at=0)
    world.log.run()
    partition = world.log.partition((NAMES.of("requests"), asked.partition))
    partition[asked.offset] = replace(asked, value=b"{}")
    world.log.add(world.owner)
    world.go(1)
    assert world.codes() == {"internal_error": 1}


def test_requests_that_waited_are_replayed_to_the_byte():
    world = Limited("[tenants.acme]\nrequests_per_minute = 10")
    world.go(2, [3] * 5)
    snapshots = Snapshots({record.key.decode(): record.value for record in world.log.records(NAMES.of("snapshots"))})
    found = [replay(record.value, snapshots).verdict for record in world.log.records(NAMES.of("decisions"))]
    assert Counter(found) == {Verdict.IDENTICAL: 10, Verdict.REFUSAL: 5}


def test_what_a_tenant_may_not_use_does_not_exist_for_it_as_configured():
    world = Limited(
        "[tenants.acme]\nmodels = ['small']\n[tenants.other]\npools = []\nmodels = ['large']\n[tenants.free]"
    )
    world.ask()
    world.ask(body={"model": "large"})
    world.ask(tenant="stranger")
    world.ask(tenant="stranger", body={"model": "small"})
    world.ask(tenant="free", body={"model": "large"})
    world.go(1)
    assert [
        (one.router.model, None if one.error is None else one.error.code) for _, one in sorted(world.results().items())
    ] == [("small", None), (None, "model_not_found"), ("large", None), (None, "model_not_found"), ("large", None)]


SHARED = """
[tenants.noisy]
[tenants.quiet]
"""


def of_tenant(world, topic, tenant):
    slips = (verify(orjson.loads(record.value)["slip"], world.context.keyring) for record in world.log.records(topic))
    return sum(slip.tenant == tenant for slip in slips)


def test_what_exceeds_a_share_is_dispatched_behind_once_more_is_open_than_there_are_slots():
    """The two lie in different lanes: each lane knows of the other by what it tells."""
    world = Limited(SHARED)
    world.answers["small"] = "silence"
    for _ in range(100):
        for _ in range(10):
            world.ask(tenant="noisy", at=0)
        world.ask(tenant="quiet", at=1)
        world.log.advance(100)
    first, behind = NAMES.work("small"), NAMES.work("small", "batch")
    assert of_tenant(world, behind, "quiet") <= 1  # in the first second nobody has told anything yet
    assert of_tenant(world, first, "quiet") + of_tenant(world, behind, "quiet") == 100
    assert of_tenant(world, first, "noisy") + of_tenant(world, behind, "noisy") == 1_000
    assert 100 <= of_tenant(world, first, "noisy") <= 300
    assert {one["lane"] for one in world.decided()} == {"interactive"}


def test_alone_or_where_there_is_room_all_goes_first_and_what_went_behind_is_answered():
    world = Limited(SHARED)
    world.answers["small"] = "silence"
    for _ in range(30):
        for _ in range(10):
            world.ask(tenant="noisy", at=0)
        world.log.advance(100)
    assert of_tenant(world, NAMES.work("small"), "noisy") == 300
    answering = Limited(SHARED)
    for _ in range(30):
        for _ in range(10):
            answering.ask(tenant="noisy", at=0)
        answering.ask(tenant="quiet", at=1)
        answering.log.advance(100)
    assert of_tenant(answering, NAMES.work("small"), "noisy") == 300
    assert answering.codes() == {"ok": 330}


def test_a_burst_goes_behind_before_settle_has_said_that_it_is_one():
    world = Limited(SHARED)
    world.answers["small"] = "silence"
    world.ask(tenant="quiet", at=0)
    world.log.advance(100)
    for _ in range(200):
        world.ask(tenant="noisy", at=0)
    world.log.run()  # all of them in one turn
    assert (
        of_tenant(world, NAMES.work("small"), "noisy") == 32
    )  # as many as there are slots, with the quiet one's; and one for its share
    assert of_tenant(world, NAMES.work("small", "batch"), "noisy") == 168
