"""What weighing endpoints is worth: a worker's choice of endpoints beside round robin and least of two, in worlds with one odd server.

    python benchmarks/balance.py [--calls 20000] [--seed 7] [--json]

Simulated time, the worker's own ``Endpoints``. Four servers of 16 slots each answer in 1 s (log-normal, sigma 0.4), calls that find no
slot wait in the server; calls come at random, 38 a second, two thirds of what four alike could carry. Every balancer gets the same calls.
"""

from __future__ import annotations

import heapq
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import quantiles
from typing import Final, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.report import Report, finish, options
from router.work.endpoints import Endpoints, Place

RATE: Final = 38.0
FAST_FAILURE_S: Final = 0.01
#: Where all servers are alike nothing is to be won, and chance moves p95 by some hundredths.
GOAL: Final = 1.1
CAVEATS = ["simulated servers: what a provider's own balancer does is not in it"]


@dataclass(slots=True)
class Server:
    """``slots`` calls at once, the others wait; ``failing``: share of calls that fail, at once."""

    usual_s: float = 1.0
    slots: int = 16
    failing: float = 0.0
    busy: int = 0
    waiting: deque[tuple[float, float]] = field(default_factory=deque)


WORLDS: Final[dict[str, Callable[[], list[Server]]]] = {
    "four alike": lambda: [Server() for _ in range(4)],
    "one takes 4 times as long": lambda: [Server(usual_s=4.0), Server(), Server(), Server()],
    "one has 4 slots": lambda: [Server(slots=4), Server(), Server(), Server()],
    "one fails at once": lambda: [Server(failing=1.0), Server(), Server(), Server()],
    "one fails half of its calls": lambda: [Server(failing=0.5), Server(), Server(), Server()],
}


class Balancer(Protocol):
    def pick(self, now_s: float) -> int: ...
    def ended(self, server: int, began_s: float, now_s: float, *, ok: bool) -> None: ...


class RoundRobin:
    def __init__(self, count: int, _seed: int) -> None:
        self._count, self._next = count, -1

    def pick(self, now_s: float) -> int:  # noqa: ARG002 - as the others
        self._next = (self._next + 1) % self._count
        return self._next

    def ended(self, server: int, began_s: float, now_s: float, *, ok: bool) -> None:
        """It learns nothing."""


class LeastOfTwo:
    def __init__(self, count: int, seed: int) -> None:
        self._dice, self._outstanding = Random(seed), [0] * count

    def pick(self, now_s: float) -> int:  # noqa: ARG002 - as the others
        chosen = min(self._dice.sample(range(len(self._outstanding)), 2), key=self._outstanding.__getitem__)
        self._outstanding[chosen] += 1
        return chosen

    def ended(self, server: int, began_s: float, now_s: float, *, ok: bool) -> None:  # noqa: ARG002 - as the others
        self._outstanding[server] -= 1


class Ours:
    def __init__(self, count: int, seed: int) -> None:
        self._now_s = 0.0
        places = [Place(name=str(number), base_url="") for number in range(count)]
        self._endpoints = Endpoints(places, lambda: self._now_s, Random(seed))
        self._probes: set[tuple[int, float]] = set()

    def pick(self, now_s: float) -> int:
        self._now_s = now_s
        endpoint = self._endpoints.pick()
        if endpoint is None:
            raise AssertionError("half of the endpoints are always free")
        number = int(endpoint.place.name)
        if endpoint.begin(0, now_s):
            self._probes.add((number, now_s))
        return number

    def ended(self, server: int, began_s: float, now_s: float, *, ok: bool) -> None:
        self._now_s = now_s
        endpoint, probe = self._endpoints.all[server], (server, began_s) in self._probes
        self._probes.discard((server, began_s))
        if ok:
            endpoint.succeeded(now_s - began_s, now_s, probe=probe)
        else:
            endpoint.failed(now_s, probe=probe)
        endpoint.end(probe=probe)
        self._endpoints.judge(endpoint)


BALANCERS: Final[dict[str, Callable[[int, int], Balancer]]] = {
    "round robin": RoundRobin,
    "least of two": LeastOfTwo,
    "ours": Ours,
}


def run(servers: list[Server], balancer: Balancer, calls: int, seed: int) -> tuple[float, float]:
    """The 95th percentile of seconds that good calls took, and the share of calls that failed."""
    dice, now_s = Random(seed), 0.0
    events: list[tuple[float, int, int, float, bool]] = []  # when, order, server, begun, whether it holds a slot
    took_s: list[float] = []
    failures = 0

    def start(server: int, began_s: float, at_s: float, service_s: float) -> None:
        servers[server].busy += 1
        heapq.heappush(events, (at_s + service_s, len(took_s) + failures, server, began_s, True))

    def end(at_s: float, server: int, began_s: float, *, ok: bool) -> None:
        nonlocal failures
        balancer.ended(server, began_s, at_s, ok=ok)
        failures += not ok
        if not ok:
            return
        took_s.append(at_s - began_s)
        servers[server].busy -= 1
        if servers[server].waiting:
            first_s, service_s = servers[server].waiting.popleft()
            start(server, first_s, at_s, service_s)

    for _ in range(calls):
        now_s += dice.expovariate(RATE)
        service, unlucky = dice.lognormvariate(0.0, 0.4), dice.random()
        while events and events[0][0] <= now_s:
            at_s, _, server, began_s, ok = heapq.heappop(events)
            end(at_s, server, began_s, ok=ok)
        server = balancer.pick(now_s)
        one = servers[server]
        if unlucky < one.failing:
            heapq.heappush(events, (now_s + FAST_FAILURE_S, len(took_s) + failures, server, now_s, False))
        elif one.busy < one.slots:
            start(server, now_s, now_s, service * one.usual_s)
        else:
            one.waiting.append((now_s, service * one.usual_s))
    while events:
        at_s, _, server, began_s, ok = heapq.heappop(events)
        end(at_s, server, began_s, ok=ok)
    return quantiles(took_s, n=20)[-1], failures / calls


def measure(calls: int, seed: int) -> Report:
    report = Report("balance", caveats=CAVEATS)
    for world, new in WORLDS.items():
        found = {name: run(new(), make(4, seed), calls, seed) for name, make in BALANCERS.items()}
        for number, (what, unit, scale) in enumerate([("p95 of a call", "s", 1.0), ("calls that fail", "%", 100.0)]):
            values = {name: round(figures[number] * scale, 2) for name, figures in found.items()}
            if any(values.values()):
                for other in ("round robin", "least of two"):
                    name = f"{world}: {what}"
                    how = {"goal": f"at most {GOAL} x", "met": values["ours"] <= GOAL * values[other]}
                    report.add(name, values["ours"], unit, reference=values[other], reference_is=other, **how)
                report.details[f"{world}: {what}"] = values
    return report


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=7)
    told = parser.parse_args()
    finish(measure(told.calls, told.seed), told.json)


if __name__ == "__main__":
    main()
