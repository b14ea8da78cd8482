"""stages/guard on the in-memory log: a bad stratum is found, told once, given back, and comes back when it is released."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import orjson
import pytest

from router.config import Config
from router.contract.codec import decode, encode, to_rfc3339
from router.contract.records import Alert, Control, Reward
from router.core.decide import decide
from router.core.guard.detector import DAY_MS
from router.core.guard.unit import HOUR_MS
from router.core.guard.versions import MOST_NAMES
from router.core.keyring import Keyring
from router.core.records import NEW_NAME, JudgedPair, PricedAttempt
from router.core.snapshot import StandingOrder, StratumWeights
from router.kafka.client import Client
from router.stages.context import Context
from router.stages.guard import BY, GuardStage
from router.testing import FakeClock, MemoryLog
from tests.core.routing import facts, snapshot

T0 = 1_750_003_200_000
ATTEMPT = PricedAttempt(
    request_id="0" * 32,
    attempt=1,
    model="small",
    tenant="acme",
    lane="interactive",
    pool="auto",
    stratum="math/hard",
    cohort="pilot",
    reason="routed",
    status="ok",
    error_code=None,
    at_ms=T0,
    latency_ms=100,
    prompt_tokens=10,
    completion_tokens=20,
    cached_tokens=0,
    reasoning_tokens=0,
    cost_nano_usd=500,
    baseline_cost_nano_usd=5000,
    price_version="v1",
    late=False,
)
REWARD = Reward(
    request_id="0" * 32,
    pool="auto",
    stratum="math/hard",
    first_model="small",
    model="small",
    answered_by_attempt=1,
    cohort="pilot",
    propensity=1.0,
    policy_version="fixed",
    kind="review",
    source="reviewer",
    reward=1.0,
    weight=1.0,
    at=to_rfc3339(T0),
    tenant="acme",
)
STRATA = ("chat/easy", "code/easy", "math/hard")


class Installation:
    """Two stages after each other are one run: ``restart`` makes the second."""

    def __init__(self, *, auto_rollback: bool, auto_release: bool = False) -> None:
        pool = {"models": ["small", "large"], "margin": 0.1, "auto_rollback": auto_rollback}
        pool["auto_release"] = auto_release
        price = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}
        self.config = Config(models={"small": price, "large": price}, pools={"auto": pool}, tenants={"acme": {}})
        self.log = MemoryLog(self.stage(), partitions=3, clock=FakeClock(T0))
        self.random = np.random.default_rng(3)
        self.hour = 0

    def stage(self):
        keyring = Keyring.parse("a secret of at least thirty-two bytes")
        context = Context(config=self.config, client=Client("nowhere:9"), keyring=keyring, partitions=3)
        self.stage_ = GuardStage(context).stage()
        return self.stage_

    def restart(self) -> None:
        self.log.restart(self.stage())

    def hours(self, count: int, bad: dict[str, float]) -> None:
        """Some hours of traffic and reviews; ``bad``: share of the pilot's bad answers by stratum, 5 % elsewhere."""
        for _ in range(count):
            self.hour += 1
            at_ms = T0 + self.hour * HOUR_MS
            self.log.clock.now_ms = at_ms
            for stratum in STRATA:
                for cohort in ("pilot", "control"):
                    one = replace(ATTEMPT, stratum=stratum, cohort=cohort, at_ms=at_ms)
                    for _ in range(20):
                        self.log.produce("llm.usage", b"k", encode(one), partition=self.hour % 3)
                    share = bad.get(stratum, 0.05) if cohort == "pilot" else 0.05
                    for _ in range(3):
                        value = 0.0 if self.random.random() < share else 1.0
                        said = replace(REWARD, stratum=stratum, cohort=cohort, reward=value, at=to_rfc3339(at_ms))
                        self.log.produce("llm.rewards", f"auto/{stratum}".encode(), encode(said))
            self.log.run()

    def alerts(self) -> list[Alert]:
        return [decode(Alert, record.value) for record in self.log.records("llm.alerts")]

    def orders(self) -> list[Control]:
        return [decode(Control, record.value) for record in self.log.records("llm.control")]


