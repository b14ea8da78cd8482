"""When a lane may say that it has read all."""

from router.kafka.horizon import Ends, Horizon

A, B = ("a", 0), ("b", 0)


class Broker:
    """Answers what it is told to."""

    def __init__(self):
        self.newest = None

    def __call__(self):
        return self.newest


def test_nothing_is_known_before_every_source_has_a_position():
    broker = Broker()
    horizon = Horizon([A, B], broker)
    broker.newest = Ends(100, {A: 0, B: 0})
    horizon.positions[A] = 0
    assert horizon.look() == 0
    horizon.positions[B] = 0
    assert horizon.look() == 100


def test_an_empty_source_advances():
    broker = Broker()
    horizon = Horizon([A], broker)
    horizon.positions[A] = 0
    for asked_ms in (100, 200, 300):
        broker.newest = Ends(asked_ms, {A: 0})
        assert horizon.look() == asked_ms


def test_a_position_below_the_end_holds_it_back_also_where_only_markers_lie_between():
    broker = Broker()
    horizon = Horizon([A], broker)
    broker.newest = Ends(100, {A: 5})
    horizon.positions[A] = 4
    assert horizon.look() == 0
    horizon.positions[A] = 5
    assert horizon.look() == 100


def test_under_load_it_advances_though_the_newest_end_is_never_reached():
    broker, seen = Broker(), []
    horizon = Horizon([A], broker)
    for step in range(100):
        broker.newest = Ends(1000 + step, {A: 10 * step + 15})  # always 15 ahead of what is read
        horizon.positions[A] = 10 * step
        seen.append(horizon.look())
    assert seen == sorted(seen)
    assert 1099 - seen[-1] <= 4


def test_it_never_goes_back():
    broker = Broker()
    horizon = Horizon([A], broker)
    horizon.positions[A] = 9
    broker.newest = Ends(200, {A: 9})
    assert horizon.look() == 200
    broker.newest = Ends(150, {A: 9})
    assert horizon.look() == 200


def test_an_answer_to_a_question_older_than_the_lane_is_passed_over():
    broker = Broker()
    horizon = Horizon([A, B], broker)
    horizon.positions = {A: 0, B: 0}
    broker.newest = Ends(100, {A: 0})
    assert horizon.look() == 0
    broker.newest = Ends(200, {A: 0, B: 0})
    assert horizon.look() == 200
