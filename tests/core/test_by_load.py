"""core/by_load: the wait for a slot in the decision, and that many routers that see it late do not swing."""

from __future__ import annotations

import heapq
import random
from collections import deque

import pytest

from router.core import decide as deciding
from router.core.backlog import Backlog, Queue
from router.core.by_load import RELAXED_MS, by_load
from router.core.decide import decide
from router.core.evidence import Evidence
from router.core.health import ModelHealth
from router.core.snapshot import HealthFacts, Snapshot, two_digits
from tests.core.routing import AT_MS, facts, health, model, pool, snapshot

EQUAL = {"policy": "fixed", "weights": {"small": 0.5, "mid": 0.5}, "holdout_percent": 0.0, "sticky": False}
POOLS = {"auto": pool(**EQUAL)}


def waiting(wait_ms, p95_ms=1_000, state="up"):
    return HealthFacts(state=state, p95_ms=p95_ms, until_ms=None, wait_ms=wait_ms)


def test_equal_weights_are_shared_by_their_queues_and_others_stay():
    weights = {"small": 0.3, "mid": 0.3, "large": 0.4}
    shared = by_load(weights, snapshot(health={"small": waiting(RELAXED_MS), "large": waiting(60_000)}))
    assert shared == {"small": pytest.approx(0.2), "mid": pytest.approx(0.4), "large": 0.4}
    assert list(shared) == list(weights)


def test_without_a_queue_nothing_changes_to_the_last_bit():
    weights = {"small": 0.1 + 0.2, "mid": 0.1 + 0.2, "large": 0.4}
    assert by_load(weights, snapshot(health={"small": health("up", 500)})) is weights


def test_nothing_goes_where_the_policy_sends_nothing():
    weights = {"small": 0.0, "mid": 0.0, "large": 1.0}
    assert by_load(weights, snapshot(health={"small": waiting(100), "large": waiting(9_000)})) == weights


def test_the_decision_says_the_probability_that_was_used():
    snap = snapshot(health={"small": waiting(12_000)}, pools=POOLS)
    chosen = decide(facts(), snap)
    assert chosen.weights["small"] == pytest.approx(0.2)
    assert chosen.propensity == chosen.weights[chosen.model]


def test_a_queue_that_outlasts_the_deadline_excludes_as_a_slow_model_does():
    snap = snapshot(health={"small": waiting(58_000, 3_000)}, pools=POOLS)
    chosen = decide(facts(), snap)
    assert {one.model: one.excluded for one in chosen.candidates}["small"] == "deadline"
    only = snapshot(health={name: waiting(61_000, None) for name in ("small", "mid", "large")}, pools=POOLS)
    assert decide(facts(), only).candidates[0].excluded is None, "where all are late nobody is excluded for it"


def test_a_decision_is_the_same_of_the_stored_snapshot():
    snap = snapshot(health={"small": waiting(two_digits(12_345)), "mid": health("up", 700)}, pools=POOLS)
    again = Snapshot.from_canonical(snap.canonical())
    assert again.canonical() == snap.canonical()
    for number in range(50):
        asked = facts(f"{number:032x}")
        assert decide(asked, again) == decide(asked, snap)
    other = snap.canonical().replace(b'"wait_ms":13000', b'"wait_ms":14000')
    assert decide(facts(), Snapshot.from_canonical(other)).weights != decide(facts(), snap).weights


def test_a_snapshot_without_a_queue_is_written_as_before_there_were_any():
    assert b"wait_ms" not in snapshot(health={"small": health("up", 500)}).canonical()


