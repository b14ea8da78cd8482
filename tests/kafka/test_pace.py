"""A producer whose transactions are refused for a while after each commit, on a clock that is set by hand."""

import pytest

from router.kafka.pace import MAX_PAUSE_S, MAX_RETRY_S, RETRY_S, Pace


class Broker:
    """Refuses until ``markers_s`` after a commit."""

    def __init__(self, markers_s):
        self.markers_s = markers_s
        self.now_s = 100.0
        self.pace = Pace(clock_s=lambda: self.now_s)
        self._ended_s = None

    def transaction(self):
        """Waits as a lane does, asks as aiokafka does; returns how often it was refused."""
        refusals = 0
        if self._ended_s is not None:
            self.now_s = max(self.now_s, self._ended_s + self.pace.pause_s)
            while self.now_s < self._ended_s + self.markers_s:
                refusals += 1
                self.now_s += self.pace.refused()
        self.pace.let_in()
        self.now_s += 0.005
        self.pace.ended()
        self._ended_s = self.now_s
        return refusals


def test_each_refusal_doubles_the_wait_up_to_a_bound():
    pace = Pace()
    waits = [pace.refused() for _ in range(10)]
    assert waits[:4] == pytest.approx([RETRY_S, 2 * RETRY_S, 4 * RETRY_S, 8 * RETRY_S])
    assert max(waits) == MAX_RETRY_S
    pace.let_in()
    assert pace.refused() == RETRY_S


@pytest.mark.parametrize("markers_s", [0.0, 0.002, 0.020, 0.1])
def test_most_transactions_are_let_in_at_once_however_long_the_markers_take(markers_s):
    broker = Broker(markers_s)
    broker.transaction()
    broker.transaction()
    refusals = [broker.transaction() for _ in range(100)]
    assert sum(refusals) <= 60
    assert broker.pace.pause_s <= max(2 * markers_s, RETRY_S)


def test_the_pause_ends_when_the_broker_recovers():
    broker = Broker(0.1)
    for _ in range(10):
        broker.transaction()
    assert broker.pace.pause_s > 0.05
    broker.markers_s = 0.001
    for _ in range(60):
        broker.transaction()
    assert broker.pace.pause_s < 0.005


def test_a_broker_that_stood_still_for_long_makes_nobody_wait_for_long():
    broker = Broker(30.0)
    broker.transaction()
    broker.transaction()
    assert broker.pace.pause_s == MAX_PAUSE_S


def test_only_the_first_request_after_a_commit_tells_how_long_the_markers_took():
    broker = Broker(0.1)
    broker.transaction()
    broker.transaction()
    broker.now_s += 1
    broker.pace.let_in()
    paused_s = broker.pace.pause_s
    broker.now_s += 50
    broker.pace.let_in()
    assert broker.pace.pause_s == paused_s
