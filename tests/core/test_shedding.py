"""core/shedding: who is refused in an overload, and a model of fixed capacity behind routers that see it late."""

from __future__ import annotations

import random
from collections import Counter, deque
from statistics import quantiles

import pytest

from router.contract.errors import Code
from router.contract.records import Saturation
from router.core.backlog import Backlog, Queue
from router.core.decide import decide
from router.core.evidence import Evidence
from router.core.facts import Choice
from router.core.health import ModelHealth
from router.core.shedding import FIRST_S, KEPT_MS, LESS, MORE, STALE_MS, STEP_MS, Queues
from router.core.shedding import Queue as Known
from router.core.snapshot import HealthFacts
from tests.core.routing import AT_MS, facts, health, order, snapshot

LIMIT_S = 5.0
T0 = 1_750_000_000_000


def told(wait_s, per_s=50.0, at_ms=AT_MS, behind_s=0.0):
    return Saturation(at_ms=at_ms, queued=round(wait_s * per_s), per_s=per_s, behind=round(behind_s * per_s))


def queues_of(**waits):
    queues = Queues(LIMIT_S)
    for name, wait_s in waits.items():
        queues.hear(name, told(wait_s), AT_MS)
    return queues


def refusal(queues, priority=0, *, snap=None, behind=False, **changed):
    snap = snap or snapshot()
    asked = facts(**changed)
    choice = decide(asked, snap)
    assert isinstance(choice, Choice)
    return queues.refusal(asked, choice, priority, snap.health, behind=behind)


FULL = {"small": 9.0, "mid": 12.0, "large": 20.0}


def test_where_all_candidates_have_too_long_a_queue_a_request_is_refused_with_a_hint():
    found = refusal(queues_of(**FULL))
    assert found.code == Code.OVERLOADED
    assert found.message == "all models that may answer have too much to do; try again in 9 s"
    assert found.retry_after_ms == 9_000


def test_one_that_has_room_or_of_which_nobody_knows_is_enough():
    assert refusal(queues_of(**FULL | {"small": 4.9})) is None
    assert refusal(queues_of(small=9.0, mid=9.0)) is None
    assert refusal(Queues(LIMIT_S)) is None


def test_a_long_queue_behind_refuses_only_who_goes_there():
    queues = Queues(LIMIT_S)
    for name in FULL:
        queues.hear(name, told(1.0, behind_s=LIMIT_S), AT_MS)
    assert refusal(queues) is None
    assert refusal(queues, behind=True).message == "all models that may answer have too much to do; try again in 6 s"


def test_what_was_sent_behind_since_holds_up_nobody_else():
    known = Known()
    known.hear(told(0.0, behind_s=1.0), AT_MS)
    for _ in range(50):
        known.send(AT_MS, behind=True)
    assert known.wait_ms(AT_MS) == 0.0
    assert known.wait_ms(AT_MS, behind=True) == pytest.approx(2000)
    for _ in range(FIRST_S * 25):
        known.send(AT_MS)
    assert known.wait_ms(AT_MS) == pytest.approx(1000 * FIRST_S * 25 / 50)
    assert known.wait_ms(AT_MS, behind=True) == pytest.approx(4000), "half of what is done is left for those behind"


def test_a_model_that_may_not_answer_is_no_way_out():
    snap = snapshot(order("pool:auto", "pin", model="mid"))
    assert refusal(queues_of(mid=9.0), snap=snap).code == Code.OVERLOADED
    assert refusal(queues_of(small=9.0), snap=snap) is None


@pytest.mark.parametrize(
    ("priority", "most_s"),
    [(7, MORE * LIMIT_S), (1, MORE * LIMIT_S), (0, LIMIT_S), (-1, LESS * LIMIT_S), (-9, LESS * LIMIT_S)],
)
def test_the_lower_the_priority_the_sooner(priority, most_s):
    for wait_s, refused in ((most_s - 0.1, False), (most_s + 0.1, True)):
        found = refusal(queues_of(small=wait_s, mid=wait_s, large=wait_s), priority)
        assert (found is not None) == refused


def test_what_cannot_be_answered_by_its_deadline_is_refused_whatever_its_priority():
    queues = queues_of(small=3.0, mid=3.0, large=3.0)
    snap = snapshot(health={name: health("up", 1_500) for name in ("small", "mid", "large")})
    assert refusal(queues, 1, snap=snap, deadline_at_ms=AT_MS + 4_600) is None
    assert refusal(queues, 1, snap=snap, deadline_at_ms=AT_MS + 4_400).code == Code.OVERLOADED


def test_a_word_that_is_old_or_ahead_of_time_refuses_nobody():
    queues = queues_of(small=60.0, mid=60.0, large=60.0)
    assert refusal(queues, deadline_at_ms=AT_MS + 300_000).code == Code.OVERLOADED
    for off_ms in (STALE_MS + 1, -STALE_MS - 1):
        assert refusal(queues, at_ms=AT_MS + off_ms, deadline_at_ms=AT_MS + 300_000) is None