def test_a_bad_stratum_is_given_back_told_with_evidence_and_forgotten_when_released() -> None:
    one = Installation(auto_rollback=True)
    one.hours(48, {})
    assert one.alerts() == []
    one.hours(72, {"math/hard": 0.5})
    (alert,), (order,) = one.alerts(), one.orders()
    assert (alert.state, alert.severity, alert.pool, alert.stratum) == ("open", "page", "auto", "math/hard")
    assert alert.effect.low < alert.effect.value < alert.effect.high
    assert 0.1 < alert.effect.value < 0.7
    assert alert.reference.n > 0
    assert alert.traffic_share == pytest.approx(1 / 3, abs=0.01)
    assert alert.money.saving_nano_usd_per_day == pytest.approx(20 * 24 * 4500, rel=0.2)
    assert alert.money.at_risk_nano_usd_per_day > alert.money.saving_nano_usd_per_day
    assert "more of the pilot's answers are bad" in alert.evidence["summary"]
    assert alert.model == "small"
    assert alert.action.undo == "pointsman release stratum:auto/math/hard rollback --by YOU --reason WHY"
    assert (order.scope, order.action, order.by) == ("stratum:auto/math/hard", "rollback", BY)
    released = replace(order, active=False, by="ann", reason="mended")
    one.log.produce("llm.control", b"stratum:auto/math/hard/rollback", encode(released))
    one.log.advance(120_000, step_ms=60_000)
    assert [alert.state for alert in one.alerts()] == ["open", "closed"]
    assert one.alerts()[0].id == one.alerts()[1].id


def test_without_auto_rollback_it_proposes_and_does_not_flood() -> None:
    one = Installation(auto_rollback=False)
    one.hours(24, {})
    one.hours(96, {"math/hard": 0.5})
    assert one.orders() == []
    alerts = one.alerts()
    assert alerts[0].action.command == "pointsman rollback stratum:auto/math/hard --by YOU --reason WHY"
    assert alerts[0].action.taken is None
    mine = [alert for alert in alerts if alert.stratum == "math/hard"]
    assert len({alert.id for alert in mine}) == 1
    assert 1 <= len(mine) <= 5


def test_the_same_comes_out_when_the_process_dies_again_and_again() -> None:
    once, often = Installation(auto_rollback=True), Installation(auto_rollback=True)
    once.hours(90, {"math/hard": 0.4})
    for _ in range(18):
        often.hours(5, {"math/hard": 0.4})
        often.restart()
    assert [record.value for record in once.log.records("llm.alerts")] == [
        record.value for record in often.log.records("llm.alerts")
    ]
    assert once.alerts()


def test_an_order_of_a_person_takes_a_stratum_out_of_the_tests() -> None:
    one = Installation(auto_rollback=True)
    order = Control(
        scope="stratum:auto/math/hard", action="rollback", active=True, by="ann", reason="no", at=to_rfc3339(T0)
    )
    one.hours(2, {})
    one.log.produce("llm.control", b"stratum:auto/math/hard/rollback", encode(order))
    one.hours(72, {"math/hard": 0.5})
    assert one.alerts() == []


PAIR = JudgedPair(
    request_id="0" * 32,
    pool="auto",
    stratum="math/hard",
    tenant="acme",
    session=None,
    model="small",
    served_model="small-1",
    reference_model="large",
    cohort="pilot",
    verdict=0.0,
    judge="judge",
    asked_ms=T0,
    at_ms=T0,
    inclusion=0.1,
)


def judge(one: Installation, verdict: float, count: int) -> None:
    now_ms = one.log.clock.now_ms
    for _ in range(count):
        pair = replace(PAIR, verdict=verdict, at_ms=now_ms)
        one.log.produce("llm.pairs", b"auto/math/hard", encode(pair))
    one.log.run()


def test_pairs_show_what_reviews_do_not_and_more_are_wanted_there() -> None:
    one = Installation(auto_rollback=False)
    one.hours(30, {})
    for _ in range(10):
        one.hours(3, {})
        judge(one, 1.0, 20)
        judge(one, 0.0, 20)
    (alert, *_) = one.alerts()
    assert (alert.stratum, alert.severity) == ("math/hard", "watch")  # for reviews see nothing of it
    focus = [orjson.loads(record.value) for record in one.log.records("llm.focus")]
    last = {record["stratum"]: record for record in focus}
    assert last["math/hard"]["shadow"] > 2.0
    assert last["chat/easy"]["reviews"] < 1.0


@pytest.mark.parametrize("auto_release", [True, False])
def test_what_shadow_pairs_show_to_be_well_is_released_where_the_pool_says_so(auto_release) -> None:
    one = Installation(auto_rollback=True, auto_release=auto_release)
    one.hours(24, {})
    one.hours(72, {"math/hard": 0.5})
    assert [order.active for order in one.orders()] == [True]
    for _ in range(12):
        one.hours(1, {})
        judge(one, 0.0, 100)
        one.restart()
    one.log.advance(60_000, step_ms=20_000)
    assert [order.active for order in one.orders()] == ([True, False] if auto_release else [True])
    if auto_release:
        assert "within the margin again" in one.orders()[-1].reason
        assert one.alerts()[-1].state == "closed"


