"""The review queue over HTTP: a page at ``/review``, and what it asks for.

| path | answers |
|---|---|
| ``GET /review`` | the page |
| ``GET /v1/reviews`` | what waits next, with its texts: ``{"items": [{"id", "pool", "stratum", "due_at", "prompt", "answer", "cut"}], "cursor", ...}`` |
| ``POST /v1/reviews`` | ``{"id", "value": 0..1, "comment"}``: an opinion; 202 once it is written |

- Blind: an item's name is not its request's, and nothing of attempt, sample, probability, token or model is in an answer.
- Texts leave only with ``reviews.text``, redacted. Without it an item says what it is, and an opinion on it is not taken.
- With keys: an ``operator`` sees the answers to its tenant's requests, an ``admin`` all, a ``viewer`` none. Without: whoever is on this machine.
- ``reviewer``, a word of the asker's own choice, keeps what was given to it from the others for three minutes after it last asked; ``keep`` names
  those it still has before it, ``skip`` those it does not want again.

Errors are ``{"error": {"code", "message"}}``.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Protocol

import orjson
from aiohttp import web
from pydantic import Field

from router.config import Config
from router.contract.codec import decode, to_rfc3339
from router.contract.errors import BadRecord, Unavailable
from router.contract.records import Feedback, ReviewItem, Share
from router.core.keyring import Keyring
from router.core.reviewing import MOST_TEXT, Place, Shown, feedback_on, item_in, namer, places, with_texts
from router.core.token import TokenError, open_token
from router.web.keys import Key, asking
from router.web.limits import BodyRefused, body_of
from router.web.page import PRIVATE, Page
from router.web.review_queue import Position, Queue, Waiting, Wanted

Redact = Callable[[str], str]
Handler = Callable[[web.Request, Wanted], Awaitable[web.Response]]

#: Of one answer to ``GET``; items of one reviewer at a time.
MOST_ITEMS: Final = 10
MOST_NAMES: Final = 200
MOST_GROUPS: Final = 200
#: Characters of each text that leave: of a prompt its end, of an answer its beginning.
MOST_SHOWN: Final = 400_000
MOST_BODY_BYTES: Final = 64 * 1024
#: Items without a text are passed over, so many for one question.
MOST_TRIED: Final = 100
_NAME = re.compile(r"[0-9a-f]{16}")
_REVIEWER = re.compile(r"[A-Za-z0-9_-]{8,64}")
_CURSOR = re.compile(r"([0-9]{1,6})-([0-9a-f]{16})")


class Log(Protocol):
    """What is needed of ``router.web.review_log.ReviewLog``."""

    queue: Queue

    async def ready(self) -> None: ...
    async def fetch(self, at: Sequence[Place]) -> dict[Place, bytes]: ...
    async def send(self, key: bytes, said: Feedback) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a reviewer says of an item."""

    id: Annotated[str, Field(strict=True, pattern="^[0-9a-f]{16}$")]
    value: Share
    comment: Annotated[str, Field(strict=True, max_length=4000)] | None = None


