"""Bad requests of every size among good ones: each gets its answer or dead letter, and the good ones do not wait."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence

import orjson

from benchmarks.reader import Read
from benchmarks.scenarios.show import Show, quantiles, values
from benchmarks.system import System, request, requests
from router.contract.ids import request_id

RATE, BAD_RATE = 40, 5
#: A fresh broker compiles itself first; then the good ones alone, then among bad ones.
WARM_S, ALONE_S, AMONG_S = 40, 30, 30
#: What one record may cost the ones behind it: its size has to be read all the same.
P50_TIMES, MORE_MS = 2.0, 100.0
#: Behaviour of the simulated provider.
STEADY = "[models.default]\nlatency_ms = 50\nlatency_sigma = 0\n"


def bad_among_good(show: Show) -> None:
    """5 bad requests a second, up to a megabyte each, in all partitions, among 40 good ones a second."""
    count = RATE * (WARM_S + ALONE_S + AMONG_S)
    bad = list(itertools.islice(itertools.cycle(kinds()), BAD_RATE * AMONG_S))
    with System(behaviour=STEADY) as system:
        with system.reading("requests", "results", "dead-letter") as reader:
            late = threading.Timer(WARM_S + ALONE_S, system.produce, ("requests", bad), {"rate": BAD_RATE})
            late.start()
            system.produce("requests", requests(count), rate=RATE)
            late.join()
            answered = {value for value in bad if is_readable(value)}  # duplicates of a settled id get no second result
            reader.until(lambda reads: _count(reads, "results") >= count + len(answered), 60)
            time.sleep(2.0)
        results = [read for read in reader.reads if read.record.topic.endswith(".results")]
        good = [read for read in results if orjson.loads(read.record.value)["custom_id"].startswith("r-")]
        letters = _count(reader.reads, "dead-letter")
        took = _latencies_ms(reader.reads, good)
        alone = took[RATE * WARM_S : RATE * (WARM_S + ALONE_S)]
        among = took[RATE * (WARM_S + ALONE_S) :]
        show.results(system, values(good), count)
        show.say(
            bad_requests=len(bad),
            dead_letters=letters,
            alone_ms=quantiles(sorted(alone)),
            among_bad_ones_ms=quantiles(sorted(among)),
        )
        show.check(letters == len(bad), f"{letters} dead letters for {len(bad)} bad requests")
        before, after = quantiles(sorted(alone))["p50"], quantiles(sorted(among))["p50"]
        show.check(
            after <= P50_TIMES * before + MORE_MS, f"good requests took {after} ms among bad ones, {before} alone"
        )
        show.audit(system)
        show.conclude(system)


def kinds() -> list[bytes]:
    """What ends in a dead letter, the costly kinds among it."""
    spaces = request("bad-spaces", text=" " * 1_000_000)
    budget = request("bad-budget", max_cost_nano_usd=-1)
    return [
        b"{not json",
        orjson.dumps(spaces),
        b'{"custom_id": ' + b"[" * 100_000,
        b"[1, 2]",
        orjson.dumps(budget),
        orjson.dumps(request("bad-size", text="x" * 1_100_000)),
    ]


def is_readable(value: bytes) -> bool:
    """Whether it has an id, so that it gets a result besides its dead letter."""
    return b"bad-" in value


def _count(reads: Sequence[Read], topic: str) -> int:
    return sum(read.record.topic.endswith(f".{topic}") for read in reads)


def _latencies_ms(reads: Sequence[Read], good: Sequence[Read]) -> list[float]:
    """From each good request's record to its readable result, in the order in which they were made."""
    came_ms = {orjson.loads(read.record.value)["id"]: read.readable_at_ms for read in good}
    made_ms = {}
    for read in reads:
        if read.record.topic.endswith(".requests") and b'"r-' in read.record.value[:40]:
            made_ms[request_id("default", orjson.loads(read.record.value)["custom_id"])] = read.record.timestamp
    return [came_ms[found] - at_ms for found, at_ms in sorted(made_ms.items(), key=lambda item: item[1])]