def test_what_is_bad_again_after_its_pairs_released_it_waits_for_a_person() -> None:
    """A judge that sees no difference where there is one."""
    one = Installation(auto_rollback=True, auto_release=True)
    one.hours(24, {})
    one.hours(72, {"math/hard": 0.5})
    for _ in range(12):
        one.hours(1, {})
        judge(one, 0.0, 100)
    one.log.advance(60_000, step_ms=20_000)
    one.hours(96, {"math/hard": 0.5})
    one.restart()
    assert [order.active for order in one.orders()] == [True, False, True]
    for _ in range(12):
        one.hours(1, {})
        judge(one, 0.0, 100)
    one.log.advance(60_000, step_ms=20_000)
    assert [order.active for order in one.orders()] == [True, False, True]
    assert one.orders()[-1].reason.startswith(
        "bad again after shadow pairs had released it, so a person has to release it now; "
    )


def test_the_alert_says_whose_answers_are_bad() -> None:
    one = Installation(auto_rollback=False)
    one.hours(12, {})
    for hour in range(40):
        one.hours(1, {})
        at = to_rfc3339(one.log.clock.now_ms)
        for number in range(4):
            mid = replace(
                REWARD, model="mid", first_model="mid", propensity=0.25, at=at, reward=float(number + hour % 2 > 2)
            )
            small = replace(REWARD, propensity=0.75, at=at, reward=float((number + hour) % 20 > 0))
            by_another = replace(small, model="large", reward=0.0)  # a fallback's answer is nobody's
            for said in (mid, small, by_another):
                one.log.produce("llm.rewards", b"auto/math/hard", encode(said))
        one.log.run()
    last = one.alerts()[-1]
    assert last.stratum == "math/hard"
    assert last.model == "mid"
    assert set(last.evidence["models"]) == {"mid", "small"}
    assert last.evidence["models"]["small"]["bad"] < 0.15 < last.evidence["models"]["mid"]["low"]
    assert "of the answers of mid are bad" in last.evidence["cause"]


def answered_as(one: Installation, *names: str | None, model: str = "small") -> None:
    at_ms = one.log.clock.now_ms
    for number, name in enumerate(names):
        attempt = replace(ATTEMPT, at_ms=at_ms, served_model=name, model=model)
        one.log.produce("llm.usage", b"k", encode(attempt), partition=number % 3)
    one.log.run()


def test_a_new_name_behind_a_model_is_told_once_and_is_no_alert_that_stays_open() -> None:
    one = Installation(auto_rollback=True)
    one.hours(1, {})
    answered_as(one, "small-1", "small-1", None)
    one.hours(30, {})
    answered_as(one, "small-1", "small-2", "small-2")
    one.restart()
    one.hours(2, {})
    answered_as(one, "small-2")
    one.hours(1, {})
    (note,) = one.alerts()
    assert (note.state, note.severity, note.signal, note.pool) == ("closed", "watch", NEW_NAME, "auto")
    assert (note.model, note.stratum) == ("small", None)
    assert note.evidence["summary"] == "small answers as small-2, never heard before; until now as small-1"
    assert note.since == to_rfc3339(T0 + 31 * HOUR_MS)
    assert one.orders() == []


def test_names_without_end_are_bounded_and_none_of_them_moves_a_cursor() -> None:
    one = Installation(auto_rollback=True)
    answered_as(one, "small-1")
    one.hours(30, {})
    answered_as(one, *(f"\x1b[2J{number}" + "x" * 300 for number in range(300)))
    one.hours(4, {})
    notes = one.alerts()
    assert 0 < len(notes) < MOST_NAMES
    assert all("\x1b" not in note.evidence["summary"] and len(note.evidence["summary"]) < 200 for note in notes)
    assert one.orders() == []
    assert one.log.records("llm.dead-letter") == []


def test_what_cannot_be_read_is_a_dead_letter_and_nothing_else_suffers() -> None:
    one = Installation(auto_rollback=True)
    for value in (b"{", b"[]", b'{"pool": "auto", "cohort": "pilot"}', b"null"):
        one.log.produce("llm.usage", b"k", value)
        one.log.produce("llm.rewards", b"k", value)
    one.log.produce("llm.guard.evidence", b"auto", b'{"requests": 5}')
    one.hours(60, {"math/hard": 0.6})
    assert len(one.log.records("llm.dead-letter")) == 9
    assert len(one.alerts()) == 1


def test_a_row_of_another_release_begins_anew() -> None:
    one = Installation(auto_rollback=True)
    one.hours(3, {})
    rows = {b"auto": orjson.dumps({"guard": {"units": 3}})}
    assert one.stage_.index(rows) == {}
    assert DAY_MS == 24 * HOUR_MS


SMALL = {("auto", stratum): StratumWeights(weights={"small": 1.0}, policy_version="thompson:1") for stratum in STRATA}
SLICES = ("language=cyrillic", "length=short"), ("language=latin", "length=short")
FENCE = "stratum:auto/slice/language=cyrillic"


