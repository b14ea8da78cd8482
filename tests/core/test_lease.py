"""What lanes use of a limit never exceeds it, whatever comes when; and what is left is found by whoever needs it."""

from collections import defaultdict, deque

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from router.core.lease import (
    ASK_AGAIN_MS,
    DRY_MS,
    IDLE_MS,
    Account,
    Ask,
    Grant,
    Holder,
    Owner,
    ends_ms,
    window_of,
)

NOW_MS = 1_767_225_500_000  # 99.999 s before the year 2026 begins: minute, day and month end together
LANES = 3
KINDS = ("requests", "tokens", "day", "month")


class Leases(RuleBasedStateMachine):
    """Three lanes with clocks of their own, one owner; records are delivered when Hypothesis likes, and whoever it likes starts anew."""

    @initialize(limits=st.fixed_dictionaries({kind: st.integers(1, 60) for kind in KINDS}))
    def begin(self, limits):
        self.limits = limits
        self.now_ms = NOW_MS
        self.skew = [0] * LANES
        self.lanes = [Holder(limits) for _ in range(LANES)]
        self.owner = Owner(limits, LANES)
        self.asks = deque()
        self.grants = [deque() for _ in range(LANES)]
        self.used = defaultdict(int)
        self.beyond = defaultdict(int)
        self.calls = []
        self.keys = 0

    def at(self, lane):
        return self.now_ms + self.skew[lane]

    @rule(
        lane=st.integers(0, LANES - 1),
        need=st.dictionaries(st.sampled_from(KINDS), st.integers(0, 25), min_size=1),
    )
    def take(self, lane, need):
        """A request; where something is short, the lane says so."""
        holder, now_ms = self.lanes[lane], self.at(lane)
        short = holder.take(need, now_ms)
        if short is None:
            for kind, amount in need.items():
                self.used[kind, window_of(kind, now_ms)] += amount
            money = max(need.get("day", 0), need.get("month", 0))
            if need.get("day", money) == need.get("month", money) == money:
                self.calls.append((lane, holder.windows(now_ms), need))
        elif not short.final:
            self.asks.extend((lane, one) for one in holder.ask(need, now_ms))

    @rule(lane=st.integers(0, LANES - 1), need=st.integers(1, 25))
    def keep(self, lane, need):
        """A request that waited is on its way, with something kept for it; it may never come."""
        self.keys += 1
        self.lanes[lane].keep(str(self.keys).encode(), {"requests": need}, self.at(lane))

    @rule(lane=st.integers(0, LANES - 1))
    def fetch(self, lane):
        holder, now_ms = self.lanes[lane], self.at(lane)
        for key, (need, _) in list(holder.kept.items())[:1]:
            if holder.take(need, now_ms, key=key) is None:
                self.used["requests", window_of("requests", now_ms)] += need["requests"]

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), cost=st.integers(0, 30))
    def settle(self, data, cost):
        """A call has come back, cheaper or dearer than it could be."""
        lane, windows, need = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        taken = max(need.get("day", 0), need.get("month", 0))
        if set(need) & {"day", "month"} != {"day", "month"}:
            return
        now_ms = self.at(lane)
        self.lanes[lane].settle(windows, taken, cost, now_ms)
        for kind in ("day", "month"):
            if windows[kind] == window_of(kind, now_ms):
                self.used[kind, windows[kind]] += cost - taken
                self.beyond[kind, windows[kind]] += max(0, cost - taken)

    @rule(lane=st.integers(0, LANES - 1), tell=st.booleans())
    def ask(self, lane, tell):
        self.asks.extend((lane, one) for one in self.lanes[lane].ask({}, self.at(lane), tell=tell))

    @precondition(lambda self: self.asks)
    @rule()
    def answer(self):
        lane, one = self.asks.popleft()
        grant = self.owner.answer(one, self.now_ms)
        if grant is not None:
            self.grants[lane].append(grant)

    @rule(lane=st.integers(0, LANES - 1))
    def deliver(self, lane):
        if self.grants[lane]:
            self.lanes[lane].granted(self.grants[lane].popleft(), self.at(lane))

    @rule(ms=st.sampled_from([1, 300, DRY_MS, IDLE_MS, ASK_AGAIN_MS, 61_000, 86_400_000]))
    def wait(self, ms):
        self.now_ms += ms

    @rule(lane=st.integers(0, LANES - 1), ms=st.integers(0, 90_000))
    def clock_goes_ahead(self, lane, ms):
        """A lane's own clock never runs backwards."""
        self.skew[lane] = max(self.skew[lane], ms)

    @rule(lane=st.integers(0, LANES - 1))
    def another_process_takes_the_lane(self, lane):
        rows = orjson.loads(orjson.dumps(self.lanes[lane].dump()))
        self.lanes[lane] = Holder.load(self.limits, rows)

    @rule()
    def another_process_takes_the_owner(self):
        self.owner = Owner.load(self.limits, LANES, orjson.loads(orjson.dumps(self.owner.dump())))

    @invariant()
    def what_is_used_never_exceeds_the_limit(self):
        for (kind, window), used in getattr(self, "used", {}).items():
            assert used <= self.limits[kind] + self.beyond[kind, window]

    @invariant()
    def nothing_is_lent_twice(self):
        for kind, accounts in self.owner.accounts.items() if hasattr(self, "owner") else ():
            for window, account in accounts.items():
                assert 0 <= account.out <= self.limits[kind]
                leases = [one.leases[kind] for one in self.lanes if kind in one.leases]
                mine = [one for one in leases if one.window == window]
                coming = sum(g.amount for queue in self.grants for g in queue if (g.kind, g.window) == (kind, window))
                going = sum(a.back for _, a in self.asks if (a.kind, a.window) == (kind, window))
                if len(mine) == len(leases):  # else some of it has ended with a lane's window
                    held = sum(one.left + one.used for one in mine)
                    assert held + coming + going <= account.out


