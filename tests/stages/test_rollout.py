"""stages/rollout on the in-memory log: orders follow what is shown, people come first, every step is in the journal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest

from router.config import Config
from router.contract.codec import decode_control, encode, from_rfc3339, to_rfc3339
from router.contract.examples import RECORDS
from router.contract.records import Alert, Control
from router.core.counts import Counts, Dimensions
from router.core.guard.detector import DAY_MS
from router.core.keyring import Keyring
from router.kafka.client import Client
from router.stages.context import Context
from router.stages.rollout import BY, build
from router.testing import FakeClock, MemoryLog

T0 = 1_750_003_200_000
HOUR_MS = 3_600_000
STRATA = ("chat/easy", "math/hard")
ALERT = next(one for one in RECORDS if isinstance(one, Alert))
MATH = "stratum:auto/math/hard"


class Installation:
    """Two strata, 100 requests an hour each and arm, 8 reviews."""

    def __init__(self, **rollout: Any) -> None:
        pool = {
            "models": ["small", "large"],
            "margin": 0.1,
            "rollout": {"min_days": 1, "stages": [5, 50, 100]} | rollout,
        }
        price = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}
        self.config = Config(models={"small": price, "large": price}, pools={"auto": pool})
        self.random = np.random.default_rng(5)
        self.halves = 0
        self.log = MemoryLog(self.stage(), partitions=3, clock=FakeClock(T0))
        self.log.advance(2_000)

    def stage(self):
        keyring = Keyring.parse("a secret of at least thirty-two bytes")
        context = Context(config=self.config, client=Client("nowhere:9"), keyring=keyring, partitions=3)
        (stage,) = build(context)
        return stage

    def restart(self) -> None:
        self.log.restart(self.stage())

    def hours(self, count: int, *, bad: dict[str, float] | None = None) -> None:
        """``bad``: share of the pilot's bad answers by stratum, 5 % elsewhere."""
        for _ in range(2 * count):
            self.halves += 1
            self.log.clock.now_ms = T0 + self.halves * HOUR_MS // 2
            for stratum in STRATA:
                for cohort, cost in (("pilot", 20), ("control", 100)):
                    share = (bad or {}).get(stratum, 0.05) if cohort == "pilot" else 0.05
                    self.count(stratum, cohort, cost, 4 - int(self.random.binomial(4, share)))
            self.log.run()

    def count(self, stratum: str, cohort: str, cost: int, good: int) -> None:
        counts = Counts()
        for latency_ms in self.random.lognormal(6, 0.5, 50):
            counts.add_result(None, int(latency_ms))
            counts.add_attempt(
                reason="routed",
                prompt_tokens=1,
                completion_tokens=1,
                cached_tokens=0,
                cost_nano_usd=int(cost * self.random.lognormal(0, 0.5)),
                baseline_cost_nano_usd=100,
            )
        for at in range(4):
            counts.add_feedback("review", float(at < good), repeat=False)
        dimensions = Dimensions("acme", "auto", "small", stratum, cohort, "interactive")
        start_ms = self.log.clock.now_ms // 60_000 * 60_000
        value = orjson.dumps(["counts", start_ms, [*dimensions], counts.to_json()])
        self.log.produce("llm.counts", orjson.dumps([*dimensions]), value)

    def order(self, scope: str, action: str, *, active: bool = True, by: str = "ann", **args: Any) -> None:
        at = to_rfc3339(self.log.clock.now_ms)
        made = Control(scope=scope, action=action, args=args, active=active, by=by, reason="because", at=at)
        self.log.produce("llm.control", f"{scope}/{action}".encode(), encode(made))

    def shares(self) -> dict[str, float]:
        """The standing rollout orders, whosoever's."""
        found: dict[str, float] = {}
        for record in self.log.records("llm.control"):
            order = decode_control(record.value)
            if order.action == "rollout":
                found.pop(order.scope, None)
                if order.active:
                    found[order.scope] = order.args["percent"]
        return found

    def journal(self, scope: str = MATH) -> list[dict[str, Any]]:
        found = [orjson.loads(record.value) for record in self.log.records("llm.journal")]
        return [entry for entry in found if entry["scope"] == scope]