def hours_by_language(one: Installation, count: int, bad: float, strata: tuple[str, ...] = STRATA[:2]) -> None:
    """Some hours in which the pilot's answers to a third of the requests, those in Cyrillic, are bad so often, whatever the stratum."""
    for _ in range(count):
        one.hour += 1
        at_ms = T0 + one.hour * HOUR_MS
        one.log.clock.now_ms = at_ms
        for stratum in strata:
            for cohort in ("pilot", "control"):
                for slices, requests in zip(SLICES, (10, 20), strict=True):
                    tried = replace(ATTEMPT, stratum=stratum, cohort=cohort, at_ms=at_ms, slices=slices)
                    for _ in range(requests):
                        one.log.produce("llm.usage", b"k", encode(tried), partition=one.hour % 3)
                    share = bad if cohort == "pilot" and slices == SLICES[0] else 0.05
                    for _ in range(requests // 10):
                        value = 0.0 if one.random.random() < share else 1.0
                        said = replace(
                            REWARD,
                            stratum=stratum,
                            cohort=cohort,
                            reward=value,
                            at=to_rfc3339(at_ms),
                            slices=list(slices),
                        )
                        one.log.produce("llm.rewards", f"auto/{stratum}".encode(), encode(said))
        one.log.run()


def test_a_bad_slice_that_is_no_stratum_is_named_fenced_off_and_comes_back_by_its_own_pairs() -> None:
    one = Installation(auto_rollback=True, auto_release=True)
    hours_by_language(one, 48, 0.05)
    assert one.alerts() == []
    hours_by_language(one, 72, 0.6)
    (alert,), (order,) = one.alerts(), one.orders()
    assert (alert.stratum, alert.severity, alert.state) == ("slice/language=cyrillic", "page", "open")
    assert alert.traffic_share == pytest.approx(1 / 3, abs=0.01)
    assert alert.action.command == f"pointsman rollback {FENCE} --by YOU --reason WHY"
    assert alert.action.undo == f"pointsman release {FENCE} rollback --by YOU --reason WHY"
    assert (order.scope, order.action, order.active) == (FENCE, "rollback", True)
    standing = snapshot(StandingOrder(scope=order.scope, action="rollback"), weights=SMALL, holdout_percent=0.0)
    for stratum in STRATA[:2]:
        chosen = [decide(facts(stratum=stratum, slices=slices), standing) for slices in SLICES]
        assert [(choice.model, choice.fence) for choice in chosen] == [("large", FENCE), ("small", None)]
    for _ in range(12):
        hours_by_language(one, 1, 0.05)
        now_ms = one.log.clock.now_ms
        for number in range(200):
            pair = replace(PAIR, stratum=STRATA[number % 2], at_ms=now_ms, slices=SLICES[number % 4 // 2])
            one.log.produce("llm.pairs", b"auto/math/hard", encode(pair))
        one.log.run()
    one.log.advance(60_000, step_ms=20_000)
    assert [order.active for order in one.orders()] == [True, False]
    assert one.alerts()[-1].state == "closed"


def test_a_slice_under_suspicion_is_looked_at_more_closely_until_it_is_none() -> None:
    one = Installation(auto_rollback=False)
    hours_by_language(one, 48, 0.05)
    hours_by_language(one, 30, 0.4)
    told = [orjson.loads(record.value) for record in one.log.records("llm.focus")]
    last = {record["stratum"]: (record["reviews"], record["shadow"]) for record in told}
    reviews, pairs = last["slice/language=cyrillic"]
    assert reviews > 1.0  # of those requests twice as many as of others in the same stratum, at least
    assert pairs > reviews
    assert last.get("slice/language=latin", (0.0, 0.0))[0] < reviews / 4
    hours_by_language(one, 24 * 6, 0.0)
    told = [orjson.loads(record.value) for record in one.log.records("llm.focus")]
    last = {record["stratum"]: record["reviews"] for record in told}
    assert last["slice/language=cyrillic"] < reviews / 2


def test_what_no_vocabulary_knows_makes_no_unit() -> None:
    one = Installation(auto_rollback=True)
    hours_by_language(one, 2, 0.05)
    evil = replace(
        ATTEMPT, at_ms=one.log.clock.now_ms + HOUR_MS, slices=("language=klingon", "tenant=other", "far=yes")
    )
    one.log.produce("llm.usage", b"k", encode(evil))
    one.log.run()
    indexes = [one.stage_.index(one.log.rows(one.stage_, partition)) for partition in range(3)]
    (book,) = [index["auto"] for index in indexes if "auto" in index]
    assert {name for name in book.guard.units if name.startswith("slice/")} == {
        "slice/all",
        "slice/tenant=acme",
        "slice/language=cyrillic",
        "slice/language=latin",
        "slice/length=short",
        "slice/far=yes",
    }