TestLeases = Leases.TestCase
TestLeases.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)


class Pair:
    """One limit, some lanes, and records that arrive at once."""

    def __init__(self, lanes=2, **limits):
        self.now_ms = NOW_MS - NOW_MS % 60_000
        self.lanes = [Holder(limits) for _ in range(lanes)]
        self.owner = Owner(limits, lanes)

    def take(self, lane, **need):
        """Whether the request may go, at once or after the owner was asked."""
        holder = self.lanes[lane]
        short = holder.take(need, self.now_ms)
        if short is not None and not short.final:
            self.talk(lane, need)
            short = holder.take(need, self.now_ms)
        return short is None

    def talk(self, lane, waiting=()):
        holder = self.lanes[lane]
        for ask in holder.ask(dict(waiting), self.now_ms, tell=True):
            if (grant := self.owner.answer(ask, self.now_ms)) is not None:
                holder.granted(grant, self.now_ms)


@pytest.mark.parametrize("lanes", [1, 2, 8])
def test_one_lane_after_the_other_gets_all_of_the_limit_and_no_more(lanes):
    pair = Pair(lanes, requests=20)
    taken = sum(pair.take(number % lanes, requests=1) for number in range(60))
    assert taken == 20
    pair.now_ms += 60_000
    assert sum(pair.take(number % lanes, requests=1) for number in range(60)) == 20


def test_a_lane_that_was_short_once_knows_so_for_a_second_and_says_when_the_minute_ends():
    pair = Pair(requests=1)
    assert pair.take(0, requests=1)
    assert not pair.take(0, requests=1)
    pair.now_ms += 999
    short = pair.lanes[0].take({"requests": 1}, pair.now_ms)
    assert short.final
    assert short.retry_ms == 60_000 - 999
    pair.now_ms += 1
    assert not pair.lanes[0].take({"requests": 1}, pair.now_ms).final


def test_what_lies_idle_comes_back_after_five_seconds_and_another_lane_gets_it():
    pair = Pair(day=100)
    assert pair.take(0, day=100)
    pair.lanes[0].settle(pair.lanes[0].windows(pair.now_ms), 100, 30, pair.now_ms)
    assert not pair.take(1, day=60)
    pair.now_ms += IDLE_MS
    pair.talk(0)
    assert pair.owner.current("day", pair.now_ms) == Account(out=30, used=30)
    assert pair.take(1, day=60)
    assert not pair.take(0, day=11)
    assert pair.take(0, day=10)


