"""What follows a failed attempt: the retry policy, all of it.

| the last attempt | in a pool | a model named directly |
|---|---|---|
| refused | give up: content_refused | the same |
| the request itself is wrong (``invalid_request``) | give up: provider_error | the same |
| model withdrawn (``banned``, ``drained``) | fall back at once | give up: no_model_available |
| of no use to repeat (``answer_too_large``, ...) | fall back at once | give up |
| rate limited | fall back at once; the last model left: as direct | retry after ``retry_after_ms`` |
| error, timeout, truncated | retry the model once after a backoff, then fall back | retry once after a backoff |

Falling back excludes every model that has had its chance. Nothing is tried beyond ``max_attempts``, nor when the wait
would reach the deadline. An attempt on a model that was withdrawn was never made and does not count; there is at most one
a model, for what follows it is a fall back that excludes the model.

Backoff: exponential with jitter, ``BASE_MS * 2**failures`` up to ``MAX_MS``, of which a half is random ("equal
jitter", Brooker, AWS Architecture Blog, 2015), and never more than a quarter of the time left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from router.contract.errors import Code
from router.contract.records import Origin
from router.core.attempts import Try, failure_code

BASE_MS = 200
MAX_MS = 10_000

#: The provider turned the request itself down: no other model will take it.
_WRONG = frozenset({"invalid_request"})
#: The same model would fail the same way, another may not.
_ELSEWHERE = frozenset({"answer_too_large", "context_length_exceeded", "unauthorized"})


@dataclass(frozen=True, slots=True)
class Policy:
    """What may be tried for a request.

    ``max_attempts`` counts those that were made. ``models``: those of its pool; empty when it names a model directly.
    """

    max_attempts: int
    models: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Again:
    """One more attempt in ``delay_ms``; see ``core.records.Order`` for ``prefer``, ``exclude``, ``answer``."""

    reason: Literal["retry", "fallback", "escalate", "judge"]
    delay_ms: int
    prefer: str | None
    exclude: tuple[str, ...]
    answer: Origin | None = None


def next_step(policy: Policy, tries: Sequence[Try], *, left_ms: int, jitter: float) -> Again | Code:
    """What follows the last of ``tries``, which has failed: one more attempt, or the code to give up with.

    Args:
        policy: What the pool allows.
        tries: All attempts so far, in the order in which they ended; none of them is open.
        left_ms: Time until the deadline.
        jitter: Uniform in [0, 1).
    """
    last = tries[-1]
    if (code := final_code(last)) is not None:
        return code
    if _made(tries) >= policy.max_attempts or left_ms <= 0:
        return failure_code(tries)
    worth_repeating = not last.withdrawn and last.code not in _ELSEWHERE
    untried = policy.models - {each.model for each in tries}
    if worth_repeating and (not untried if last.status == "rate_limited" else _failures(tries, last.model) == 1):
        return _retry(tries, left_ms, jitter) or _fall_back(tries, untried)
    return _fall_back(tries, untried)


def escalate(to: str, tries: Sequence[Try]) -> Again:
    """Ask the model behind a cascade's first, at once; what was asked already is not asked again."""
    return Again("escalate", 0, to, tuple(sorted({each.model for each in tries} - {to})))


def ask_judge(judge: str, answer: Origin) -> Again:
    """Let a judge look at an answer, at once."""
    return Again("judge", 0, judge, (), answer)


def final_code(last: Try) -> Code | None:
    """The code of a failure after which no other attempt makes sense, ``None`` for any other failure."""
    if last.status == "refused":
        return Code.CONTENT_REFUSED
    return Code.PROVIDER_ERROR if last.code in _WRONG else None


def _retry(tries: Sequence[Try], left_ms: int, jitter: float) -> Again | None:
    """``None`` when the provider asks for a wait that reaches the deadline."""
    last = tries[-1]
    delay_ms = max(backoff_ms(_failures(tries, last.model) - 1, left_ms, jitter), last.retry_after_ms)
    if delay_ms >= left_ms:
        return None
    return Again("retry", delay_ms, last.model, tuple(sorted({each.model for each in tries} - {last.model})))


def _fall_back(tries: Sequence[Try], untried: frozenset[str]) -> Again | Code:
    if not untried:
        return failure_code(tries)
    return Again("fallback", 0, None, tuple(sorted({each.model for each in tries})))


def _made(tries: Sequence[Try]) -> int:
    """Attempts that were made: by their numbers, for not all of them need be known."""
    return max(each.number for each in tries) - sum(each.withdrawn for each in tries)


def _failures(tries: Sequence[Try], model: str) -> int:
    return sum(each.model == model for each in tries)


def backoff_ms(failures: int, left_ms: int, jitter: float) -> int:
    """Wait before the next try, in ms: see the module's text. ``failures`` counts those before the last one."""
    whole_ms = min(MAX_MS, BASE_MS << min(failures, 16), left_ms // 4)
    return int(whole_ms * (1 + jitter) / 2)