def test_a_word_of_any_numbers_makes_a_refusal_and_no_error():
    queues = Queues(LIMIT_S)
    for name in ("small", "mid", "large"):
        queues.hear(name, Saturation(at_ms=AT_MS, queued=2**53, per_s=0.001), AT_MS)
    assert refusal(queues).code == Code.OVERLOADED


def test_what_was_sent_since_comes_on_top_and_what_was_done_goes_off():
    known = Known()
    known.hear(told(4.0), AT_MS)
    assert known.wait_ms(AT_MS) == 4_000
    assert known.wait_ms(AT_MS + 1_000) == 3_000
    for number in range(100):
        known.send(AT_MS + 10 * number)
    assert known.wait_ms(AT_MS + 1_000) == 5_000
    assert known.wait_ms(AT_MS + STALE_MS + 1) is None


def test_what_others_send_is_reckoned_by_the_share_that_is_ones_own():
    known = Known()
    known.hear(told(4.0), AT_MS)
    for number in range(25):
        known.send(AT_MS + 1 + 30 * number)
    known.hear(
        told(5.0, at_ms=AT_MS + 1_000), AT_MS + 1_000
    )  # 50 more wait and 50 were done: 100 were sent, 25 of them here
    for number in range(10):
        known.send(AT_MS + 1_000 + number)
    assert known.wait_ms(AT_MS + 1_000 + 10) == pytest.approx(5_000 + 4 * 10 * 20 - 10)


def test_what_is_kept_of_a_model_is_bounded():
    known = Known()
    for number in range(100_000):
        known.send(AT_MS + number)
    assert len(known.sent) <= KEPT_MS // STEP_MS + 2