def test_strata_climb_by_themselves_and_a_bad_one_falls() -> None:
    one = Installation()
    assert one.shares() == {"pool:auto": 5.0}
    one.hours(23)
    assert one.shares() == {"pool:auto": 5.0}
    one.hours(30, bad={"math/hard": 0.6})
    assert one.shares() == {"pool:auto": 5.0, "stratum:auto/chat/easy": 100.0, MATH: 0.0}
    (start,) = one.journal("pool:auto")
    assert (start["kind"], start["reason"]) == ("start", "stages of 5, 50, 100 %")
    kinds = [entry["kind"] for entry in one.journal("stratum:auto/chat/easy")]
    assert kinds == ["advance", "done"]
    fell = one.journal()[-1]
    assert (fell["kind"], fell["reason"], fell["after_percent"], fell["by"]) == ("rollback", "failed: quality", 0.0, BY)
    quality = next(gate for gate in fell["known"] if gate["metric"] == "quality")
    assert quality["bound"] < quality["low"] < quality["value"]
    first = one.journal("stratum:auto/chat/easy")[0]
    assert from_rfc3339(first["until"]) - from_rfc3339(first["at"]) == DAY_MS


def test_a_person_overrules_a_stratum_and_it_goes_on_from_there() -> None:
    one = Installation()
    one.hours(2)
    one.order(MATH, "rollout", percent=60)
    one.hours(30)
    assert one.shares() == {"pool:auto": 5.0, "stratum:auto/chat/easy": 50.0, MATH: 60}
    assert [entry["kind"] for entry in one.journal()] == ["overruled"]
    one.order(MATH, "rollout", active=False, percent=60)
    one.log.advance(3_000, step_ms=1_000)
    assert one.shares()[MATH] == 50.0
    assert [entry["kind"] for entry in one.journal()] == ["overruled", "resume"]


def test_a_share_for_the_whole_pool_takes_ours_for_its_strata_away() -> None:
    one = Installation()
    one.hours(30)
    assert one.shares()[MATH] == 50.0
    one.order("pool:auto", "rollout", percent=1)
    one.log.advance(3_000, step_ms=1_000)
    assert one.shares() == {"pool:auto": 1}
    one.order("pool:auto", "rollout", active=False, percent=1)
    one.log.advance(15_000, step_ms=1_000)
    assert one.shares() == {"pool:auto": 5.0}
    assert one.journal()[-1]["kind"] == "resume"


@pytest.mark.parametrize("action", ["pin", "rollback", "freeze"])
def test_nothing_climbs_while_a_person_holds_the_pool(action: str) -> None:
    one = Installation()
    one.order("pool:auto", action, **({"model": "large"} if action == "pin" else {}))
    one.hours(60)
    assert one.shares() == {"pool:auto": 5.0}


def test_a_share_for_a_class_rules_all_its_strata() -> None:
    one = Installation()
    one.hours(30)
    one.order("stratum:auto/math", "rollout", percent=0)
    one.log.advance(3_000, step_ms=1_000)
    assert one.shares() == {"pool:auto": 5.0, "stratum:auto/chat/easy": 50.0, "stratum:auto/math": 0}


def test_a_freeze_keeps_the_stage_but_not_the_guard_from_giving_back() -> None:
    one = Installation()
    one.hours(30)
    one.order("pool:auto", "freeze")
    one.hours(30)
    assert one.shares()[MATH] == 50.0
    page = replace(ALERT, id="p-1", pool="auto", stratum="math/hard", severity="page", state="open")
    one.log.produce("llm.alerts", b"a", encode(page))
    one.log.produce("llm.alerts", b"a", encode(replace(page, id="w-1", severity="watch")))
    one.log.advance(2_000, step_ms=1_000)
    assert one.shares() == {"pool:auto": 5.0, "stratum:auto/chat/easy": 50.0, MATH: 0.0}
    one.log.produce("llm.alerts", b"a", encode(replace(page, state="closed")))
    one.order("pool:auto", "freeze", active=False)
    one.hours(1)
    assert one.shares() == {"pool:auto": 5.0, "stratum:auto/chat/easy": 50.0}


