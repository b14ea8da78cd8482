"""What an audit keeps of each record, topic by topic, and the prices it counts with.

Written from the contract alone: nothing here is shared with the stages whose sums it checks. Values are trusted to be
JSON objects where only our stages write; in topics that anyone writes, what cannot be read is left to the dead letter.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from router.contract.codec import BadRequest, decode_request, from_rfc3339
from router.contract.records import DEFAULT_DEADLINE_MS
from router.contract.topics import Names

Place = tuple[str, int, int]
"""Topic, partition, offset."""
Pair = tuple[str, int, str]
"""Request id, attempt, model: what makes an outcome unique."""


class Stored(Protocol):
    """A record as it lies in its topic."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def value(self) -> bytes | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPrice:
    """One line of the price list, in whole nano-dollars a token. ``cached`` and ``written`` default to ``prompt``."""

    prompt: int
    completion: int
    cached: int | None = None
    written: int | None = None

    def cost_nano_usd(self, usage: Mapping[str, Any]) -> int:
        """Tokens x price; cached and written tokens are part of the prompt and never exceed it."""
        tokens = {name: min(max(0, int(usage.get(name) or 0)), 10**9) for name in _TOKENS}
        cached = min(tokens["cached_tokens"], tokens["prompt_tokens"])
        written = min(tokens["cache_write_tokens"], tokens["prompt_tokens"] - cached)
        return (
            (tokens["prompt_tokens"] - cached - written) * self.prompt
            + cached * (self.prompt if self.cached is None else self.cached)
            + written * (self.prompt if self.written is None else self.written)
            + tokens["completion_tokens"] * self.completion
        )


_TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One outcome record; ``cost_nano_usd`` is ``None`` for a model without a price."""

    pair: Pair
    slip: str
    place: Place
    cost_nano_usd: int | None
    tokens: tuple[int, int, int]
    """Prompt, completion, cached."""


@dataclass(slots=True)
class Ledger:
    """All that was read. ``prices``: the price list by model; a model that is not in it has no known price."""

    names: Names
    prices: Mapping[str, ListPrice]
    due_ms: dict[str, int] = field(default_factory=dict)
    """Request id -> deadline of its first request record."""
    requests: set[Place] = field(default_factory=set)
    """Where a request record lies, of whatever kind."""
    begins: dict[tuple[str, int], int] = field(default_factory=dict)
    """First offset that is still there of a topic's partition; 0 where none is named."""
    results: defaultdict[str, list[tuple[int, dict[str, Any]]]] = field(default_factory=lambda: defaultdict(list))
    """Request id -> (record time, result without its body)."""
    outcomes: list[Outcome] = field(default_factory=list)
    decisions: list[tuple[Pair, str, Place, int]] = field(default_factory=list)
    """(request id, attempt, model), reason, origin, record time."""
    windows: list[dict[str, Any]] = field(default_factory=list)
    usage: list[tuple[Pair, int | None]] = field(default_factory=list)
    rewards: list[tuple[str, str, str]] = field(default_factory=list)
    """Request id, kind, source."""
    letters: list[tuple[Place, str, str]] = field(default_factory=list)
    """Place of the rejected record, stage, reason."""
    bans: list[tuple[int, str, bool, int | None]] = field(default_factory=list)
    """Record time, model, active, expiry."""

    def topics(self) -> dict[str, Callable[[Any], None]]:
        """Full topic name -> what takes its records, each partition's in order; any order between topics."""
        of = self.names.of
        return {
            of("requests"): self._request,
            of("requests.batch"): self._request,
            of("outcomes"): self._outcome,
            of("results"): self._result,
            of("decisions"): self._decision,
            of("metrics"): lambda record: self.windows.append(json.loads(record.value)),
            of("usage"): self._usage,
            of("rewards"): self._reward,
            of("dead-letter"): self._letter,
            of("control"): self._control,
        }

    def _request(self, record: Stored) -> None:
        """Only requests that a result can be made for count; the others have a dead letter alone."""
        self.requests.add(_place(record))
        lane = "batch" if record.topic == self.names.of("requests.batch") else "interactive"
        try:
            parsed = decode_request(record.value)
        except BadRequest as error:
            if error.request_id is not None:
                self.due_ms.setdefault(error.request_id, record.timestamp)
            return
        deadline_ms = parsed.request.router.deadline_ms or DEFAULT_DEADLINE_MS[lane]
        self.due_ms.setdefault(parsed.request_id, record.timestamp + deadline_ms)

    def _outcome(self, record: Stored) -> None:
        try:
            found = json.loads(record.value or b"")
            pair = (found["request_id"], found["attempt"], found["model"])
            usage = found.get("usage") or {}
            price = self.prices.get(found["model"])
            cost_nano_usd = None if price is None else price.cost_nano_usd(usage)
            tokens = (
                int(usage.get("prompt_tokens") or 0),
                int(usage.get("completion_tokens") or 0),
                int(usage.get("cached_tokens") or 0),
            )
            slip = str(found["slip"])
        except (ValueError, TypeError, KeyError, AttributeError):
            return
        self.outcomes.append(Outcome(pair, slip, _place(record), cost_nano_usd, tokens))

    def _result(self, record: Stored) -> None:
        found = json.loads(record.value or b"")
        if found["response"] is not None:
            found["response"] = {}
        self.results[found["id"]].append((record.timestamp, found))

    def _decision(self, record: Stored) -> None:
        found = json.loads(record.value or b"")
        origin = found["origin"]
        place = (origin["topic"], origin["partition"], origin["offset"])
        pair = (found["request_id"], found["attempt"], found.get("model") or "")
        reason = found.get("reason") or ""
        if reason == "judge" and found.get("shadow_of") is not None:
            reason = "judge of a pair"  # no part of a cascade
        self.decisions.append((pair, reason, place, record.timestamp))

    def _usage(self, record: Stored) -> None:
        found = json.loads(record.value or b"")
        pair = (found["request_id"], found["attempt"], found["model"])
        self.usage.append((pair, found["cost_nano_usd"]))

    def _reward(self, record: Stored) -> None:
        found = json.loads(record.value or b"")
        self.rewards.append((found["request_id"], found["kind"], found["source"]))

    def _letter(self, record: Stored) -> None:
        found = json.loads(record.value or b"")
        place = (found["topic"], found["partition"], found["offset"])
        self.letters.append((place, found["stage"], found["reason"]["code"]))

    def _control(self, record: Stored) -> None:
        try:
            found = json.loads(record.value or b"")
            scope, expires_at = found["scope"], found.get("expires_at")
            if found["action"] in {"ban", "drain"} and scope.startswith("model:"):
                expires_ms = None if expires_at is None else from_rfc3339(expires_at)
                model = scope.removeprefix("model:")
                self.bans.append((record.timestamp, f"{found['action']} {model}", bool(found["active"]), expires_ms))
        except (ValueError, TypeError, KeyError, AttributeError):
            return


def _place(record: Stored) -> Place:
    return record.topic, record.partition, record.offset
