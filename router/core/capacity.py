"""What an installation of a given size needs: records, bytes, cores, processes, partitions, brokers, memory. Pure.

A model of sums: what one request takes, times the rate. What a request takes was measured (``benchmarks/``) on the machine
that ``docs/scale.md`` names; a core of yours may be half or twice as fast. Measured with full batches: at low rates CPU goes
by transaction and by poll instead, which matters to nobody at low rates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

DAY_S = 86_400
MIB, GIB, TIB = 2**20, 2**30, 2**40

#: CPU microseconds a request (workers: a call) by process of ``pointsman up``: ``benchmarks/full_path.py``, ``worker.py``.
ROUTE_US, SETTLE_US, LEARNING_US, WORKER_US, BROKER_US = 62.0, 78.0, 40.0, 530.0, 65.0
#: Of these, by token of the prompt in route (``route.py``: 15 us for 100), and the prompt that was measured.
TOKEN_US, MEASURED_TOKENS = 0.15, 70
#: A longer prompt is counted in samples: so many tokens of it, or this share (``core/tokens.py``).
EXACT_TOKENS, SAMPLED_TOKENS, SAMPLED_SHARE = 700, 550, 1 / 8
#: Bytes of JSON around a prompt and an answer, and of each token.
WRAP_BYTES, TOKEN_BYTES = 250, 4.4
#: Settle's memory of an id against duplicates (``memory.py``).
ID_BYTES = 60

#: How much of a core a process may use before its lanes queue, and of a broker's.
UTILISATION = 0.6
#: Calls in hand at most, by worker process (``kafka.calls``).
MOST_CONCURRENCY = 400
#: Assumed, not measured: what a broker with eight cores and its disks takes in steadily, copies of others included.
BROKER_CORES, BROKER_MIB_S, BROKER_TIB = 8, 150.0, 8.0
#: Partitions are created in these numbers: many divisors, so that processes share evenly.
SIZES = (4, 12, 24, 48, 96, 192)


@dataclass(frozen=True, slots=True)
class Topic:
    """Records and bytes a request leaves in a topic: ``fixed`` and the prompt or the answer, once an attempt or once."""

    name: str
    fixed: int
    prompt: bool = False
    answer: bool = False
    each_attempt: bool = False
    records: float = 1.0
    days: float = 7.0


#: Sizes: measured on 4,000 requests of 480 bytes through ``pointsman up``; days: as ``topics create`` keeps them.
TOPICS = (
    Topic("requests", 20, prompt=True, days=3),
    Topic("work", 480, prompt=True, each_attempt=True, days=2),
    Topic("decisions", 1380, each_attempt=True),
    Topic("outcomes", 700, answer=True, each_attempt=True, days=2),
    Topic("results", 850, answer=True),
    Topic("usage", 500, each_attempt=True),
    Topic("tables and counts", 550, records=0.6, days=0.1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What comes. ``rate``: requests a second; ``attempts``: calls a request; ``provider_s``: how long a call takes.

    ``models``: how many share the calls evenly; each has work topics, so workers, of its own.
    """

    rate: float
    prompt_tokens: int = 300
    answer_tokens: int = 200
    attempts: float = 1.05
    provider_s: float = 2.0
    models: int = 3
    replication: int = 3
    #: Copies of an id are told apart for so long (``settle.dedupe_window_s``), up to so many ids (``dedupe_max_ids``).
    dedupe_s: int = DAY_S
    dedupe_max_ids: int = 20_000_000


@dataclass(frozen=True, slots=True)
class Need:
    """Of one resource: ``amount`` in ``unit``, the rate that one unit carries, and what to do beyond it."""

    name: str
    amount: int
    unit: str
    #: Requests a second that one unit carries.
    each: float
    why: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Plan:
    """``needs``: first bottleneck first. Bytes are a second, of the leaders' copies alone; disk holds all copies."""

    workload: Workload
    records_per_s: float
    bytes_per_s: float
    disk_bytes: float
    partitions: int
    needs: tuple[Need, ...]
    notes: tuple[str, ...]


