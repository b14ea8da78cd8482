"""core/saturation: when a model has a queue, and that open calls alone are none."""

from __future__ import annotations

import pytest

from router.core.backlog import Backlog, Queue
from router.core.evidence import Evidence
from router.core.saturation import PROOF_MS, saturation

T0 = 1_750_000_000_000


def ended(per_s, seconds=10, call_ms=400):
    window = []
    for back in range(1, seconds + 1):
        one = Evidence(T0 // 1000 - back)
        for _ in range(per_s):
            one.add("ok", None, at_ms=T0 - 1000 * back, latency_ms=call_ms, cost_nano_usd=1)
        window.append(one)
    return window


def waiting(open_, age_ms, batch=0, behind=0, behind_age_ms=0):
    queue = Queue()
    queue.take(
        Backlog(
            partition=0,
            at_ms=T0,
            read_to_ms=T0 - 50,
            interactive=open_,
            batch=batch,
            oldest_ms=T0 - 90_000,
            answered_ms=T0,
            oldest_interactive_ms=T0 - 50 - age_ms if open_ else 0,
            behind=behind,
            oldest_behind_ms=T0 - 50 - behind_age_ms if behind else 0,
        )
    )
    return queue


def test_a_model_is_saturated_when_something_waits_for_longer_than_calls_take():
    found = saturation(waiting(300, 5_000), ended(50), 450.0, T0)
    assert (found.per_s, found.at_ms) == (50.0, T0 - 50)
    assert found.queued == pytest.approx(300 - 20 - 2 * 20**0.5, abs=1)


def test_what_waits_behind_is_no_queue_of_those_who_go_first():
    found = saturation(waiting(5, 300, behind=300, behind_age_ms=5_000), ended(50), 450.0, T0)
    assert found.queued == 0
    assert found.behind == pytest.approx(300 - (20 + 2 * 20**0.5 - 5), abs=1)
    both = saturation(waiting(300, 5_000, behind=90, behind_age_ms=5_000), ended(50), 450.0, T0)
    assert (both.queued, both.behind) == (saturation(waiting(300, 5_000), ended(50), 450.0, T0).queued, 90)
    assert saturation(waiting(0, 0, behind=300, behind_age_ms=300), ended(50), 450.0, T0) is None


def test_many_open_ones_are_no_queue_while_none_is_older_than_a_call():
    assert saturation(waiting(3_000, 450 + PROOF_MS - 1), ended(10), 450.0, T0) is None


@pytest.mark.parametrize(
    ("queue", "window", "p95_ms"),
    [
        (waiting(300, 5_000), [], None),
        (waiting(300, 5_000), ended(1, seconds=9), 450.0),
        (waiting(0, 0, batch=900), ended(50), 450.0),
        (waiting(25, 5_000), ended(50), 450.0),
        (Queue(), ended(50), 450.0),
    ],
    ids=["nothing ended", "too little ended", "batch only", "one call hangs", "settle says nothing"],
)
def test_what_shows_no_queue_or_no_rate_is_not_saturated(queue, window, p95_ms):
    assert saturation(queue, window, p95_ms, T0) is None


def test_a_slow_models_rate_is_taken_over_a_longer_time():
    found = saturation(waiting(30, 60_000), ended(1, seconds=25, call_ms=9_000), 9_000.0, T0)
    assert found.per_s == 1.0