def test_a_lane_in_use_asks_before_it_is_empty():
    pair = Pair(lanes=1, requests=10_000)
    for _ in range(50):
        pair.now_ms += 20
        assert pair.take(0, requests=1)
        pair.talk(0)
    asked_of_owner = []
    for _ in range(200):
        pair.now_ms += 20
        asked_of_owner.append(pair.lanes[0].take({"requests": 1}, pair.now_ms))
        pair.talk(0)
    assert asked_of_owner == [None] * 200


def test_what_a_call_cost_beyond_is_owed_and_paid_by_what_comes_next():
    pair = Pair(lanes=1, day=100)
    assert pair.take(0, day=10)
    pair.lanes[0].settle({"day": window_of("day", pair.now_ms)}, 10, 95, pair.now_ms)
    pair.talk(0)
    assert pair.owner.current("day", pair.now_ms).used == 95
    assert not pair.take(0, day=10)
    pair.now_ms += DRY_MS
    assert pair.take(0, day=5)


def test_what_is_kept_for_a_request_on_its_way_is_its_own_for_a_while():
    pair = Pair(lanes=1, requests=1)
    pair.talk(0, {"requests": 1})
    holder = pair.lanes[0]
    assert holder.keep(b"mine", {"requests": 1}, pair.now_ms)
    assert holder.take({"requests": 1}, pair.now_ms) is not None
    assert holder.take({"requests": 1}, pair.now_ms, key=b"mine") is None
    lost = Pair(lanes=1, requests=1)
    lost.talk(0, {"requests": 1})
    assert lost.lanes[0].keep(b"never comes", {"requests": 1}, lost.now_ms)
    lost.now_ms += IDLE_MS
    lost.talk(0)
    assert lost.take(0, requests=1)


def test_what_is_more_than_the_limit_is_never_asked_for():
    short = Holder({"tokens": 100}).take({"tokens": 101}, NOW_MS)
    assert short.final
    assert short.retry_ms == 0


def test_of_several_limits_all_are_taken_or_none():
    pair = Pair(requests=5, tokens=100)
    assert not pair.take(0, requests=1, tokens=60) or pair.lanes[0].leases["tokens"].used == 60
    assert not pair.take(0, requests=1, tokens=60)
    assert pair.lanes[0].leases["requests"].used == 1


def test_a_lease_ends_with_its_window_and_so_does_what_comes_too_late():
    holder = Holder({"requests": 5})
    late = NOW_MS - NOW_MS % 60_000 + 60_000
    holder.ask({"requests": 1}, late - 1)
    holder.granted(Grant("requests", window_of("requests", late - 1), 5), late)
    assert not holder.take({"requests": 1}, late).final


def test_an_ask_for_a_window_far_from_the_owners_clock_gets_nothing():
    owner = Owner({"requests": 5}, 1)
    here = window_of("requests", NOW_MS)
    assert owner.answer(Ask("requests", here + 2, need=1), NOW_MS).amount == 0
    assert owner.answer(Ask("requests", here - 2, need=1), NOW_MS).amount == 0
    assert owner.answer(Ask("requests", here + 1, need=1), NOW_MS).amount == 1
    assert owner.answer(Ask("gone", here, need=1), NOW_MS) == Grant("gone", here, 0)


def test_a_limit_that_was_lowered_lends_no_more_until_enough_came_back():
    owner = Owner({"requests": 10}, 1)
    here = window_of("requests", NOW_MS)
    owner.answer(Ask("requests", here, need=10), NOW_MS)
    lower = Owner.load({"requests": 4}, 1, owner.dump())
    assert lower.answer(Ask("requests", here, need=1), NOW_MS) == Grant("requests", here, 0, dry=True)
    assert lower.answer(Ask("requests", here, back=8), NOW_MS) is None
    assert lower.answer(Ask("requests", here, need=3), NOW_MS) == Grant("requests", here, 2, dry=True)


def test_months_and_days_are_those_of_the_calendar_in_utc():
    for kind in KINDS:
        for at_ms in range(NOW_MS, NOW_MS + 400 * 86_400_000, 37 * 3_600_000 + 1):
            window = window_of(kind, at_ms)
            assert at_ms < ends_ms(kind, window)
            assert window_of(kind, ends_ms(kind, window)) == window + 1
            assert window_of(kind, ends_ms(kind, window) - 1) == window
