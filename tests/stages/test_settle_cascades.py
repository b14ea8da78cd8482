"""The interleavings of ``test_settle_interleavings`` with answers on trial, judges and escalations among them."""

from __future__ import annotations

from dataclasses import replace

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from router.contract.records import Origin
from router.core.cascade import Trial
from router.core.slip import sign
from tests.stages import test_settle_interleavings as plain

CONFIDENCES = (None, 0.0, 0.3, 0.9)
LEAVES = {"results", "usage", "redispatch", "redispatch.batch", "reviews"}
#: Attempts of a pool of three models, and what a cascade adds: a judge, an escalation.
MOST_ORDERS = 4 + 3 + 2


class Cascades(plain.Interleavings):
    """Slips may have a trial; workers say how sure they are; orders to judge and to escalate are answered like others."""

    @rule(
        custom_id=st.sampled_from(plain.CUSTOM_IDS),
        deadline_ms=st.sampled_from([50, 5_000, 60_000]),
        threshold=st.sampled_from([None, 0.0, 0.5]),
        judge=st.sampled_from([None, "odd", "mid", "small"]),
        inclusion=st.sampled_from([0.0, 0.5]),
    )
    def route_tries(self, custom_id, deadline_ms, threshold, judge, inclusion):
        slip = self.new_slip(custom_id, "interactive", deadline_ms)
        self.dispatch(
            replace(
                slip,
                attempt=1,
                model="small",
                reason="routed",
                pool="auto",
                cohort="pilot",
                propensity=1.0,
                policy_version="p:1",
                first_model="small",
                baseline="mid",
                trial=Trial("mid", threshold, inclusion, judge),
            )
        )

    @precondition(lambda self: self.work)
    @rule(
        data=st.data(),
        confidence=st.sampled_from(CONFIDENCES),
        said=st.sampled_from(["9", "1", "hm"]),
        empty=st.booleans(),
    )
    def worker_is_sure(self, data, confidence, said, empty):
        slip = data.draw(st.sampled_from(self.work))
        outcome = {
            "request_id": slip.request_id,
            "attempt": slip.attempt,
            "model": slip.model,
            "status": "ok",
            "slip": sign(slip, plain.RING),
            "body": {} if empty else {"choices": [{"message": {"content": said}}], "attempt": slip.attempt},
            "endpoint": "e",
            "usage": {"prompt_tokens": 7, "completion_tokens": 3},
            "confidence": confidence,
        }
        self.produce(plain.OUTCOMES, slip, orjson.dumps(outcome), [], slip)

    def watch_record(self, life, record, slip, before):
        out = self.outputs_of(slip.request_id)
        in_time = record.timestamp < slip.deadline_at_ms
        assert set(out) <= LEAVES
        if record.topic != plain.OUTCOMES:
            assert "usage" not in out
            return
        pair = (slip.attempt, slip.model)
        assert len(out.get("usage", [])) == (pair not in life.priced)
        assert "reviews" not in out or pair not in life.priced
        life.priced.add(pair)
        if life.winner is None and life.expires_ms is None:
            life.expires_ms = self.expiry(slip)
        assert "results" not in out or (life.winner == slip.origin and in_time and slip.attempt not in life.ended)
        for result in out.get("results", []):
            self.watch_answer(result)
        if life.winner == slip.origin and in_time:
            life.ended.add(slip.attempt)

    def watch_answer(self, result):
        """The answer is that of the attempt that the result names, and never a judge's."""
        router = result["router"]
        if result["response"] is None:
            return
        named = [one for one in router["attempts"] if one["model"] == router["model"] and one["status"] == "ok"]
        assert any(one["reason"] != "judge" for one in named)
        said = result["response"]["body"].get("attempt")
        assert said is None or said in {one["attempt"] for one in named if one["reason"] != "judge"}

    def watch_order(self, order):
        life = self.lives[order["request_id"]]
        assert life.results == 0
        life.orders += 1
        assert life.orders < MOST_ORDERS
        slip = next(one for one in self.work if one.origin == Origin(**order["origin"]))
        assert slip.origin == life.winner
        if self.offset % 4 == 0:
            refused = replace(slip, attempt=0, model=None, reason=None, of_order=True, trial=None)
            self.decide(refused, {"code": "no_model_available", "message": "m"})
            return
        model = order["prefer"] or min({"small", "mid", "odd"} - set(order["exclude"]))
        again = model == "small" and order["reason"] == "retry"
        trial = next((one.trial for one in self.work if one.origin == slip.origin), None) if again else None
        self.dispatch(
            replace(slip, attempt=order["attempt"], model=model, reason=order["reason"], of_order=True, trial=trial)
        )


TestCascades = Cascades.TestCase
TestCascades.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
