"""The attempts of one request as settle knows them, and what their failures say together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from router.contract.errors import Code
from router.contract.records import Origin, Outcome, Reason, Status
from router.contract.values import value
from router.core.cascade import Trial

#: Error codes of a model that takes no work at present by order of a person: no failure of the provider.
WITHDRAWN = frozenset({"banned", "drained"})


@value(frozen=True, slots=True)
class Charge:
    """What one outcome costs; ``cost_nano_usd`` is ``None`` where no price is known.

    ``instead``: what the baseline would have cost, of an answer on trial.
    """

    cost_nano_usd: int | None
    price_version: str | None = None
    instead: int | None = None


@value(frozen=True, slots=True, kw_only=True)
class Try:
    """One attempt of the winning origin. ``status`` is ``None`` while it is open; the rest is known only after.

    ``trial``: of an answer that was checked, with ``confidence``, or refused. ``place``: where the outcome lies, of an answer that may be
    looked at again.
    """

    number: int
    model: str
    reason: Reason
    status: Status | None = None
    code: str | None = None
    retry_after_ms: int = 0
    endpoint: str | None = None
    served_model: str | None = None
    latency_ms: int | None = None
    charge: Charge | None = None
    confidence: float | None = None
    trial: Trial | None = None
    place: Origin | None = None

    @property
    def withdrawn(self) -> bool:
        return self.status == "error" and self.code in WITHDRAWN

    def as_record(self) -> dict[str, Any]:
        """As a result tells it (``contract.records.Attempt``): still open means ``timeout`` and no cost."""
        return {
            "attempt": self.number,
            "model": self.model,
            "endpoint": self.endpoint,
            "served_model": self.served_model,
            "status": self.status or "timeout",
            "reason": self.reason,
            "latency_ms": self.latency_ms,
            "cost_nano_usd": self.charge.cost_nano_usd if self.charge else None,
            "price_version": self.charge.price_version if self.charge else None,
            "confidence": self.confidence,
        }


def ended(
    outcome: Outcome, reason: Reason, charge: Charge, trial: Trial | None = None, place: Origin | None = None
) -> Try:
    """The attempt that this outcome ends; ``trial`` as its slip has it."""
    error = outcome.error
    return Try(
        number=outcome.attempt,
        model=outcome.model,
        reason=reason,
        status=outcome.status,
        code=error.code if error else None,
        retry_after_ms=(error.retry_after_ms or 0) if error else 0,
        endpoint=outcome.endpoint,
        served_model=outcome.served_model,
        latency_ms=outcome.latency_ms,
        charge=charge,
        confidence=outcome.confidence,
        trial=trial if outcome.status in {"ok", "refused"} else None,
        place=place if outcome.status == "ok" else None,
    )


def failure_code(tries: Iterable[Try]) -> Code:
    """What failed attempts amount to when nothing is left to try.

    ``content_refused`` if one was refused, ``no_model_available`` if every model was withdrawn, ``rate_limited`` if
    what was not withdrawn was rate limited, ``context_length_exceeded`` if it was too long for each, else ``provider_error``.
    """
    served = [each for each in tries if each.status is not None and not each.withdrawn]
    if any(each.status == "refused" for each in served):
        return Code.CONTENT_REFUSED
    if not served:
        return Code.NO_MODEL_AVAILABLE
    if all(each.status == "rate_limited" for each in served):
        return Code.RATE_LIMITED
    if all(each.code == Code.CONTEXT_LENGTH_EXCEEDED for each in served):
        return Code.CONTEXT_LENGTH_EXCEEDED
    return Code.PROVIDER_ERROR


def describe(tries: Iterable[Try]) -> str:
    """For a person: ``1 small error (http_503), 2 mid open``."""
    return ", ".join(
        f"{each.number} {each.model} {each.status or 'open'}" + (f" ({each.code})" if each.code else "")
        for each in tries
    )


def total_cost_nano_usd(tries: Iterable[Try]) -> int | None:
    """Sum over the attempts that ended; ``None`` if one of them has no known price. An open one adds nothing."""
    total = 0
    for each in tries:
        if each.charge is not None:
            if each.charge.cost_nano_usd is None:
                return None
            total += each.charge.cost_nano_usd
    return total
