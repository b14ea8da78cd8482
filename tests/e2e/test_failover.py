"""How a provider may fail, one request each, through real processes: who is asked next, and what the caller gets. ``docs/fallback.md`` has the table."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import orjson
import pytest

from benchmarks.system import request, wait_for

B, S, L = "brittle", "sturdy", "large"

#: case -> (pool, how models fail this request, attempts as model and status, code of the error).
CASES = {
    "an error that passes": ("fragile", {B: ["500"]}, [(B, "error"), (B, "ok")], None),
    "an error that stays": ("fragile", {B: "500"}, [(B, "error"), (B, "error"), (S, "ok")], None),
    "overloaded, with Retry-After": ("fragile", {B: ["503"]}, [(B, "error"), (B, "ok")], None),
    "the connection breaks": ("fragile", {B: "cut"}, [(B, "truncated"), (B, "truncated"), (S, "ok")], None),
    "no JSON": ("fragile", {B: ["malformed"]}, [(B, "error"), (B, "ok")], None),
    "an error in the stream": ("fragile", {B: ["error_event"]}, [(B, "error"), (B, "ok")], None),
    "no finish reason": ("fragile", {B: "truncated"}, [(B, "truncated"), (B, "truncated"), (S, "ok")], None),
    "no first token": ("fragile", {B: ["hang"]}, [(B, "timeout"), (B, "ok")], None),
    "silence in the stream": ("fragile", {B: "stall"}, [(B, "timeout"), (B, "timeout"), (S, "ok")], None),
    "rate limited": ("fragile", {B: "429"}, [(B, "rate_limited"), (S, "ok")], None),
    "rate limited everywhere": ("fragile", {B: "429", S: ["", "429"]}, [(B, "rate_limited"), (S, "rate_limited"), (S, "ok")], None),
    "nobody has paid": ("fragile", {B: "unpaid"}, [(B, "error"), (S, "ok")], None),
    "payment required": ("fragile", {B: "402"}, [(B, "error"), (S, "ok")], None),
    "the key is wrong": ("fragile", {B: "401"}, [(B, "error"), (S, "ok")], None),
    "no such model": ("fragile", {B: "404"}, [(B, "error"), (S, "ok")], None),
    "redirected": ("fragile", {B: "302"}, [(B, "error"), (S, "ok")], None),
    "too long": ("fragile", {B: "too_long"}, [(B, "error"), (S, "ok")], None),
    "too long everywhere": ("fragile", {B: "too_long", S: "too_long"}, [(B, "error"), (S, "error")], "context_length_exceeded"),
    "refused": ("fragile", {B: "refused"}, [(B, "refused")], "content_refused"),
    "refused, and another may answer": ("chained", {B: "refused"}, [(B, "refused"), (S, "ok")], None),
    "refused by all that may": ("chained", {B: "refused", S: "refused"}, [(B, "refused"), (S, "refused")], "content_refused"),
    "a wrong request": ("fragile", {B: "400"}, [(B, "error")], "provider_error"),
    "a wrong request that another takes": ("chained", {B: "400"}, [(B, "error"), (L, "ok")], None),
    "a chain, in its order": ("chained", {B: "404", S: "404"}, [(B, "error"), (S, "error"), (L, "ok")], None),
    "everybody fails": ("fragile", {B: "500", S: "404"}, [(B, "error"), (B, "error"), (S, "error")], "provider_error"),
    "a model named by itself": (B, {B: "500"}, [(B, "error"), (B, "error")], "provider_error"),
}  # fmt: skip

#: Of these at once: eight errors in a row and the model is down, which is another test's matter.
A_WAVE = 3


def table() -> list[str]:
    """The rows of ``docs/fallback.md``."""
    return [
        f"| {case} | {', '.join(f'{model} {status}' for model, status in attempts)} | {code or 'the answer'} |"
        for case, (_, _, attempts, code) in CASES.items()
    ]


def test_the_page_shows_every_case():
    page = (Path(__file__).parents[2] / "docs" / "fallback.md").read_text()
    assert "\n".join(table()) in page


def asked(number: int, case: str) -> dict:
    pool, fails, _, _ = CASES[case]
    asks = request(f"failover-{number}", model=pool, text=f"case {number}", metadata={"case": case})
    asks["body"]["metadata"] = {"fails": fails}
    return asks


def is_known(system):
    """Whether ``watch`` has said how fast the model is."""
    said = [one for one in system.values("health") if one["model"] == B]
    return bool(said) and said[-1]["p95_ms"] is not None and not said[-1]["queue_wait_ms"]


def test_a_request_that_is_slower_than_most_is_asked_twice_and_answered_by_the_second(system):
    """The first call hangs; its first token would be waited for 0.7 s, p95 of the model is a fraction of that. Before the others: the model is well yet."""
    names = [f"hedge-{n}" for n in range(120)]
    slow = names[100::4]
    with system.reading("results") as reader:

        def answered(reads):
            return {
                one["custom_id"]: one
                for read in reads
                if (one := orjson.loads(read.record.value))["custom_id"] in names
            }

        system.produce("requests", [request(name, model="hedged", text=name) for name in names[:100]])
        assert reader.until(lambda reads: len(answered(reads)) == 100, 60)
        assert wait_for(lambda: is_known(system), 30)
        asks = [request(name, model="hedged", text=name) for name in names[100:]]
        for one in asks:
            if one["custom_id"] in slow:
                one["body"]["metadata"] = {"fails": {B: ["hang"]}}
        system.produce("requests", asks)
        assert reader.until(lambda reads: len(answered(reads)) == 120, 60)
        results = answered(reader.reads)
    assert {results[name]["error"] for name in names} == {None}
    hedged = [
        name for name in slow if [one["reason"] for one in results[name]["router"]["attempts"]] == ["routed", "hedge"]
    ]
    assert hedged
    for name in hedged:
        first, second = results[name]["router"]["attempts"]
        assert (first["status"], second["status"], second["model"]) == ("timeout", "ok", B)


@pytest.fixture(scope="module")
def results(system):
    names = list(CASES)
    with system.reading("results") as reader:

        def until(wanted):
            def came(reads):
                return wanted <= {orjson.loads(read.record.value)["custom_id"] for read in reads}

            assert reader.until(came, 60), wanted

        for at in range(0, len(names), A_WAVE):
            wave = [asked(at + n, case) for n, case in enumerate(names[at : at + A_WAVE])]
            well = [request(f"failover-well-{at}-{n}", model="fragile", text=f"{at} {n}") for n in range(2 * A_WAVE)]
            mixed = [one for pair in zip(well[::2], wave, well[1::2], strict=False) for one in pair]
            system.produce("requests", mixed)
            until({one["custom_id"] for one in mixed})
        found = [orjson.loads(read.record.value) for read in reader.reads]
    return {
        one["router"]["metadata"]["case"]: one
        for one in found
        if (one["router"]["metadata"] or {}).get("case") in CASES
    }


@pytest.mark.parametrize("case", CASES)
def test_what_follows_a_failure(results, case):
    pool, _, attempts, code = CASES[case]
    result = results[case]
    made = result["router"]["attempts"]
    assert [(one["model"], one["status"]) for one in made] == attempts
    assert (result["error"] or {}).get("code") == code
    assert made[0]["reason"] == "routed"
    for before, one in pairwise(made):
        assert one["reason"] == ("retry" if one["model"] == before["model"] else "fallback")
    known = [one["cost_nano_usd"] for one in made]
    assert result["router"]["cost_nano_usd"] == sum(known), "every attempt is billed"
    assert len({one["attempt"] for one in made}) == len(made)
    assert result["router"]["pool"] == (None if pool == B else pool) or code