def test_a_first_stage_of_nothing_goes_by_shadow_pairs_alone() -> None:
    one = Installation(stages=[0, 5, 100])
    assert one.shares() == {"pool:auto": 0.0}
    for verdict in (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, -1.0) * 200:
        pair = {"pool": "auto", "stratum": "math/hard", "verdict": verdict}
        one.log.produce("llm.pairs", b"auto/math/hard", orjson.dumps(pair))
    one.log.run()
    one.log.advance(DAY_MS + 120_000, step_ms=HOUR_MS)
    assert one.shares() == {"pool:auto": 0.0, MATH: 5.0}
    (entry,) = one.journal()
    assert [gate["metric"] for gate in entry["known"]] == ["quality"]


def test_an_order_that_ours_has_crossed_is_put_back() -> None:
    one = Installation()
    one.hours(30)
    one.order(MATH, "rollout", percent=10)
    one.order(MATH, "rollout", percent=50.0, by=BY)  # written by us a moment before we had read the other
    one.log.advance(3_000, step_ms=1_000)
    assert one.shares()[MATH] == 10
    assert one.journal()[-1]["kind"] == "overruled"


def test_what_failed_climbs_again_when_a_person_releases_it() -> None:
    one = Installation()
    one.hours(20, bad={"math/hard": 0.6})
    assert one.shares()[MATH] == 0.0
    one.order(MATH, "rollout", active=False, percent=0)
    one.log.advance(3_000, step_ms=1_000)
    assert one.shares() == {"pool:auto": 5.0}
    assert (one.journal()[-1]["kind"], one.journal()[-1]["reason"]) == ("resume", "released by ann: because")
    one.hours(30)
    assert one.shares()[MATH] == 50.0


def test_a_page_of_the_guard_gives_it_back_and_a_slice_stops_all() -> None:
    one = Installation()
    one.hours(30)
    page = replace(ALERT, pool="auto", stratum="math/hard", severity="page", state="open")
    one.log.produce("llm.alerts", b"a", encode(page))
    one.log.advance(2_000, step_ms=1_000)
    assert one.shares()[MATH] == 0.0
    assert one.journal()[-1]["reason"] == f"the guard has paged (alert {page.id[:8]})"
    one.log.produce("llm.alerts", b"a", encode(replace(page, state="closed")))
    one.log.produce("llm.alerts", b"b", encode(replace(page, stratum="slice/tenant=acme")))
    one.hours(40)
    assert one.shares() == {"pool:auto": 5.0, "stratum:auto/chat/easy": 50.0}
    assert one.journal()[-1]["reason"] == "the guard has paged about slice/tenant=acme"


def test_the_same_comes_out_when_the_process_dies_again_and_again() -> None:
    once, often = Installation(), Installation()
    once.hours(60)
    for _ in range(12):
        often.hours(5)
        often.restart()
    assert (
        often.shares() == once.shares() == {"pool:auto": 5.0} | {f"stratum:auto/{stratum}": 100.0 for stratum in STRATA}
    )
    assert [entry["kind"] for entry in often.journal()] == [entry["kind"] for entry in once.journal()]


def test_what_cannot_be_read_is_a_dead_letter_and_disturbs_nothing() -> None:
    one = Installation()
    for value in (b"{", b"[]", b'["counts", 1]', b'["counts", 1, ["t", "auto", "small", "a/b", "pilot", "x"], 5]'):
        one.log.produce("llm.counts", b"k", value)
    one.log.produce("llm.pairs", b"k", b'{"pool": "auto", "stratum": "a/b", "verdict": "much"}')
    one.log.produce("llm.rollout.evidence", b"auto", b'{"served": 5}')
    one.hours(30)
    assert one.shares()[MATH] == 50.0
    assert len(one.log.records("llm.dead-letter")) == 6
