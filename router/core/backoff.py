"""What follows a failed attempt: the retry policy, all of it.

| the last attempt | in a pool | a model named directly |
|---|---|---|
| refused | give up: content_refused; with a chain for it: fall back | give up |
| the request itself is wrong (``invalid_request``) | give up: provider_error; with a chain for it: fall back | give up |
| model withdrawn (``banned``, ``drained``) | fall back at once | give up: no_model_available |
| too long for the model | fall back at once to a larger window, else to an equal one | give up: context_length_exceeded |
| else of no use to repeat (``failure.lasts``) | fall back at once | give up |
| rate limited at one endpoint, another is free | retry at once, then as below | the same |
| rate limited | fall back at once; the last model left: as direct | retry after ``retry_after_ms`` |
| error, timeout, truncated | retry the model once after a backoff, then fall back | retry once after a backoff |

Falling back excludes every model that has had its chance, so there is no circle. A pool may have a chain for a kind of failure (``failure.kind_of``): then those
models alone are asked, in their order; else whom the policy chooses. Nothing is tried beyond ``max_attempts``, nor when the wait
would reach the deadline. An attempt on a model that was withdrawn was never made and does not count; there is at most one
a model, for what follows it is a fall back that excludes the model.

A retry takes from a budget (``core.further``), and so does falling back where all that is left is ``down``: an outage gets a share more of
traffic, not a multiple. Falling back to models that are well takes nothing: that is what they are there for.

A batch request has time: where it would end because the budget is empty, or because all that is left is ``down``, it waits instead, and the question is
asked again every ``WAIT_MS`` to twice that, until its deadline. So an outage pauses a job, and does not burn it through.

Backoff: exponential with jitter, ``BASE_MS * 2**failures`` up to ``MAX_MS``, of which a half is random ("equal
jitter", Brooker, AWS Architecture Blog, 2015), and never more than a quarter of the time left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Literal

from router.contract.errors import Code
from router.contract.records import Origin
from router.core.attempts import Try, failure_code
from router.core.failure import ENDPOINT_RATE_LIMITED, kind_of, lasts

BASE_MS = 200
MAX_MS = 10_000
WAIT_MS = 10_000


@dataclass(frozen=True, slots=True)
class Policy:
    """What may be tried for a request.

    ``max_attempts`` counts those that were made. ``models``: those of its pool; empty when it names a model directly. ``chains``: whom to ask after a
    failure, by its kind (``core.failure``), where the pool says it. ``windows``: context windows in tokens. ``hedges``: whether its requests are asked twice when they are slow,
    and ``hedge_to`` whom; ``None``: the same model.
    """

    max_attempts: int
    models: frozenset[str] = frozenset()
    chains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    windows: Mapping[str, int] = field(default_factory=dict)
    hedges: bool = False
    hedge_to: str | None = None


@dataclass(frozen=True, slots=True)
class Again:
    """One more attempt in ``delay_ms``; see ``core.records.Order`` for ``prefer``, ``exclude``, ``answer``, ``chain``.

    ``waits``: the attempt is not decided yet; ``next_step`` is to be asked again in ``delay_ms``.
    """

    reason: Literal["retry", "fallback", "escalate", "judge", "hedge"]
    delay_ms: int
    prefer: str | None
    exclude: tuple[str, ...]
    answer: Origin | None = None
    chain: tuple[str, ...] = ()
    waits: bool = False


def unlimited() -> bool:
    """A budget that never ends."""
    return True


def next_step(
    policy: Policy,
    tries: Sequence[Try],
    *,
    left_ms: int,
    jitter: float,
    take: Callable[[], bool] = unlimited,
    down: AbstractSet[str] = frozenset(),
    patient: bool = False,
) -> Again | Code:
    """What follows the last of ``tries``, which has failed: one more attempt, or the code to give up with.

    Args:
        policy: What the pool allows.
        tries: All attempts so far, in the order in which they ended; none of them is open.
        left_ms: Time until the deadline.
        jitter: Uniform in [0, 1).
        take: Asks the budget of further attempts for one; false: it has none.
        down: Models that are known to answer nothing.
        patient: Whether to wait for a budget, and for models that are down.
    """
    last = tries[-1]
    if (code := final_code(last, policy)) is not None:
        return code
    if made(tries) >= policy.max_attempts or left_ms <= 0:
        return failure_code(tries)
    untried, in_order = _untried(policy, last, tries)
    again = _retry(tries, left_ms, jitter) if _worth_repeating(last, tries, untried) else None
    if again is not None and not (patient and last.model in down) and take():
        return again
    if not untried or down >= set(untried):
        if patient and (untried or again is not None):
            wait_ms = int(WAIT_MS * (1 + jitter))
            return Again("retry", wait_ms, None, (), waits=True) if wait_ms < left_ms else failure_code(tries)
        if not untried or not take():
            return failure_code(tries)
    tried = tuple(sorted({each.model for each in tries}))
    return Again("fallback", 0, None, tried, chain=untried if in_order else ())


def escalate(to: str, tries: Sequence[Try]) -> Again:
    """Ask the model behind a cascade's first, at once; what was asked already is not asked again."""
    return Again("escalate", 0, to, tuple(sorted({each.model for each in tries} - {to})))