class World:
    """A model with ``slots`` calls of 400 ms at once, processes of route with shares of what comes, settle in four lanes that are
    ``lag_s`` behind, watch.

    Each of ``requests`` is ``(came_ms, priority, ended_ms)``, the last ``None`` where it was refused.
    """

    def __init__(self, *, seed=1, slots=20, shares=(1.0,), deadline_s=60, priorities=((0, 1.0),), lag_s=0):
        self.chance, self.slots, self.shares, self.deadline_ms = random.Random(seed), slots, shares, deadline_s * 1000
        self.priorities = priorities
        self.routers = [Queues(LIMIT_S) for _ in shares]
        self.health, self.queue = ModelHealth(), Queue()
        self.open = [{} for _ in range(4)]
        self.fifo, self.calls = deque(), deque()
        self.words, self.late, self.lag_ms = deque(), deque(), lag_s * 1000
        self.now, self.number, self.left = T0, 0, 0.0
        self.requests, self.lengths = [], []
        self.evidence = Evidence(T0 // 1000)
        self.facts = {"small": HealthFacts(state="up", p95_ms=400, until_ms=None)}
        self.choice = decide(facts(), snapshot(order("pool:auto", "pin", model="small")))

    def run(self, per_s, seconds):
        for _ in range(100 * seconds):
            self.now += 10
            self._hear()
            self.left += per_s / 100.0
            due = int(self.left)
            self.left -= due
            asked = facts(at_ms=self.now, deadline_at_ms=self.now + self.deadline_ms) if due else None
            for _ in range(due):
                self._come(asked)
            self._work()
            self._tell()
        return self

    def _come(self, asked):
        router = self.chance.choices(self.routers, self.shares)[0]
        priority = self.chance.choices(*zip(*self.priorities, strict=True))[0]
        if router.refusal(asked, self.choice, priority, self.facts) is not None:
            self.requests.append((self.now, priority, None))
            return
        router.send("small", self.now)
        self.number += 1
        self.open[self.number % 4][self.number] = self.now
        self.fifo.append((self.number, self.now, priority))

    def _work(self):
        while self.calls and self.calls[0][0] <= self.now:
            _, number, came, priority = self.calls.popleft()
            del self.open[number % 4][number]
            self.evidence.add("ok", None, at_ms=self.now, latency_ms=400, cost_nano_usd=1)
            self.requests.append((came, priority, self.now))
        while self.fifo and len(self.calls) < self.slots:
            number, came, priority = self.fifo.popleft()
            self.calls.append((self.now + 400, number, came, priority))

    def _tell(self):
        second, ms = divmod(self.now - T0, 1000)
        if ms % 250 == 0:
            lane = ms // 250
            found = self.open[lane]
            oldest = next(iter(found.values()), 0)
            told_ms = self.now + self.lag_ms
            self.late.append((told_ms, Backlog(lane, told_ms, self.now - 50, len(found), 0, oldest, self.now, oldest)))
        if ms == 100:
            self.late.append((self.now + self.lag_ms, self.evidence))
            self.evidence = Evidence(self.now // 1000)
        while self.late and self.late[0][0] <= self.now:
            _, one = self.late.popleft()
            if isinstance(one, Backlog):
                self.queue.take(one)
            else:
                self.health.observe(one, self.now)
        if ms == 600:
            self.health.stand(self.queue, self.now)
            self.words.append((self.now + 300, self.health.saturated))
            self.lengths.append((second, len(self.fifo)))

    def _hear(self):
        while self.words and self.words[0][0] <= self.now:
            _, word = self.words.popleft()
            for router in self.routers:
                router.hear("small", word, self.now - 300)

    def between(self, from_s, to_s):
        """Requests that came then."""
        return [one for one in self.requests if from_s <= (one[0] - T0) / 1000 < to_s]

    def answered_a_second(self, from_s, to_s):
        return sum(one[2] is not None and from_s <= (one[2] - T0) / 1000 < to_s for one in self.requests) / (
            to_s - from_s
        )

    def waits_s(self, from_s, to_s):
        """How long those waited for a slot that came then and were answered."""
        return [(one[2] - one[0] - 400) / 1000 for one in self.between(from_s, to_s) if one[2] is not None]

    def refused(self, from_s, to_s):
        came = self.between(from_s, to_s)
        return sum(one[2] is None for one in came) / len(came)


OVERLOADS = {
    "one process": {},
    "four processes alike": {"shares": (1, 1, 1, 1)},
    "twelve processes, and one has nearly all": {"shares": (0.89, *[0.01] * 11)},
}


@pytest.mark.parametrize("world", OVERLOADS.values(), ids=OVERLOADS)
def test_two_minutes_of_ten_times_the_capacity_and_back_to_normal(world):
    world = World(**world).run(25, 20).run(500, 120).run(25, 60)
    assert world.refused(0, 20) == 0.0
    assert world.answered_a_second(30, 140) >= 0.9 * 50, "no slot is idle"
    assert all(one[2] is None or one[2] - one[0] < 60_000 for one in world.requests), "nothing dies in the queue"
    assert not world.fifo
    assert world.refused(60, 140) == pytest.approx(0.9, abs=0.01)
    assert world.refused(145, 200) == 0.0
    assert max(world.waits_s(160, 200)) == 0.0, "twenty seconds after the end all is as before"
    steady = world.waits_s(70, 140)
    assert quantiles(steady, n=20)[0] > LIMIT_S - 3
    assert quantiles(steady, n=20)[-1] < LIMIT_S + 3, "no swinging"


@pytest.mark.parametrize("per_s", [55, 100, 700])
def test_a_little_too_much_and_far_too_much_are_held_alike(per_s):
    world = World(seed=per_s).run(40, 15).run(per_s, 60)
    assert world.answered_a_second(30, 75) >= 0.95 * 50
    assert max(world.waits_s(65, 75)) < LIMIT_S + 2


def test_it_holds_while_settle_is_far_behind():
    world = World(lag_s=8).run(25, 30).run(100, 120)
    assert world.answered_a_second(50, 150) >= 0.95 * 50
    assert world.refused(60, 150) == pytest.approx(0.5, abs=0.05)
    steady = quantiles(world.waits_s(80, 140), n=20)
    assert steady[0] > LIMIT_S - 3
    assert steady[-1] < LIMIT_S + 3


@pytest.mark.parametrize(("slots", "before", "then"), [(20, 5, 48), (400, 10, 900), (400, 900, 10)])
def test_load_that_can_be_carried_is_never_refused_however_fast_it_rises(slots, before, then):
    world = World(slots=slots).run(before, 15).run(then, 20).run(before, 10).run(then, 10)
    assert world.refused(0, 60) == 0.0


def test_a_cold_start_into_an_overload_refuses_nobody_before_the_capacity_is_known():
    world = World().run(500, 60).run(25, 40)
    assert world.refused(0, 1.5) == 0.0
    assert world.answered_a_second(2, 60) >= 0.95 * 50
    assert max(world.waits_s(90, 100)) == 0.0


def test_the_lowest_priority_goes_first_and_the_highest_is_served_whole():
    world = World(priorities=((1, 0.05), (0, 0.45), (-1, 0.5))).run(25, 20).run(500, 120)
    seen, served = Counter(), Counter()
    for _, priority, ended in world.between(60, 140):
        seen[priority] += 1
        served[priority] += ended is not None
    shares = {priority: served[priority] / seen[priority] for priority in seen}
    assert shares[1] == 1.0
    assert shares[-1] == 0.0
    assert 0.05 < shares[0] < 0.2
    assert world.answered_a_second(30, 140) >= 0.9 * 50


def test_high_priorities_alone_cannot_lock_the_rest_out_for_longer_than_they_come():
    world = World(priorities=((1, 1.0),)).run(500, 60)
    world.priorities = ((-1, 1.0),)
    world.run(25, 30)
    assert world.refused(72, 90) == 0.0


def test_capacity_that_is_lost_and_comes_back_is_followed():
    world = World().run(25, 15).run(200, 60)
    world.slots = 10
    world.run(200, 60)
    world.slots = 40
    world.run(200, 60)
    assert max(world.waits_s(110, 134)) < LIMIT_S + 4
    assert world.answered_a_second(150, 190) >= 0.9 * 100


def test_words_that_stop_coming_refuse_nobody_for_long():
    world = World().run(25, 15).run(500, 30)
    world.words = deque(maxlen=0)  # watch is gone
    world.run(100, 20)
    assert world.refused(52, 65) == 0.0