class Plant:
    """Two models behind one topic each, and routers that see health a second late, as ``watch`` and snapshots make it.

    Each model has ``slots`` and calls of exponential length, mean ``call_s``. Requests come by a Poisson process.
    """

    def __init__(self, *, rate, slots, call_s, seed, deadline_ms=600_000, **changed):
        self.rate, self.slots, self.call_s = rate, slots, call_s
        self.chance, self.deadline_ms = random.Random(seed), deadline_ms
        self.pools = {"auto": pool(**EQUAL | changed)}
        self.models = {name: model(name, 100) for name in ("small", "mid", "large")}
        self.queues = {name: deque() for name in slots}
        self.free = dict(slots)
        self.ends = []
        self.health = {name: ModelHealth() for name in slots}
        self.sent, self.waits, self.late = [], [], 0

    def run(self, seconds):
        now_s, next_look, seen = 0.0, 1.0, None
        published = self._snapshot(AT_MS)
        answered = dict.fromkeys(self.slots, 0)
        evidence = {}
        while now_s < seconds:
            now_s += self.chance.expovariate(self.rate)
            while next_look <= now_s:
                self._end(next_look, evidence, answered)
                seen, published = published, self._look(next_look, evidence, answered)
                evidence = {}
                next_look += 1.0
            self._end(now_s, evidence, answered)
            at_ms = AT_MS + int(now_s * 1000)
            asked = facts(f"{self.chance.getrandbits(128):032x}", at_ms=at_ms, deadline_at_ms=at_ms + self.deadline_ms)
            name = decide(asked, seen or published).model
            self.sent.append((now_s, name))
            self.queues[name].append(now_s)
            self._take(name, now_s)
        return self

    def share(self, name, since_s, until_s):
        among = [to for at, to in self.sent if since_s <= at < until_s]
        return among.count(name) / len(among)

    def swing(self, name, since_s, until_s, step_s=2):
        """Of the shares in steps, the largest less the smallest."""
        shares = [self.share(name, at, at + step_s) for at in range(since_s, until_s, step_s)]
        return max(shares) - min(shares)

    def _take(self, name, now_s):
        while self.free[name] and self.queues[name]:
            came_s = self.queues[name].popleft()
            self.free[name] -= 1
            call_s = self.chance.expovariate(1 / self.call_s)
            heapq.heappush(self.ends, (now_s + call_s, name, call_s))
            self.waits.append((now_s, name, now_s - came_s))
            self.late += now_s + call_s - came_s > self.deadline_ms / 1000

    def _end(self, now_s, evidence, answered):
        while self.ends and self.ends[0][0] <= now_s:
            end_s, name, call_s = heapq.heappop(self.ends)
            at_ms = AT_MS + int(end_s * 1000)
            found = evidence.setdefault((name, at_ms // 1000), Evidence(at_ms // 1000))
            found.add("ok", None, at_ms=at_ms, latency_ms=int(call_s * 1000), cost_nano_usd=1)
            answered[name] = at_ms
            self.free[name] += 1
            self._take(name, end_s)

    def _look(self, now_s, evidence, answered):
        now_ms = AT_MS + int(now_s * 1000)
        for (name, _), found in sorted(evidence.items()):
            self.health[name].observe(found, now_ms)
        for name, known in self.health.items():
            n = len(self.queues[name]) + self.slots[name] - self.free[name]
            oldest_ms = AT_MS + int(self.queues[name][0] * 1000) if self.queues[name] else now_ms if n else 0
            known.stand(Queue({0: Backlog(0, now_ms, now_ms, n, 0, oldest_ms, answered[name])}), now_ms)
            known.tick(now_ms)
        return self._snapshot(now_ms)

    def _snapshot(self, now_ms):
        made = {
            name: HealthFacts(
                state=known.state,
                p95_ms=None if known.p95_ms is None else two_digits(known.p95_ms),
                until_ms=known.until_ms,
                wait_ms=two_digits(known.queue_wait_ms or 0.0),
            )
            for name, known in self.health.items()
            if now_ms > AT_MS
        }
        return snapshot(models=self.models, health=made, pools=self.pools)


def shortest_queue(weights, snap):
    """What everybody would do first: all to the one with the shortest queue."""
    waits = {name: found.wait_ms for name, found in snap.health.items() if weights.get(name)}
    best = min(waits, key=waits.get, default=None)
    return weights if not any(waits.values()) else {name: float(name == best) for name in weights}


@pytest.mark.parametrize("call_s", [0.2, 1.0])
def test_the_queues_of_equal_models_find_their_balance_and_nobody_swings(call_s, monkeypatch):
    """46 a second for models that serve 35 and 15: half and half would let the queue of the smaller one grow by 8 a second."""
    sizes = {"small": round(35 * call_s), "mid": round(15 * call_s)}
    plant = Plant(rate=46, slots=sizes, call_s=call_s, seed=1).run(120)
    waits = [wait for at, _, wait in plant.waits if at > 60]
    assert max(waits) < 12.0, "half and half would have 30 s by now, and ever more"
    assert 0.26 < plant.share("mid", 60, 120) < 0.4
    assert plant.swing("mid", 60, 120) < 0.4
    monkeypatch.setattr(deciding, "by_load", shortest_queue)
    herd = Plant(rate=46, slots=sizes, call_s=call_s, seed=1).run(120)
    assert herd.swing("mid", 60, 120) > 0.8, "all to the shortest queue, that is what this is not"


@pytest.mark.parametrize("told", [True, False], ids=["the wait is known", "it is not"])
def test_what_one_model_cannot_serve_in_time_goes_to_another(told, monkeypatch):
    """Nearly all weight on a model that serves 20 of 30 a second. What would be late overflows; the model stays busy."""
    if not told:
        monkeypatch.setattr(ModelHealth, "_wait", lambda *_: None)
    plant = Plant(
        rate=30,
        slots={"small": 20, "mid": 40},
        call_s=1.0,
        seed=2,
        deadline_ms=20_000,
        weights={"small": 0.999, "mid": 0.001},
    ).run(150)
    if told:
        assert 17 < plant.share("small", 75, 150) * 30 < 23
        assert plant.late < 0.1 * len(plant.sent)
    else:
        assert plant.late > 0.3 * len(plant.sent)
