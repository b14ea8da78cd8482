"""Makes a decision again from its record and the snapshot it names, and compares byte by byte.

The record holds the facts, the snapshot everything else, and ``decide`` is pure: so the new record has the same bytes, or
something was changed - the record, the snapshot, or the way decisions are made. Each difference is listed by its field. A
refusal holds no facts: of that only the form is checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from router.contract.codec import decode, encode, from_rfc3339
from router.contract.errors import BadRecord
from router.contract.records import Decision
from router.core.audit import decision_record, facts_of, refusal_record
from router.core.decide import decide
from router.core.facts import Refusal
from router.core.snapshot import Snapshot, SnapshotError


class Verdict(StrEnum):
    """How a replay ended."""

    IDENTICAL = "identical"
    DIFFERENT = "different"
    REFUSAL = "refusal"


@dataclass(frozen=True, slots=True)
class Difference:
    """What is not the same: a field's path, what the record says, what comes out now."""

    path: str
    recorded: Any
    replayed: Any

    def __str__(self) -> str:
        return f"{self.path}: recorded {_short(self.recorded)}, replayed {_short(self.replayed)}"


@dataclass(frozen=True, slots=True)
class Replay:
    """``differences`` is empty unless the verdict is ``different``."""

    request_id: str | None
    attempt: int | None
    verdict: Verdict
    differences: tuple[Difference, ...] = ()


class Snapshots:
    """Stored snapshots by version; each is read once, however many decisions name it."""

    def __init__(self, stored: Mapping[str, bytes]) -> None:
        self._stored = stored
        self._read: dict[str, Snapshot] = {}

    def of(self, version: str | None) -> Snapshot:
        """``SnapshotError`` if it is missing, not canonical, or not of that version."""
        if version is None or version not in self._stored:
            raise SnapshotError("it is not stored")
        if version not in self._read:
            snapshot = Snapshot.from_canonical(self._stored[version])
            if snapshot.version != version:
                raise SnapshotError(f"its bytes are those of {snapshot.version}")
            self._read[version] = snapshot
        return self._read[version]


def replay(value: bytes, snapshots: Snapshots) -> Replay:
    """The record of one decision, decided again. Never raises, whatever the bytes."""
    try:
        decision = decode(Decision, value)
    except BadRecord as error:
        return Replay(None, None, Verdict.DIFFERENT, (Difference("record", str(error), None),))
    try:
        refused = decision.attempt == 0
        made = _refusal(decision) if refused else _again(decision, snapshots)
    except SnapshotError as error:
        found: tuple[Difference, ...] = (Difference("snapshot_version", decision.snapshot_version, str(error)),)
    except ValueError as error:
        found = (Difference("features", str(error), None),)
    else:
        if made == value:
            return Replay(decision.request_id, decision.attempt, Verdict.REFUSAL if refused else Verdict.IDENTICAL)
        found = tuple(_differences("", orjson.loads(value), orjson.loads(made)))
        found = found or (Difference("bytes", "the same values, written differently", None),)
    return Replay(decision.request_id, decision.attempt, Verdict.DIFFERENT, found)


def _refusal(decision: Decision) -> bytes:
    """A refusal as it is written: nothing but its error."""
    if decision.error is None:
        raise ValueError("a refusal without an error")
    record = refusal_record(
        Refusal(decision.error.code, decision.error.message, decision.error.retry_after_ms),
        request_id=decision.request_id,
        tenant=decision.tenant,
        at_ms=from_rfc3339(decision.at),
        lane=decision.lane,
        origin=decision.origin,
    )
    return encode(record)


def _again(decision: Decision, snapshots: Snapshots) -> bytes:
    snapshot = snapshots.of(decision.snapshot_version)
    facts = facts_of(decision)
    found = decide(facts, snapshot)
    if isinstance(found, Refusal):
        return encode({"error": {"code": found.code, "message": found.message}})
    record = decision_record(
        facts, found, snapshot_version=snapshot.version, lane=decision.lane, origin=decision.origin
    )
    return encode(record)


def _differences(path: str, recorded: Any, replayed: Any) -> Iterator[Difference]:
    if isinstance(recorded, dict) and isinstance(replayed, dict):
        for key in dict.fromkeys([*recorded, *replayed]):
            yield from _differences(f"{path}.{key}" if path else key, recorded.get(key), replayed.get(key))
    elif isinstance(recorded, list) and isinstance(replayed, list) and len(recorded) == len(replayed):
        for number, (one, other) in enumerate(zip(recorded, replayed, strict=True)):
            yield from _differences(f"{path}[{number}]", one, other)
    elif recorded != replayed or type(recorded) is not type(replayed):
        yield Difference(path, recorded, replayed)


def _short(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 60 else text[:57] + "..."
