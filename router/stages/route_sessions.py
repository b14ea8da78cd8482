"""What a lane of route remembers from one request to the next.

Sessions' assignments, budgets, tenants' leases, prompts to be counted, what is out in the shadow, what comes in a day, whom it asks: in its table. Ids read lately and what requests look like: in
memory only.

A session's row has the key ``s`` + 16 bytes and holds when it expires, its assignment, and what the provider of the model that
answered last has in its cache. Each request of the session moves all three; the row is written again only when the expiry, or the
cache's, moved by an eighth of its life, or the cached prompt grew by an eighth: a lively session costs few changelog records, and
one may be forgotten that much early.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple, Protocol

import orjson
import xxhash

from router.config import Config
from router.contract.releases import by_name
from router.core.facts import CACHED_FROM_TOKENS, Assignment, Choice, RequestFacts, Warm
from router.kafka.unit import UnitLike
from router.stages.due import Due
from router.stages.route_budgets import Budgets
from router.stages.route_counts import Counts
from router.stages.route_intake import Asked
from router.stages.route_leases import Leases
from router.stages.route_paces import Paces
from router.stages.route_profiles import Profiles
from router.stages.route_shadows import Shadows
from router.stages.route_shares import Wanting
from router.stages.route_surveys import Surveys
from router.stages.snapshot import cache_ttl_ms

SESSION = b"s"
#: Sessions a partition; beyond it the one that expires soonest is forgotten.
MAX_SESSIONS = 250_000

#: Ids read lately, a partition: some 2 MiB. Most duplicates follow at once.
MAX_RECENT = 10_000


class Session(NamedTuple):
    """``assignment`` in pools whose sessions stick."""

    assignment: Assignment | None = None
    warm: Warm | None = None


NO_SESSION = Session()


class Items(Protocol):
    """What an index is built from."""

    def items(self) -> Iterable[tuple[bytes, bytes]]: ...


class Lane:
    """``unit.index`` of route: made anew whenever a partition is taken over.

    ``snapshot_version``, ``snapshot_ms``: the last one written to the log, and when.
    """

    def __init__(self, rows: Items) -> None:
        kept = list(rows.items())
        self._expires: dict[bytes, int] = {key: orjson.loads(value)[0] for key, value in kept if key[:1] == SESSION}
        self.budgets = Budgets(kept)
        self.shadows = Shadows(kept)
        self.paces = Paces(kept)
        self.surveys = Surveys(kept)
        self.leases = Leases(kept)
        self.counts = Counts(kept)
        self.profiles = Profiles()
        self.wanting = Wanting()
        self._due = Due(self._expires.get, self._expires)
        self.recent = RecentIds()
        self.snapshot_version = ""
        self.snapshot_ms = 0

    def session(self, unit: UnitLike, key: bytes) -> Session:
        """What is known of a session, if it is not too long ago."""
        if self._expires.get(key, 0) <= unit.now_ms:
            return NO_SESSION
        value = unit.get(key)
        if value is None:
            return NO_SESSION
        _, assignment, *rest = orjson.loads(value)
        warm = rest[0] if rest else None
        return Session(assignment and by_name(Assignment, assignment), warm and by_name(Warm, warm))

    def keep(self, unit: UnitLike, key: bytes, session: Session, *, ttl_ms: int, changed: bool) -> None:
        """Remember a session for ``ttl_ms`` from now."""
        expires_ms = unit.now_ms + ttl_ms
        if not changed and expires_ms - self._expires.get(key, 0) < ttl_ms // 8:
            return
        if key not in self._expires and len(self._expires) >= MAX_SESSIONS and (soonest := self._due.first()):
            self._forget(unit, soonest[1])
        self._expires[key] = expires_ms
        self._due.push(expires_ms, key)
        unit.put(key, orjson.dumps([expires_ms, session.assignment, session.warm]))

    def expire(self, unit: UnitLike, most: int) -> None:
        """Forget up to ``most`` sessions that have been idle for too long."""
        for key in list(self._due.pop_until(unit.now_ms, most)):
            self._forget(unit, key)

    def __len__(self) -> int:
        return len(self._expires)

    def _forget(self, unit: UnitLike, key: bytes) -> None:
        if self._expires.pop(key, None) is not None:
            unit.put(key, None)


class RecentIds:
    """Request ids read lately in this partition: a duplicate among them is dropped without asking settle.

    Only a saving: what was forgotten, or lies elsewhere, meets its original in settle. Safe because a lane's memory ends
    with it: an id is here only if its decision was committed, or will be with this turn.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[str, int] = OrderedDict()

    def add(self, request_id: str, now_ms: int, window_ms: int) -> bool:
        """Whether the id is new, or was seen no less than ``window_ms`` ago."""
        seen = self._seen
        seen_ms = seen.get(request_id)
        if seen_ms is not None and now_ms - seen_ms < window_ms:
            return False
        seen[request_id] = now_ms
        seen.move_to_end(request_id)
        while len(seen) > MAX_RECENT or now_ms - seen[next(iter(seen))] >= window_ms > 0:
            seen.popitem(last=False)
        return True

    def __len__(self) -> int:
        return len(self._seen)


