"""The queue in memory: bounds, order, leases, and what is done stays done."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from router.contract.times import to_rfc3339
from router.core.keyring import Keyring
from router.core.reviewing import namer
from router.web.review_queue import LEASE_MS, Queue, Wanted
from tests.history.test_reviews import item, opinion

DAY_MS = 86_400_000
NOW_MS = 20_000 * DAY_MS
ALL = Wanted()
NAME = namer(Keyring((b"k" * 32,)))


def queue(**more) -> Queue:
    return Queue(NAME, lambda _item: "acme", 7 * DAY_MS, **more)


def note(to: Queue, number: int, *, due_days: int = 1, written_ms: int = NOW_MS, **more) -> str:
    one = item(f"{number:032x}", due_at=to_rfc3339(NOW_MS + due_days * DAY_MS), **more)
    to.note_item(one, written_ms, ("reviews", 0, number))
    return NAME((one.request_id, one.attempt))


def names(of: Queue, reviewer=None, now_ms=NOW_MS, **more):
    return [one.name for one in of.following(ALL, reviewer, now_ms, **more)]


def test_what_is_due_first_comes_first():
    found = queue()
    last, first = note(found, 1, due_days=3), note(found, 2, due_days=-1)
    middle = {note(found, number) for number in range(3, 20)}
    order = names(found)
    assert (order[0], order[-1], set(order[1:-1])) == (first, last, middle)
    assert order[1:-1] != [NAME((f"{number:032x}", 1)) for number in range(3, 20)]
    assert found.count(ALL, None, NOW_MS).overdue == 1


def test_texts_are_not_kept_but_where_they_lie():
    found = queue()
    note(found, 1, prompt="p" * 60_000, answer="a")
    note(found, 2)
    places = {one.item.request_id[-1]: (one.item.prompt, one.at) for one in found.following(ALL, None, NOW_MS)}
    assert places == {"1": (None, ("reviews", 0, 1)), "2": (None, None)}


def test_of_too_many_those_due_first_are_let_go():
    found = queue(max_open=3)
    kept = [note(found, number, due_days=number) for number in range(5)][2:]
    assert (names(found), len(found), found.let_go) == (kept, 3, 2)


def test_an_opinion_may_come_before_its_item_and_counts_once_however_often_it_is_read():
    found = queue(max_done=2)
    said = replace(opinion(f"{1:032x}", 1.0), at_ms=NOW_MS)
    for _ in range(2):
        found.note_opinion(said)
    note(found, 1)
    assert (names(found), found.done_today("auto", NOW_MS), found.done_today(None, NOW_MS)) == ([], 1, 1)
    assert (found.done_today("other", NOW_MS), found.done_today(None, NOW_MS + DAY_MS)) == (0, 0)
    for number in (2, 3):
        found.note_opinion(replace(opinion(f"{number:032x}", 1.0), at_ms=NOW_MS))
    assert [found.is_done(NAME((f"{number:032x}", 1))) for number in (1, 2, 3)] == [False, True, True]


def test_what_is_past_retention_goes():
    found = queue()
    note(found, 1, written_ms=NOW_MS - 7 * DAY_MS)
    kept = note(found, 2, written_ms=NOW_MS - 7 * DAY_MS + 1)
    found.forget(NOW_MS)
    assert names(found) == [kept]


def test_a_lease_is_renewed_ends_and_is_of_one_reviewer():
    found = queue()
    one = note(found, 1)
    found.keep("ann", [one], NOW_MS)
    found.keep("bob", [one], NOW_MS)
    assert (names(found, "ann"), names(found, "bob"), names(found, None)) == ([one], [], [])
    found.keep("ann", [one], NOW_MS + LEASE_MS - 1)
    assert names(found, "bob", NOW_MS + LEASE_MS) == []
    assert names(found, "bob", NOW_MS + 2 * LEASE_MS) == [one]
    found.keep("ann", [], NOW_MS + LEASE_MS)
    assert names(found, "bob", NOW_MS + LEASE_MS) == [one]


def test_what_was_taken_may_be_put_back_unless_it_is_done_meanwhile():
    found = queue()
    name = note(found, 1)
    assert found.take(name, Wanted(tenant="other")) is None
    taken = found.take(name, ALL)
    assert (names(found), found.take(name, ALL)) == ([], None)
    found.put_back(taken)
    assert names(found) == [name]
    taken = found.take(name, ALL)
    found.finish(name)
    found.put_back(taken)
    assert names(found) == []


@given(
    st.lists(
        st.tuples(st.sampled_from(["item", "done", "take", "clear", "forget"]), st.integers(0, 12), st.integers(-3, 3))
    )
)
def test_the_order_holds_exactly_what_is_open_whatever_happens(steps):
    found = queue(max_open=6)
    for what, number, day in steps:
        name = NAME((f"{number:032x}", 1))
        if what == "item":
            note(found, number, due_days=day, written_ms=NOW_MS + day * DAY_MS)
        elif what == "done":
            found.finish(name)
        elif what == "take" and (one := found.take(name, ALL)) is not None:
            found.put_back(one)
        elif what == "clear":
            found.clear()
        else:
            found.forget(NOW_MS + (day + 6) * DAY_MS)
        order = [one.position for one in found.following(ALL, None, NOW_MS)]
        assert order == sorted(order)
        assert len(order) == len(found) <= 6
