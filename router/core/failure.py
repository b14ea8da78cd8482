"""What kind of failure an attempt ended with: by it a pool's chains are chosen (``[pools.X.fallback]``).

| kind | status of the attempt, or its code |
|---|---|
| ``rate_limited`` | status ``rate_limited`` |
| ``timeout`` | status ``timeout``, whichever limit ended the call |
| ``refused`` | status ``refused``: a filter, or the model itself |
| ``context_length_exceeded`` | that code: the provider counts more tokens than fit |
| ``invalid_request`` | that code: the provider takes the request for wrong |
| ``error`` | all else: ``error`` and ``truncated`` |
"""

from __future__ import annotations

import re
from typing import Final, Literal

from router.contract.records import Status

Kind = Literal["error", "timeout", "rate_limited", "context_length_exceeded", "refused", "invalid_request"]

#: The endpoint has had enough, and the model has another one that is free.
ENDPOINT_RATE_LIMITED: Final = "endpoint_rate_limited"

#: The same model would fail the same way, another may not.
_ELSEWHERE: Final = frozenset(
    {
        "answer_too_large",
        "context_length_exceeded",
        "insufficient_quota",
        "invalid_request",
        "request_too_large",
        "unauthorized",
    }
)
#: Any answer of HTTP's 3xx and 4xx but those that say "later": 408 and 425; 429 is a status of its own.
_LASTING: Final = re.compile(r"http_(3\d\d|4(?!08|25)\d\d)")


def kind_of(status: Status | None, code: str | None) -> Kind:
    """The kind of an attempt that failed."""
    if status in {"rate_limited", "timeout", "refused"}:
        return status
    if code == "context_length_exceeded":
        return "context_length_exceeded"
    return "invalid_request" if code == "invalid_request" else "error"


def lasts(status: Status | None, code: str | None) -> bool:
    """Whether asking the same model again would be of no use."""
    return status == "refused" or code in _ELSEWHERE or _LASTING.fullmatch(code or "") is not None