def plan(load: Workload) -> Plan:
    """The needs of a workload.

    Raises:
        ValueError: a figure is not above zero.
    """
    for name in ("rate", "prompt_tokens", "answer_tokens", "attempts", "provider_s", "models", "replication"):
        if not 0 < getattr(load, name) < math.inf:
            raise ValueError(f"{name}: must be above zero, not {getattr(load, name)}")
    each = {topic.name: _bytes(topic, load) for topic in TOPICS}
    times = {topic.name: load.attempts if topic.each_attempt else 1.0 for topic in TOPICS}
    records = sum(topic.records * times[topic.name] for topic in TOPICS)
    request_bytes = sum(each[name] * times[name] for name in each)
    kept = sum(each[one.name] * times[one.name] * one.days * DAY_S for one in TOPICS) * load.replication
    needs = tuple(sorted(_needs(load, request_bytes, kept), key=lambda need: need.each))
    shared = {"workers": load.models}  # a model's workers share partitions with each other alone
    widest = max(math.ceil(one.amount / shared.get(one.name, 1)) for one in needs if one.unit == "processes")
    partitions = next((size for size in SIZES if size >= widest), math.ceil(widest / SIZES[-1]) * SIZES[-1])
    return Plan(
        load,
        load.rate * records,
        load.rate * request_bytes,
        load.rate * kept,
        partitions,
        needs,
        tuple(_notes(load, partitions)),
    )


def _bytes(topic: Topic, load: Workload) -> float:
    return (
        topic.fixed
        + topic.prompt * (WRAP_BYTES + TOKEN_BYTES * load.prompt_tokens)
        + topic.answer * (WRAP_BYTES + TOKEN_BYTES * load.answer_tokens)
    )


def _needs(load: Workload, request_bytes: float, kept: float) -> Iterator[Need]:
    route_us = ROUTE_US + TOKEN_US * (_counted(load.prompt_tokens) - MEASURED_TOKENS)
    more = "more processes of it, up to the number of partitions"
    for name, cpu_us in (("route", max(route_us, 1.0)), ("settle", SETTLE_US), ("learning", LEARNING_US)):
        each = UTILISATION * 1e6 / cpu_us
        yield Need(name, math.ceil(load.rate / each), "processes", each, f"{cpu_us:.0f} us of CPU a request", more)
    by_calls = MOST_CONCURRENCY / (load.attempts * load.provider_s)
    by_cpu = UTILISATION * 1e6 / (load.attempts * WORKER_US)
    why = f"{MOST_CONCURRENCY} calls in hand" if by_calls < by_cpu else f"{WORKER_US:.0f} us of CPU a call"
    each = min(by_calls, by_cpu)
    yield Need(
        "workers",
        math.ceil(load.rate / each),
        "processes",
        each,
        why,
        "more processes of the models that are asked most",
    )
    by_bytes = BROKER_MIB_S * MIB / (request_bytes * load.replication)
    by_cpu = UTILISATION * BROKER_CORES * 1e6 / (BROKER_US * load.replication)
    by_disk = BROKER_TIB * TIB / kept
    each, why, remedy = min(
        (by_bytes, f"{BROKER_MIB_S:.0f} MiB/s with copies", "compression at the producers; more brokers"),
        (by_cpu, f"{BROKER_CORES} cores", "fewer partitions; compression (`kafka.compression`)"),
        (by_disk, f"{BROKER_TIB:g} TiB of disk", "shorter retention of decisions, results and usage; compression"),
    )
    yield Need("brokers", max(load.replication, math.ceil(load.rate / each)), "brokers", each, why, remedy)


def _notes(load: Workload, partitions: int) -> Iterator[str]:
    ids = load.rate * load.dedupe_s
    kept = min(ids, load.dedupe_max_ids)
    yield f"settle holds {kept / 1e6:.1f} million ids, {kept * ID_BYTES / GIB:.1f} GiB over its processes"
    if ids > kept:
        yield (
            f"duplicates are told apart for {_span(kept / load.rate)}, not {_span(load.dedupe_s)}: "
            f"settle.dedupe_max_ids is {load.dedupe_max_ids:,}; all of them would take {ids * ID_BYTES / GIB:,.0f} GiB"
        )
    if partitions > SIZES[2]:
        yield (
            f"{partitions} partitions: one rebalance stops a whole stage (aiokafka knows the eager protocol alone), and account's lanes "
            "tell each other of every window, which goes by the square; share the tenants among several kafka.prefix"
        )


def _span(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s"


def _counted(prompt_tokens: int) -> float:
    """Tokens of a prompt that the tokeniser sees."""
    if prompt_tokens <= EXACT_TOKENS:
        return prompt_tokens
    return max(SAMPLED_TOKENS, SAMPLED_SHARE * prompt_tokens)
