"""Due times come in order, dead entries never, and the heap stays as small as what lives."""

from hypothesis import given
from hypothesis import strategies as st

from router.stages.due import Due

ids = st.binary(min_size=1, max_size=1)


@given(st.lists(st.tuples(ids, st.integers(0, 50) | st.none()), max_size=60), st.integers(0, 60), st.integers(0, 10))
def test_gives_what_is_due_and_alive_earliest_first(changes, now_ms, most):
    times: dict[bytes, int] = {}
    due = Due(times.get)
    for id16, at_ms in changes:
        if at_ms is None:
            times.pop(id16, None)
        else:
            times[id16] = at_ms
            due.push(at_ms, id16)
    expected = sorted((at_ms, id16) for id16, at_ms in times.items() if at_ms <= now_ms)
    assert [(times.pop(id16), id16) for id16 in due.pop_until(now_ms, most)] == expected[:most]


def test_is_rebuilt_from_what_lives():
    assert list(Due({b"a": 2, b"b": 1}.get, [b"a", b"b", b"c"]).pop_until(5, 9)) == [b"b", b"a"]


def test_does_not_grow_with_the_dead():
    times: dict[bytes, int] = {}
    due = Due(times.get)
    for number in range(20_000):
        id16 = number.to_bytes(4)
        times[id16] = number
        due.push(number, id16)
        if number >= 10:
            del times[(number - 10).to_bytes(4)]
    assert len(due._heap) <= 2_000
    assert due.first() == (19_990, (19_990).to_bytes(4))


def test_what_is_pushed_stays_also_when_the_heap_is_made_anew():
    times: dict[bytes, int] = {}
    due = Due(times.get)
    for number in range(5000):
        id16 = number.to_bytes(4)
        due.push(number, id16)
        times[id16] = number  # known only afterwards
    assert list(due.pop_until(5000)) == sorted(times)
