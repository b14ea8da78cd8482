"""What a lane of settle says of its open requests while it cannot read on."""

from dataclasses import replace

from router.contract.records import Origin
from router.core.settlement import MOST_HELD, Row
from router.core.slip import Slip
from router.kafka.unit import Unit
from router.stages.due import Due
from router.stages.settle_book import MOST_HELD_OF_ALL, OVERDUE_MS, WALKED_A_TICK, Book
from router.stages.settle_rows import SettleRows

AT_MS = 1_750_000_000_000


class Nowhere:
    def __init__(self):
        self.partition, self.partitions = 0, {}


def row(number, deadline_at_ms):
    return Row(
        slip=Slip(
            request_id=f"{number:032x}",
            attempt=1,
            model="small",
            reason="routed",
            origin=Origin(topic="llm.requests", partition=0, offset=number),
            at_ms=AT_MS,
            deadline_at_ms=deadline_at_ms,
            key=None,
            tenant="default",
            custom_id=str(number),
            metadata=None,
            lane="interactive",
        )
    )


def opened(*deadlines_ms):
    """A book with a request for each deadline, in ms from now, and a unit."""
    rows = SettleRows(1000)
    book, unit = Book(rows), Unit(Nowhere(), rows, None)
    for number, deadline_ms in enumerate(deadlines_ms):
        book.set(unit, number.to_bytes(16), row(number, AT_MS + deadline_ms))
    return book, unit


def overdue(book, unit, now_ms):
    unit.now_ms = AT_MS + now_ms
    return book.load(unit).overdue


def test_requests_are_overdue_ten_seconds_after_their_deadline():
    book, unit = opened(300, 100, 200, 90_000)
    assert overdue(book, unit, 200 + OVERDUE_MS) == 1
    assert overdue(book, unit, 301 + OVERDUE_MS) == 3
    book.close(unit, (2).to_bytes(16))
    assert overdue(book, unit, 1_000 + OVERDUE_MS) == 2


def test_overdue_requests_end_first_and_each_once():
    book, unit = opened(300, 100, 20_000, 200, 30_000)
    assert overdue(book, unit, 250 + OVERDUE_MS) == 2
    assert list(book.passed(AT_MS + 99)) == []
    found = []
    for id16 in book.passed(AT_MS + 20_000):
        found.append(int.from_bytes(id16))
        book.close(unit, id16)
    assert found == [1, 3, 0, 2]
    assert overdue(book, unit, 1_000 + OVERDUE_MS) == 0
    assert list(book.open) == [(4).to_bytes(16)]


def test_a_request_that_is_opened_again_is_counted_anew():
    book, unit = opened(100)
    assert overdue(book, unit, 1_000 + OVERDUE_MS) == 1
    id16 = bytes(16)
    book.close(unit, id16)
    book.set(unit, id16, row(0, AT_MS + 90_000))
    assert overdue(book, unit, 2_000 + OVERDUE_MS) == 0
    assert list(book.passed(AT_MS + 90_000)) == [id16]


def test_every_deadline_fires_however_many_requests_are_open():
    book, unit = opened(*[100] * 5000)
    assert len(set(book.passed(AT_MS + 100))) == 5000
    assert overdue(book, unit, 200 + OVERDUE_MS) == 0


def test_the_oldest_is_known_however_many_requests_are_open():
    book, unit = opened(*[100] * 1200)
    for number in range(1199):
        book.close(unit, number.to_bytes(16))
    assert book.load(unit).oldest_at_ms == {"interactive": AT_MS}


def test_what_fell_out_of_the_heap_is_found_counted_as_overdue_and_ends():
    book, unit = opened(*range(1_000))
    book._deadlines = Due(book._deadline)  # as after a defect: the heap knows of none
    now_ms = AT_MS + 1_000 + OVERDUE_MS
    assert overdue(book, unit, 1_000 + OVERDUE_MS) == 0
    for _ in range(-(-1_000 // WALKED_A_TICK)):
        book.walk(now_ms)
    assert overdue(book, unit, 2_000 + OVERDUE_MS) == 1_000
    assert len(set(book.passed(now_ms))) == 1_000


def test_a_walk_leaves_alone_what_is_not_overdue():
    book, _unit = opened(*[90_000] * 300)
    before = list(book._deadlines._heap)
    for _ in range(10):
        book.walk(AT_MS + 1_000)
    assert book._deadlines._heap == before


def test_answers_that_are_held_have_so_much_room_together():
    book, unit = opened(60_000, 60_000)
    assert book.room == MOST_HELD
    first = replace(row(0, AT_MS + 60_000), held=b"x" * (MOST_HELD_OF_ALL - 10))
    book.set(unit, (0).to_bytes(16), first)
    assert book.room == 10
    book.set(unit, (0).to_bytes(16), replace(first, refusal=None))
    assert book.room == 10
    unit.put(b"r" + (0).to_bytes(16), b"")
    book.close(unit, (0).to_bytes(16))
    assert book.room == MOST_HELD