class Sessions:
    """The stage's side: which attempts belong to a session that matters, and what is kept of one that was decided."""

    def __init__(self, config: Config) -> None:
        self._sticky = frozenset(name for name, pool in config.pools.items() if pool.sticky == "session")
        self._cache_ttl_ms = {name: cache_ttl_ms(model) for name, model in config.models.items()}
        self._ttl_ms = {
            name: pool.session_ttl_s * 1000
            for name, pool in config.pools.items()
            if name in self._sticky or any(self._cache_ttl_ms[model] for model in pool.models)
        }

    def key(self, asked: Asked) -> bytes | None:
        """Key of the session's row, for a first attempt in a pool whose sessions matter."""
        options = asked.parsed.request.router
        if asked.order is not None or not options.session or asked.parsed.model not in self._ttl_ms:
            return None
        return session_key(options.tenant, asked.parsed.model, options.session)

    def keep(self, key: bytes, facts: RequestFacts, choice: Choice, unit: UnitLike) -> None:
        """Remember what the session's next request is to find."""
        assert choice.pool is not None
        assert choice.stratum is not None
        assignment = facts.assignment
        changed = assignment is None or choice.session_broke is not None
        if choice.pool not in self._sticky:
            assignment, changed = None, False
        elif assignment is None or changed:
            assignment = Assignment(
                model=choice.model,
                stratum=choice.stratum,
                cohort=choice.cohort,
                weights=choice.weights,
                policy_version=choice.policy_version,
            )
        cached_for_ms = self._cache_ttl_ms[choice.model]
        warm = warmed(facts.warm, choice.model, facts.prompt_tokens, unit.now_ms, cached_for_ms)
        changed = changed or warm is not facts.warm
        if assignment is not None or warm is not None or changed:
            kept = Session(assignment, warm)
            unit.index.keep(unit, key, kept, ttl_ms=self._ttl_ms[choice.pool], changed=changed)


def session_key(tenant: str, pool: str, session: str) -> bytes:
    """Key of a session's row."""
    return SESSION + xxhash.xxh3_128_digest(f"{tenant}\0{pool}\0{session}".encode("utf-8", "surrogatepass"))


def warmed(before: Warm | None, model: str, tokens: int, now_ms: int, ttl_ms: int) -> Warm | None:
    """What a provider has in its cache after a prompt for ``model``: ``before`` itself as long as that is nearly the same."""
    if ttl_ms <= 0 or tokens < CACHED_FROM_TOKENS:
        return None
    if (
        before is not None
        and before.model == model
        and now_ms - before.at_ms < ttl_ms // 8
        and abs(tokens - before.tokens) <= before.tokens // 8
    ):
        return before
    return Warm(model=model, tokens=tokens, at_ms=now_ms)
