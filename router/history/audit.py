"""Do the topics agree with each other? Read from topics alone, to the nano-dollar.

| what | must |
|---|---|
| requests, results | every answerable request whose deadline has passed has a result; no id has two within the dedupe window |
| results | cost = sum of its attempts; each attempt was decided, and costs what its outcome costs by the price list |
| outcomes | none is there twice (of one slip), each was decided |
| usage | one for each unique outcome, at the price of the list |
| metrics | one ``final`` a window and dimensions; their sums = sums over results and unique outcomes, by model |
| decisions | one per request, attempt and origin, and there is a request at the origin; none for a model that is banned or drained, 2 s after that order |
| rewards | one per request, kind and source |
| dead letters | one per record and stage |

An outcome that went to the dead letter counts nowhere; of several with one (request id, attempt, model) the first
counts. What is not known yet (open windows, requests before their deadline) is said in ``unchecked`` and ``figures``:
to audit everything, let traffic stop, wait for the windows to become final, then read.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from aiokafka import TopicPartition

from router.contract.codec import from_rfc3339
from router.contract.topics import Names
from router.history.ledger import Ledger, ListPrice, Outcome, Pair, Stored
from router.kafka.admin import partitions_of
from router.kafka.client import Client

__all__ = ["Ledger", "ListPrice", "Report", "audit", "judge", "read_topics"]

#: A result may come this long after its deadline before it counts as lost.
LOST_AFTER_MS = 10_000
#: How soon a standing order is in force everywhere.
IN_FORCE_MS = 2_000
#: Problems of one kind that are told one by one; the rest is a number.
MOST_TOLD = 20

_REASONS = {
    "retry": "retries",
    "fallback": "fallbacks",
    "hedge": "hedges",
    "escalate": "escalations",
    "judge": "escalations",
}
_DIMENSIONS = ("window_start", "tenant", "pool", "model", "stratum", "cohort", "lane")


@dataclass(frozen=True, slots=True)
class Report:
    """``problems``: what must not be, a line each. ``figures``: totals, and ``models`` with those of each model."""

    problems: tuple[str, ...]
    unchecked: tuple[str, ...]
    figures: dict[str, Any]

    @property
    def ok(self) -> bool:
        return not self.problems


def audit(
    records: Iterable[Stored],
    *,
    prices: Mapping[str, ListPrice],
    now_ms: int,
    names: Names | None = None,
    window_ms: int = 86_400_000,
    quiet: bool = False,
) -> Report:
    """Audit what was read; records of topics that it does not know are passed over.

    Args:
        records: Of all topics, each partition's in order of offsets.
        prices: The price list, by model. A model that is absent has no known price.
        now_ms: When the reading ended.
        names: Topic names.
        window_ms: The dedupe window.
        quiet: See ``judge``.
    """
    ledger = Ledger(names or Names(), prices)
    takers = ledger.topics()
    for record in records:
        take = takers.get(record.topic)
        if take is not None and record.value is not None:
            take(record)
    return judge(ledger, now_ms=now_ms, window_ms=window_ms, quiet=quiet)


def judge(ledger: Ledger, *, now_ms: int, window_ms: int, quiet: bool = False) -> Report:
    """The report on a ledger that has been filled.

    ``quiet``: nothing has been counted for seconds, so a window of a time that has not come, where a clock ran ahead, says
    in its newest record what it will say in the final one, and is counted as that. Of one that is over, nothing excuses it.
    """
    rejected = {place for place, stage, _ in ledger.letters if stage == "settle"}
    outcomes = [outcome for outcome in ledger.outcomes if outcome.place not in rejected]
    unique: dict[Pair, Outcome] = {}
    costs: defaultdict[Pair, set[int | None]] = defaultdict(set)
    for outcome in outcomes:
        unique.setdefault(outcome.pair, outcome)
        costs[outcome.pair].add(outcome.cost_nano_usd)
    reasons: dict[Pair, str] = {}
    for pair, reason, _, _ in ledger.decisions:
        reasons.setdefault(pair, reason)
    expected = _expected(ledger, unique, reasons)
    kinds = {
        "lost or doubled results": _missing_or_doubled(ledger, now_ms, window_ms),
        "results": _wrong_results(ledger, costs, reasons),
        "outcomes": _repeated("outcome", ((outcome.pair, outcome.slip) for outcome in outcomes), first_only=True),
        "usage": _wrong_usage(ledger, unique),
        "what nobody asked for": _unasked(ledger, unique, reasons),
        "decisions": _repeated("decision", ((*pair[:2], place) for pair, _, place, _ in ledger.decisions)),
        "standing orders": _against_orders(ledger),
        "final windows": _repeated("final window", (_key(window) for window in _finals(ledger))),
        "rewards": _repeated("reward", ledger.rewards),
        "dead letters": _repeated("dead letter", ((stage, *place) for place, stage, _ in ledger.letters)),
    }
    finals = {_key(window) for window in _finals(ledger)}
    still_open = {key: window for window in ledger.windows if (key := _key(window)) not in finals}
    unchecked: list[str] = []
    if any(not quiet or _end_ms(window) <= now_ms for window in still_open.values()):
        unchecked.append(f"sums of metrics: {len(still_open)} windows are not final yet")
    else:
        kinds["sums of metrics"] = _wrong_sums([*_finals(ledger), *still_open.values()], expected)
    problems = [line for found in kinds.values() for line in _bounded(found)]
    return Report(tuple(problems), tuple(unchecked), _figures(ledger, expected, now_ms))


def _bounded(problems: Iterable[str]) -> list[str]:
    found = list(problems)
    more = [f"... and {len(found) - MOST_TOLD} more of these"] if len(found) > MOST_TOLD else []
    return found[:MOST_TOLD] + more


def _repeated(what: str, keys: Iterable[Any], *, first_only: bool = False) -> Iterator[str]:
    """``first_only``: tell of a key only its first part; a slip is long."""
    for key, times in Counter(keys).items():
        if times > 1:
            yield f"{what} {key[0] if first_only else key} is there {times} times"


def _missing_or_doubled(ledger: Ledger, now_ms: int, window_ms: int) -> Iterator[str]:
    for request_id, due_ms in ledger.due_ms.items():
        if request_id not in ledger.results and due_ms + LOST_AFTER_MS < now_ms:
            yield f"request {request_id} has no result, {now_ms - due_ms} ms after its deadline"
    for request_id, results in ledger.results.items():
        times = sorted(at_ms for at_ms, _ in results)
        for earlier, later in pairwise(times):
            if later - earlier < window_ms:
                yield f"request {request_id} has two results, {later - earlier} ms apart"


def _unasked(ledger: Ledger, unique: Mapping[Pair, Outcome], reasons: Mapping[Pair, str]) -> Iterator[str]:
    """Decisions without a request and outcomes without a decision. Requests are kept for a shorter time than the rest."""
    for pair, _, origin, _ in ledger.decisions:
        if origin not in ledger.requests and origin[2] >= ledger.begins.get(origin[:2], 0):
            yield f"decision {pair}: there is no request at {origin}"
    for pair in unique.keys() - reasons.keys():
        yield f"outcome {pair} was never decided"


def _wrong_results(ledger: Ledger, costs: Mapping[Pair, set[int | None]], reasons: Mapping[Pair, str]) -> Iterator[str]:
    decided = {pair[0] for pair in reasons}
    for request_id, results in ledger.results.items():
        if request_id not in decided:
            yield f"result {request_id}: nothing was ever decided"
        for _, result in results:
            if (result["response"] is None) == (result["error"] is None):
                yield f"result {request_id} has not exactly one of response and error"
            told = result["router"]
            ended = [each for each in told["attempts"] if _has_ended(each, told, ledger.prices)]
            known = [each["cost_nano_usd"] for each in ended]
            total = None if None in known else sum(known)
            if told["cost_nano_usd"] != total or told["cost_unknown"] != (total is None):
                yield f"result {request_id} says {told['cost_nano_usd']} nano-dollars, its attempts {total}"
            for each in told["attempts"]:
                if (request_id, each["attempt"], each["model"]) not in reasons:
                    yield f"result {request_id}: attempt {each['attempt']} on {each['model']} was never decided"
            for each in ended:
                by_list = costs.get((request_id, each["attempt"], each["model"]), set())
                if each["cost_nano_usd"] not in by_list:
                    says = f"attempt {each['attempt']} on {each['model']} says {each['cost_nano_usd']}"
                    yield f"result {request_id}: {says}, the list {sorted(by_list, key=str) or 'no outcome'}"


def _has_ended(attempt: Mapping[str, Any], told: Mapping[str, Any], prices: Mapping[str, ListPrice]) -> bool:
    """Whether an outcome ended the attempt: one that was open at the deadline is a time-out without a cost.

    So is a time-out of a model without a price; then the cost of the whole is unknown.
    """
    if attempt["status"] != "timeout" or attempt["cost_nano_usd"] is not None:
        return True
    return attempt["model"] not in prices and bool(told["cost_unknown"])


def _wrong_usage(ledger: Ledger, unique: Mapping[Pair, Outcome]) -> Iterator[str]:
    yield from _repeated("usage", (pair for pair, _ in ledger.usage))
    told = dict(ledger.usage)
    for pair, cost_nano_usd in told.items():
        if pair not in unique:
            yield f"usage {pair} has no outcome"
        elif cost_nano_usd != unique[pair].cost_nano_usd:
            yield f"usage {pair} says {cost_nano_usd} nano-dollars, the list {unique[pair].cost_nano_usd}"
    for pair in unique.keys() - told.keys():
        yield f"outcome {pair} was never priced"


def _against_orders(ledger: Ledger) -> Iterator[str]:
    for order, (since_ms, until_ms) in _orders(ledger):
        action, model = order.split(" ", 1)
        for pair, _, _, at_ms in ledger.decisions:
            if pair[2] == model and since_ms + IN_FORCE_MS < at_ms < until_ms:
                yield f"decision {pair} came {at_ms - since_ms} ms after the {action} of its model"


def _orders(ledger: Ledger) -> Iterator[tuple[str, tuple[int, int]]]:
    """Each ban or drain with the time it held."""
    forever = 2**63
    running: dict[str, tuple[int, int]] = {}
    for at_ms, order, active, expires_ms in sorted(ledger.bans, key=lambda ban: ban[0]):
        began = running.pop(order, None)
        if began is not None:
            yield order, (began[0], min(began[1], at_ms) if not active else began[1])
        if active:
            running[order] = (at_ms, expires_ms or forever)
    yield from running.items()


def _finals(ledger: Ledger) -> Iterator[dict[str, Any]]:
    return (window for window in ledger.windows if window["final"])


def _end_ms(window: Mapping[str, Any]) -> int:
    return from_rfc3339(window["window_start"]) + 1000 * int(window["window_s"])


def _key(window: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(window[name] for name in _DIMENSIONS)


def _expected(
    ledger: Ledger, unique: Mapping[Pair, Outcome], reasons: Mapping[Pair, str]
) -> defaultdict[str, Counter[str]]:
    """What the final windows must add up to, by model, from results and unique outcomes."""
    sums: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for results in ledger.results.values():
        for _, result in results:
            row = sums[result["router"]["model"] or "none"]
            row["requests"] += 1
            row["ok" if result["error"] is None else f"error {result['error']['code']}"] += 1
    for pair, outcome in unique.items():
        row, reason = sums[pair[2]], reasons.get(pair, "routed")
        row["shadows" if reason == "shadow" else "attempts"] += 1
        if reason in _REASONS:
            row[_REASONS[reason]] += 1
        row["prompt_tokens"] += outcome.tokens[0]
        row["completion_tokens"] += outcome.tokens[1]
        row["cached_tokens"] += outcome.tokens[2]
        row["cost_nano_usd"] += outcome.cost_nano_usd or 0
        row["cost_unknown"] += outcome.cost_nano_usd is None
    return sums


def _wrong_sums(windows: Iterable[Mapping[str, Any]], expected: Mapping[str, Counter[str]]) -> Iterator[str]:
    told: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for window in windows:
        row = told[window["model"]]
        for name in _SUMS:
            row[name] += window[name]
        for code, times in window["errors"].items():
            row[f"error {code}"] += times
    for model in sorted(told.keys() | expected.keys()):
        for name in sorted(told[model].keys() | expected.get(model, Counter()).keys()):
            due = expected.get(model, Counter())[name]
            if told[model][name] != due:
                yield f"metrics of {model}: {name} is {told[model][name]} in the windows, {due} in the records"


_SUMS = (
    "requests",
    "ok",
    "attempts",
    "retries",
    "fallbacks",
    "hedges",
    "escalations",
    "shadows",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "cost_nano_usd",
    "cost_unknown",
)


def _figures(ledger: Ledger, expected: Mapping[str, Counter[str]], now_ms: int) -> dict[str, Any]:
    total: Counter[str] = Counter()
    for row in expected.values():
        total.update(row)
    missing = [due_ms for request_id, due_ms in ledger.due_ms.items() if request_id not in ledger.results]
    errors = {name.removeprefix("error "): times for name, times in total.items() if name.startswith("error ")}
    return {
        "answerable_requests": len(ledger.due_ms),
        "results": total["requests"],
        **{name: total[name] for name in _SUMS[1:]},
        "errors": errors,
        "lost": sum(due_ms + LOST_AFTER_MS < now_ms for due_ms in missing),
        "open": sum(due_ms + LOST_AFTER_MS >= now_ms for due_ms in missing),
        "doubled": sum(len(results) - 1 for results in ledger.results.values()),
        "decisions": len(ledger.decisions),
        "outcome_records": len(ledger.outcomes),
        "final_windows": sum(1 for _ in _finals(ledger)),
        "dead_letters": dict(Counter(reason for _, _, reason in ledger.letters)),
        "models": {model: dict(row) for model, row in sorted(expected.items())},
    }


async def read_topics(ledger: Ledger, client: Client) -> None:
    """Fill a ledger with all that is committed now. Topics that do not exist are passed over; later records are not read."""
    takers = ledger.topics()
    counts = await partitions_of(client, takers)
    consumer = client.consumer()
    await consumer.start()
    try:
        parts = [TopicPartition(topic, number) for topic, count in counts.items() for number in range(count)]
        consumer.assign(parts)
        ends = await consumer.end_offsets(parts)
        begins = await consumer.beginning_offsets(parts)
        ledger.begins = {(part.topic, part.partition): offset for part, offset in begins.items()}
        left = {part for part in parts if begins[part] < ends[part]}
        consumer.pause(*(part for part in parts if part not in left))
        while left:
            found = await consumer.getmany(timeout_ms=200)
            for part, batch in found.items():
                for record in batch:
                    if record.offset < ends[part] and record.value is not None:
                        takers[part.topic](record)
            for part in [part for part in left if await consumer.position(part) >= ends[part]]:
                left.discard(part)
                consumer.pause(part)
    finally:
        await consumer.stop()
