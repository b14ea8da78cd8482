"""kafka/aside: work beside the lanes, in threads; nothing of it on the loop."""

import asyncio
import threading

import pytest

from router.kafka.aside import THREADS, Aside
from router.kafka.bodies import BodyReader
from router.kafka.client import Client


def bodies():
    found = BodyReader(Client("127.0.0.1:1"), ["t"])
    found.read_from(lambda place: None if place[2] == 9 else place)
    return found


async def until(holds):
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)


async def test_answers_come_to_the_lane_that_asked_once():
    aside = Aside(bodies(), lambda record: record and record[2] * 10)
    await aside.start()
    try:
        for lane, offset in ((0, 1), (1, 2), (0, 9)):
            aside.ask(lane, str(offset).encode(), ("t", 0, offset))
        found = {0: {}, 1: {}}

        def all_there():
            for lane, answers in found.items():
                answers.update(aside.take(lane))
            return len(found[0]) == 2 and len(found[1]) == 1

        await until(all_there)
        assert found == {0: {b"1": 10, b"9": None}, 1: {b"2": 20}}
        assert aside.take(0) == {}
    finally:
        await aside.stop()


async def test_the_loop_goes_on_while_it_works():
    """The work ends only when the loop lets it: on the loop it would wait for ever."""
    go_on = threading.Event()
    aside = Aside(bodies(), lambda _: go_on.wait(20))
    await aside.start()
    try:
        for number in range(THREADS + 1):
            aside.ask(0, str(number).encode(), ("t", 0, 1))
        await asyncio.sleep(0)
        assert aside.take(0) == {}
        go_on.set()
        found = {}

        def all_there():
            found.update(aside.take(0))
            return len(found) == THREADS + 1

        await until(all_there)
        assert set(found.values()) == {True}
    finally:
        await aside.stop()


async def test_an_error_is_raised_in_the_lane():
    aside = Aside(bodies(), lambda record: 1 // record[2])
    await aside.start()
    try:
        aside.ask(0, b"k", ("t", 0, 0))
        with pytest.raises(ZeroDivisionError):
            await until(lambda: aside.take(1))
    finally:
        await aside.stop()


@pytest.mark.parametrize("asked", [0, 3])
async def test_it_is_done_at_once_where_there_are_no_threads(asked):
    aside = Aside(bodies(), lambda record: record[2])
    for offset in range(asked):
        aside.ask(5, str(offset).encode(), ("t", 0, offset))
    assert await aside.work_off() == bool(asked)
    assert aside.take(5) == {str(offset).encode(): offset for offset in range(asked)}
    assert not await aside.work_off()