def ask_judge(judge: str, answer: Origin) -> Again:
    """Let a judge look at an answer, at once."""
    return Again("judge", 0, judge, (), answer)


def final_code(last: Try, policy: Policy) -> Code | None:
    """The code of a failure after which the pool asks nobody else, ``None`` for any other failure."""
    kind = kind_of(last.status, last.code)
    if kind not in {"refused", "invalid_request"} or policy.chains.get(kind):
        return None
    return Code.CONTENT_REFUSED if kind == "refused" else Code.PROVIDER_ERROR


def _untried(policy: Policy, last: Try, tries: Sequence[Try]) -> tuple[tuple[str, ...], bool]:
    """Who may be asked after this failure, and whether in this order."""
    tried = {each.model for each in tries}
    kind = kind_of(last.status, last.code)
    chain = None if last.withdrawn else policy.chains.get(kind)
    if chain is not None:
        return tuple(model for model in chain if model not in tried), True
    untried = sorted(policy.models - tried)
    if kind != "context_length_exceeded":
        return tuple(untried), False
    windows, too_small = policy.windows, policy.windows.get(last.model, 0)
    fitting = [model for model in untried if windows.get(model, 0) >= too_small]
    return tuple(sorted(fitting, key=lambda model: (windows.get(model, 0) == too_small, windows.get(model, 0)))), True


def _worth_repeating(last: Try, tries: Sequence[Try], untried: Sequence[str]) -> bool:
    """Whether the model that failed should be asked once more."""
    if last.withdrawn or lasts(last.status, last.code):
        return False
    is_first = _failures(tries, last.model) == 1
    if last.status == "rate_limited":
        return not untried or (is_first and last.code == ENDPOINT_RATE_LIMITED)
    return is_first


def _retry(tries: Sequence[Try], left_ms: int, jitter: float) -> Again | None:
    """``None`` when the provider asks for a wait that reaches the deadline."""
    last = tries[-1]
    delay_ms = max(backoff_ms(_failures(tries, last.model) - 1, left_ms, jitter), last.retry_after_ms)
    if last.code == ENDPOINT_RATE_LIMITED and _failures(tries, last.model) == 1:
        delay_ms = 0
    if delay_ms >= left_ms:
        return None
    return Again("retry", delay_ms, last.model, tuple(sorted({each.model for each in tries} - {last.model})))


def made(tries: Sequence[Try]) -> int:
    """Attempts that were made: by their numbers, for not all of them need be known."""
    return max(each.number for each in tries) - sum(each.withdrawn for each in tries)


def _failures(tries: Sequence[Try], model: str) -> int:
    return sum(each.model == model for each in tries)


def backoff_ms(failures: int, left_ms: int, jitter: float) -> int:
    """Wait before the next try, in ms: see the module's text. ``failures`` counts those before the last one."""
    whole_ms = min(MAX_MS, BASE_MS << min(failures, 16), left_ms // 4)
    return int(whole_ms * (1 + jitter) / 2)
