"""What a lane of route asks of users: how many a survey has asked today, and whom it is about to ask.

Everybody who *was* asked is known from the topic ``surveys``, which settle writes with the result that asks and every router follows; so a user is left in
peace in all partitions. Until that result is there the lane holds the user itself: a further request of the same minute does not ask again.
A result that comes to nothing asks nobody, and its user is free again. Only a user whose requests lie in several partitions, and who is drawn twice before
the first result is out, may be asked twice.

The limit a day (UTC) is kept by each lane for its part of it. Rows: ``q`` + user -> until when it is held, ``y`` + survey -> ``[day, asked]``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import orjson

from router.contract.topics import DAY_MS
from router.core.survey import Ask, Quiet, Template, part_of_day
from router.kafka.unit import UnitLike
from router.stages.due import Due

HELD, DAY = b"q", b"y"
#: Beyond the deadline of the request that asks: its result may come that late, and the others hear of it.
GRACE_MS: Final = 60_000
#: Users held at once; beyond it nobody is asked.
MOST_HELD: Final = 50_000
FREED_A_TICK: Final = 500


class Surveys:
    """Of one lane."""

    def __init__(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        self._held: dict[bytes, int] = {}
        self._today: dict[str, tuple[int, int]] = {}
        for key, value in rows:
            if key[:1] == HELD:
                self._held[key] = orjson.loads(value)
            elif key[:1] == DAY:
                day, asked, *_ = orjson.loads(value)
                self._today[key[1:].decode()] = day, asked
        self._due = Due(self._held.get, self._held)

    def ask(
        self, template: Template, user: str, quiet: Quiet, *, lanes: int, deadline_at_ms: int, unit: UnitLike
    ) -> Ask | None:
        """For a request that was drawn; ``None`` where its user is to be left in peace, or the day is full."""
        since_ms, key = quiet.since_ms(user), HELD + user.encode()
        if since_ms is not None and unit.now_ms - since_ms < template.quiet_ms:
            return None
        if self._held.get(key, 0) > unit.now_ms or len(self._held) >= MOST_HELD:
            return None
        today = unit.now_ms // DAY_MS
        day, asked = self._today.get(template.name, (today, 0))
        asked = asked if day == today else 0
        if asked >= part_of_day(template.per_day, unit.partition, lanes):
            return None
        self._today[template.name] = today, asked + 1
        unit.put(DAY + template.name.encode(), orjson.dumps(self._today[template.name]))
        self._held[key] = until_ms = deadline_at_ms + GRACE_MS
        self._due.push(until_ms, key)
        unit.put(key, orjson.dumps(until_ms))
        return Ask(name=template.name, inclusion=template.share, user=user)

    def free(self, unit: UnitLike) -> None:
        """Let go of users whose result has come, or never will."""
        for key in list(self._due.pop_until(unit.now_ms, FREED_A_TICK)):
            del self._held[key]
            unit.put(key, None)