class Refused(Exception):  # noqa: N818 - an answer
    """Becomes an answer with ``status``."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


def new_queue(config: Config, keyring: Keyring) -> Queue:
    """Empty, for this installation."""

    def tenant_of(item: ReviewItem) -> str | None:
        try:
            return None if item.feedback_token is None else open_token(item.feedback_token, keyring, 0).tenant
        except TokenError:
            return None

    return Queue(namer(keyring), tenant_of, config.reviews.retention_days * 86_400_000)


class Reviews:
    """The handlers. ``clock``: milliseconds since 1970."""

    def __init__(self, config: Config, log: Log, redact: Redact, clock: Callable[[], int]) -> None:
        self._log, self._redact, self._clock = log, redact, clock
        self._texts = config.reviews.text
        self._a_day = {name: pool.reviews_per_day for name, pool in config.pools.items()}
        self._drawn = any(
            pool.reviews_per_day or pool.shadow_percent or (pool.cascade and pool.cascade.label_percent)
            for pool in config.pools.values()
        )
        self._page = Page("review.html")

    def routes(self, app: web.Application) -> None:
        app.router.add_get("/review", self._page.serve)
        app.router.add_get("/v1/reviews", self._answering(self._next))
        app.router.add_post("/v1/reviews", self._answering(self._say))

    def _answering(self, handler: Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
        """With who asks, and with errors as answers."""

        async def answer(request: web.Request) -> web.Response:
            try:
                wanted = _may_see(asking.get())
                await self._log.ready()
                return await handler(request, wanted)
            except Refused as error:
                return _json({"error": {"code": error.code, "message": str(error)}}, error.status)
            except Unavailable as error:
                return _json({"error": {"code": "not_ready", "message": str(error)}}, 503, {"Retry-After": "2"})

        return answer

    async def _next(self, request: web.Request, wanted: Wanted) -> web.Response:
        asked, now_ms, queue = _asked(request.query), self._clock(), self._log.queue
        wanted = Wanted(tenant=wanted.tenant, pool=asked.pool, stratum=asked.stratum)
        passed, found, last, ended = set(asked.keep) | set(asked.skip), list[Shown](), asked.after, False
        names: list[str] = []
        tried = 0
        while len(found) < asked.limit and tried < MOST_TRIED:
            part = []
            for one in queue.following(wanted, asked.reviewer, now_ms, after=last):
                last = one.position
                if one.name not in passed:
                    part.append(one)
                if len(part) == asked.limit - len(found):
                    break
            else:
                ended = True
            tried += len(part)
            if asked.reviewer is not None:  # before anything is waited for: another reviewer may ask meanwhile
                queue.hold(asked.reviewer, [one.name for one in part], now_ms)
            shown = await self._shown(part)
            names += [one.name for one, texts in zip(part, shown, strict=True) if texts is not None]
            found += [texts for texts in shown if texts is not None]
            if ended:
                break
        if asked.reviewer is not None:
            queue.keep(asked.reviewer, [*names, *asked.keep], now_ms)
        skipped = sum(one.name in asked.skip for one in queue.following(wanted, asked.reviewer, now_ms))
        counts = queue.count(wanted, asked.reviewer, now_ms)
        groups = sorted(counts.groups.items())[:MOST_GROUPS]
        return _json(
            {
                "items": [_item(name, one, texts=self._texts) for name, one in zip(names, found, strict=True)],
                "cursor": None if ended or last is None else f"{last[0]}-{last[1]}",
                "waiting": counts.waiting,
                "elsewhere": counts.elsewhere,
                "skipped": skipped,
                "overdue": counts.overdue,
                "left_out": queue.let_go,
                "groups": [{"pool": pool, "stratum": stratum, "waiting": n} for (pool, stratum), n in groups],
                "today": {
                    "done": queue.done_today(asked.pool, now_ms),
                    "wanted": sum(n for pool, n in self._a_day.items() if asked.pool in {None, pool}),
                },
                "texts": self._texts,
                "drawn": self._drawn,
                "at": to_rfc3339(now_ms),
            }
        )

    async def _say(self, request: web.Request, wanted: Wanted) -> web.Response:
        verdict = await _verdict(request)
        if not self._texts:
            raise Refused(403, "texts_are_off", "reviews.text is off, so nobody has seen this answer here")
        queue = self._log.queue
        one = queue.take(verdict.id, wanted)
        if one is None and queue.is_done(verdict.id):
            raise Refused(409, "already_answered", "somebody has answered this one already")
        if one is None:
            raise Refused(
                404, "not_waiting", f"{verdict.id}: waits no longer: its time is over, or another process took it"
            )
        try:
            await self._log.send(one.item.request_id.encode(), feedback_on(one.item, verdict.value, verdict.comment))
        except BaseException:  # the asker may have gone, too: whatever it was, the answer waits again
            queue.put_back(one)
            raise
        queue.finish(one.name)
        return _json({"id": one.name, "value": verdict.value}, 202)

    async def _shown(self, of: Sequence[Waiting]) -> list[Shown | None]:
        """With texts; what has none any more is dropped from the queue, and ``None`` here."""
        if not self._texts:
            return [Shown(one.item, "", "") for one in of]
        written = await self._log.fetch([one.at for one in of if one.at is not None])
        items = [one.item if one.at is None else item_in(written.get(one.at)) for one in of]
        there = [item for item in items if item is not None]
        texts = iter(with_texts(there, await self._log.fetch(places(there)), self._redact))
        following, found = next(texts, None), list[Shown | None]()
        for one, item in zip(of, items, strict=True):
            if following is not None and following.item is item:
                found.append(following)
                following = next(texts, None)
            else:
                self._log.queue.drop(one)
                found.append(None)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    reviewer: str | None
    limit: int
    keep: Sequence[str]
    skip: Sequence[str]
    pool: str | None
    stratum: str | None
    after: Position | None


def _asked(query: Mapping[str, str]) -> _Asked:
    """``Refused`` names the parameter."""
    reviewer, cursor = query.get("reviewer"), query.get("cursor")
    if reviewer is not None and _REVIEWER.fullmatch(reviewer) is None:
        raise _invalid("reviewer", "8 to 64 letters, digits, - and _ are wanted")
    after = _CURSOR.fullmatch(cursor) if cursor else None
    if cursor and after is None:
        raise _invalid("cursor", "not one that was given here")
    limit = query.get("limit", "1")
    if re.fullmatch(r"[0-9]{1,3}", limit) is None or int(limit) > MOST_ITEMS:
        raise _invalid("limit", f"a whole number from 0 to {MOST_ITEMS} is wanted")
    for name in ("pool", "stratum"):
        if len(query.get(name, "")) > 200:
            raise _invalid(name, "at most 200 characters")
    return _Asked(
        reviewer=reviewer,
        limit=int(limit),
        keep=_names(query, "keep", MOST_ITEMS),
        skip=_names(query, "skip", MOST_NAMES),
        pool=query.get("pool") or None,
        stratum=query.get("stratum") or None,
        after=None if after is None else (int(after[1]), after[2]),
    )


def _names(query: Mapping[str, str], parameter: str, most: int) -> list[str]:
    names = [one for one in query.get(parameter, "").split(",") if one]
    if len(names) > most or not all(map(_NAME.fullmatch, names)):
        raise _invalid(parameter, f"at most {most} ids, with commas between them, are wanted")
    return names


async def _verdict(request: web.Request) -> Verdict:
    if request.content_type != "application/json":  # what a foreign page may send without asking is none
        raise Refused(415, "invalid_request", "Content-Type: application/json is wanted")
    try:
        body = await body_of(request, MOST_BODY_BYTES)
    except BodyRefused as error:
        raise Refused(error.status, "invalid_request", str(error)) from None
    try:
        return decode(Verdict, body)
    except BadRecord as error:
        raise Refused(400, "invalid_request", str(error)) from None


def _may_see(key: Key | None) -> Wanted:
    if key is None or key.role == "admin":
        return Wanted()
    if key.role == "viewer":
        raise Refused(403, "forbidden", "a key of role operator or admin is needed: answers are shown here")
    return Wanted(tenant=key.tenant)


def _invalid(parameter: str, wanted: str) -> Refused:
    return Refused(400, "invalid_request", f"{parameter}: {wanted}")


def _item(name: str, one: Shown, *, texts: bool) -> dict[str, Any]:
    """What leaves of an item: nothing else."""
    written = (one.item.prompt, one.item.answer)
    cut = [
        len(text) > MOST_SHOWN or (text == whole and len(text) == MOST_TEXT)
        for text, whole in zip((one.prompt, one.answer), written, strict=True)
    ]
    return {
        "id": name,
        "pool": one.item.pool,
        "stratum": one.item.stratum,
        "due_at": one.item.due_at,
        "prompt": _writable(one.prompt[-MOST_SHOWN:]) if texts else None,
        "answer": _writable(one.answer[:MOST_SHOWN]) if texts else None,
        "cut": {"prompt": cut[0], "answer": cut[1]},
    }


def _writable(text: str) -> str:
    """Half a surrogate pair, which a redaction may leave, is no UTF-8."""
    return text.encode("utf-8", "replace").decode()


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        body=orjson.dumps(content),
        status=status,
        content_type="application/json",
        headers={**PRIVATE, **(headers or {})},
    )
