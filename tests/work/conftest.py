"""Work records to make calls of."""

from __future__ import annotations

import pytest

from router.contract.records import Work


@pytest.fixture
def new_work():
    """``new_work(number, **changes)``: a valid work record; the number makes its id and its prompt."""

    def make(number: int = 1, **changes) -> Work:
        fields = {
            "request_id": f"{number:032x}",
            "attempt": 1,
            "model": "small",
            "provider_model": "small-2026",
            "url": "/v1/chat/completions",
            "body": {"model": "auto", "messages": [{"role": "user", "content": f"question {number}"}]},
            "deadline_at_ms": 2**41,
            "reason": "routed",
            "outcome_partition": 0,
            "slip": "slip",
        }
        return Work(**fields | changes)

    return make


@pytest.fixture
def work(new_work) -> Work:
    return new_work()
