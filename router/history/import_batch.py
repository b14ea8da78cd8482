"""OpenAI batch files: requests and answers, joined by ``custom_id`` in whatever order and files they come.

A request is ``{"custom_id", "url", "body"}``, an answer ``{"custom_id", "response", "error"}``; pointsman's own results are answers
that also have ``router``. What waits for its other half waits on disk (an unnamed temporary SQLite database, 64 MiB of it in memory):
of an answer some numbers, of a request what is kept of its body. Fastest where answers come first, which ``import_read`` sees to.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any, Self

import orjson
import xxhash

from router.contract.faults import shown
from router.contract.ids import DEFAULT_TENANT
from router.contract.records import MAX_INT, Usage
from router.contract.times import MAX_MS
from router.history.import_calls import (
    MAX_ID_CHARACTERS,
    MAX_MODEL_CHARACTERS,
    Call,
    Scores,
    body_of,
    section,
    text_of,
    usage_of,
)
from router.history.import_lines import Fault, Place, Unusable

SOURCE = "openai"
_ASKED, _ANSWERED, _ROW = b"q", b"a", b"r"
_URLS = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
_CACHE_KIB = 65_536


def is_answer(found: Mapping[str, Any]) -> bool:
    """Whether a line looks like one."""
    return "custom_id" in found and ("response" in found or "error" in found)


def is_request(found: Mapping[str, Any]) -> bool:
    """Whether a line looks like one."""
    return "custom_id" in found and "body" in found


class Store:
    """What was seen, and what waits, on disk."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        for setting in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}"):
            self._db.execute(f"PRAGMA {setting}")
        self._db.execute("CREATE TABLE seen (key BLOB PRIMARY KEY, file INT, line INT) WITHOUT ROWID")
        self._db.execute("CREATE TABLE waits (key BLOB PRIMARY KEY, asked INT, file INT, line INT, value BLOB)")
        self._db.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._db.close()

    def first(self, kind: bytes, name: str, place: Place) -> Place | None:
        """Where this name was before; ``None``: now for the first time."""
        key = _key(kind, name)
        if self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", (key, *place)).rowcount:
            return None
        return Place(*self._db.execute("SELECT file, line FROM seen WHERE key = ?", (key,)).fetchone())

    def first_row(self, name: str, place: Place) -> Place | None:
        """The same of the names of rows."""
        return self.first(_ROW, name, place)

    def put(self, name: str, place: Place, value: Mapping[str, Any], *, asked: bool) -> None:
        self._db.execute(
            "INSERT INTO waits VALUES (?, ?, ?, ?, ?)", (_key(b"", name), asked, *place, orjson.dumps(value))
        )

    def take(self, name: str) -> tuple[Place, dict[str, Any]] | None:
        """What waits under this name, which no longer does."""
        key = _key(b"", name)
        found = self._db.execute("SELECT file, line, value FROM waits WHERE key = ?", (key,)).fetchone()
        if found is None:
            return None
        self._db.execute("DELETE FROM waits WHERE key = ?", (key,))
        return Place(*found[:2]), orjson.loads(found[2])

    def rest(self) -> Iterator[tuple[bool, Place, dict[str, Any]]]:
        """What still waits, by place, and whether it is a request."""
        for asked, file, line, value in self._db.execute(
            "SELECT asked, file, line, value FROM waits ORDER BY file, line"
        ):
            yield bool(asked), Place(file, line), orjson.loads(value)


class Join:
    """Requests and answers into calls."""

    def __init__(self, store: Store, scores: Scores, files: list[str]) -> None:
        self._store, self._scores, self._files = store, scores, files

    def add(self, found: Mapping[str, Any], place: Place) -> Call | None:
        """The call that this line completes, if it does. Raises ``Unusable``."""
        asked = not is_answer(found)
        name = _name(found)
        half = self._asked(found) if asked else self._answered(found)
        half["id"] = name
        before = self._store.first(_ASKED if asked else _ANSWERED, name, place)
        if before is not None:
            raise Unusable(Fault.TWICE, f"custom_id, also in {self._files[before.file]}:{before.line}")
        other = self._store.take(name)
        if other is None:
            self._store.put(name, place, half, asked=asked)
            return None
        request, answer = (half, other[1]) if asked else (other[1], half)
        return _call(place if asked else other[0], request, answer)

    def rest(self) -> Iterator[Call]:
        """Requests without answers and answers without requests."""
        for asked, place, half in self._store.rest():
            yield _call(place, half if asked else {}, {} if asked else half)

    def _asked(self, found: Mapping[str, Any]) -> dict[str, Any]:
        url = found.get("url", _URLS[0])
        if url not in _URLS:
            raise Unusable(Fault.OTHER_CALL, f"url {shown(url)}")
        quality, faults = self._scores.of(found)
        return {"body": body_of(section(found, "body")), "quality": quality, "faults": faults}

    def _answered(self, found: Mapping[str, Any]) -> dict[str, Any]:
        response, router = section(found, "response"), section(found, "router")
        status = response.get("status_code", 200)
        if found.get("error") or not response or status != 200:
            raise Unusable(Fault.FAILED, f"status_code {shown(status)}" if status != 200 else "error is set")
        body = section(response, "body")
        if body.get("object") == "list" or "data" in body:
            raise Unusable(Fault.OTHER_CALL, "an answer with a list of data, as embeddings have")
        model = router.get("model") or body.get("model")
        usage = usage_of(section(body, "usage"), "counts of response.body.usage")
        quality, faults = self._scores.of(found)
        return {
            "model": text_of(model, Fault.BAD_MODEL, "response.body.model", MAX_MODEL_CHARACTERS),
            "usage": usage,
            "cost": _nano(router.get("cost_nano_usd")),
            "quality": quality,
            "faults": faults,
            "at": _seconds(body.get("created", body.get("created_at"))),
        }


def _call(place: Place, request: Mapping[str, Any], answer: Mapping[str, Any]) -> Call:
    """``request`` or ``answer`` is empty where it is missing."""
    quality = answer.get("quality")
    usage = answer.get("usage")
    faults = [(Fault(fault), detail) for half in (request, answer) for fault, detail in half.get("faults", ())]
    if not (request and answer):
        faults.append((Fault.NO_ANSWER if request else Fault.NO_REQUEST, ""))
    return Call(
        id=request.get("id") or answer["id"],
        place=place,
        source=SOURCE,
        model=answer.get("model", ""),
        body=request.get("body"),
        usage=Usage(**usage) if isinstance(usage, dict) else usage,
        cost_nano_usd=answer.get("cost"),
        quality=request.get("quality") if quality is None else quality,
        at_ms=answer.get("at"),
        faults=tuple(faults),
    )


def _name(found: Mapping[str, Any]) -> str:
    """``custom_id``, or, of a tenant of pointsman's, both."""
    name = text_of(found.get("custom_id"), Fault.BAD_ID, "custom_id", MAX_ID_CHARACTERS)
    tenant = section(found, "router").get("tenant", DEFAULT_TENANT)
    return name if tenant == DEFAULT_TENANT or not isinstance(tenant, str) else f"{tenant[:128]}/{name}"


def _key(kind: bytes, name: str) -> bytes:
    return kind + xxhash.xxh3_128_digest(name.encode("utf-8", "surrogatepass"))


def _nano(value: Any) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= MAX_INT:
        raise Unusable(Fault.BAD_COST, "router.cost_nano_usd is no count of nano-dollars")
    return value


def _seconds(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MAX_MS / 1000:
        return None
    return int(value * 1000)
