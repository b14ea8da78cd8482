"""What may be spent on shadows in a day, and how many may be out."""

from router.core.allowance import DAY_MS, Allowance

NOW = 20_000 * DAY_MS + 5


def room(allowance, now_ms=NOW, limit=100, most=1000):
    return allowance.room(now_ms, limit_nano_usd=limit, most_calls=most)


def test_what_is_out_counts_as_expected_and_what_came_back_as_it_cost():
    allowance = Allowance()
    allowance.charge(60, NOW)
    allowance.charge(60, NOW)
    assert not room(allowance)
    allowance.correct(1, 60, 10, NOW)
    assert room(allowance)
    allowance.correct(1, 60, 95, NOW)
    assert (allowance.spent, allowance.owed, allowance.calls) == (105, 0, 0)
    assert not room(allowance)


def test_without_a_limit_only_the_number_that_is_out_counts():
    allowance = Allowance()
    for _ in range(3):
        assert room(allowance, limit=None, most=3)
        allowance.charge(10**12, NOW)
    assert not room(allowance, limit=None, most=3)


def test_a_new_day_begins_empty_and_what_comes_from_the_old_one_makes_nothing_negative():
    allowance = Allowance()
    allowance.charge(500, NOW)
    assert not room(allowance)
    assert room(allowance, NOW + DAY_MS)
    allowance.correct(1, 500, 40, NOW + DAY_MS)
    assert (allowance.spent, allowance.owed, allowance.calls) == (40, 0, 0)


def test_a_clock_that_went_back_does_not_begin_a_day_anew():
    allowance = Allowance()
    allowance.charge(500, NOW)
    assert not room(allowance, NOW - DAY_MS)
