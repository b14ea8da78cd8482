"""What a person orders: standing orders are written to the control topic, and read back from it.

One order a scope and action (the record's key): a new one replaces the old, ``release`` writes it with ``active`` false.
"""

from __future__ import annotations

from dataclasses import replace

from router.contract.codec import decode_control, encode, to_rfc3339
from router.contract.errors import BadRecord, ConfigError
from router.contract.orders import OURS, ROLLOUT, within
from router.contract.records import Action, Control
from router.kafka.client import Client
from router.kafka.put import Said, put
from router.kafka.scan import scan


def order(
    scope: str,
    action: Action,
    args: dict[str, object],
    *,
    by: str,
    reason: str,
    now_ms: int,
    for_s: float | None = None,
) -> Control:
    """A standing order, checked by the contract's own rules.

    Raises:
        ConfigError: what is wrong with it.
    """
    _person(by)
    made = Control(
        scope=scope,
        action=action,
        args=args,
        active=True,
        by=by,
        reason=reason,
        at=to_rfc3339(now_ms),
        expires_at=to_rfc3339(now_ms + int(for_s * 1000)) if for_s else None,
    )
    try:
        return decode_control(encode(made))
    except BadRecord as error:
        raise ConfigError(f"{action} {scope}: {error}") from None


def release(
    standing: list[Control], scope: str, action: str | None, *, by: str, reason: str, now_ms: int
) -> list[Control]:
    """The orders of a scope, taken back; of one action if it is given.

    Raises:
        ConfigError: ``by`` is no person.
    """
    _person(by)
    at = to_rfc3339(now_ms)
    return [
        replace(one, active=False, by=by, reason=reason, at=at, expires_at=None)
        for one in standing
        if one.scope == scope and action in (None, one.action)
    ]


def _person(by: str) -> None:
    """Orders of the product itself are told from a person's by their author."""
    if by.startswith(OURS):
        raise ConfigError(f"--by {by!r}: that is how orders of the product itself are signed; give a person's name")


def overruled(standing: list[Control], made: Control, now_ms: int) -> list[Control]:
    """Narrower orders of a rollout's own that a person's share for a wider scope takes back; else those would go before it."""
    if made.action != "rollout":
        return []
    at = to_rfc3339(now_ms)
    return [
        replace(one, active=False, at=at)
        for one in standing
        if one.by == ROLLOUT and one.scope != made.scope and within(one.scope, made.scope)
    ]


async def send(client: Client, topic: str, orders: list[Control]) -> None:
    """Write them; returns when the cluster has them."""
    await put(client, topic, [Said(f"{one.scope}/{one.action}".encode(), encode(one)) for one in orders])


async def standing(client: Client, topic: str) -> list[Control]:
    """The orders in force, or expired and not yet released, by scope and action."""
    found: dict[bytes | None, Control] = {}
    async for record in scan(client, [topic]):
        found.pop(record.key, None)
        if record.value is not None:
            _note(found, record.key, record.value)
    return [found[key] for key in sorted(found, key=lambda key: key or b"")]


def _note(found: dict[bytes | None, Control], key: bytes | None, value: bytes) -> None:
    """Keep an active order; what is no order went to the dead letter."""
    try:
        one = decode_control(value)
    except BadRecord:
        return
    if one.active:
        found[key] = one
