"""A ban holds at once: also one that is issued while no router is there to hear it."""

from __future__ import annotations

import threading
import time

import orjson

from benchmarks.scenarios.show import Show
from benchmarks.system import System, requests, wait_for

ROUNDS = 3
IN_FORCE_MS = 2_000
ORDERED = ("--by", "shows", "--reason", "to show that it holds")


def ban_during_restart(show: Show) -> None:
    """Under steady traffic: a ban while all runs, then bans between the death of route and its next decision."""
    with System() as system:
        end = threading.Event()
        sent = [0]
        traffic = threading.Thread(target=_traffic, args=(system, end, sent))
        traffic.start()
        try:
            _ban(show, system, restart=False)
            for _ in range(ROUNDS):
                _ban(show, system, restart=True)
        finally:
            end.set()
            traffic.join()
        show.results(system, system.results(sent[0], 60), sent[0])
        _judge(show, system)
        show.audit(system)
        show.conclude(system)


def _traffic(system: System, end: threading.Event, sent: list[int]) -> None:
    """50 a second, in pieces of half a second."""
    while not end.is_set():
        system.produce("requests", requests(25, f"t-{sent[0]}"), rate=50)
        sent[0] += 25


def _ban(show: Show, system: System, *, restart: bool) -> None:
    before = len(system.records("decisions"))
    if restart:
        system.signal("route")
    done = system.run("ban", "model:small", *ORDERED)
    show.check(done.returncode == 0, f"ban: {done.stderr}")
    came = wait_for(lambda: len(system.records("decisions")) > before + 100, 60, every_s=1.0)
    show.check(came, "route decides nothing")
    done = system.run("release", "model:small", *ORDERED)
    show.check(done.returncode == 0, f"release: {done.stderr}")
    time.sleep(5.0)


def _judge(show: Show, system: System) -> None:
    """By timestamps of the broker: when an order was written, when a decision was."""
    orders = [(record.timestamp, orjson.loads(record.value)["active"]) for record in system.records("control")]
    orders.sort()
    bans = [at_ms for at_ms, active in orders if active]
    releases = [at_ms for at_ms, active in orders if not active]
    decided = [(record.timestamp, orjson.loads(record.value)) for record in system.records("decisions")]
    late, slowest_ms, during = 0, 0, 0
    for number, (ban_ms, release_ms) in enumerate(zip(bans, releases, strict=True)):
        within = [(at_ms, one) for at_ms, one in decided if ban_ms < at_ms < release_ms]
        against = [at_ms - ban_ms for at_ms, one in within if one["model"] == "small"]
        slowest_ms = max([slowest_ms, *against])
        during += len(within)
        # A router that starts after the order decides nothing before it has read it: not even within two seconds.
        late += sum(after_ms > (IN_FORCE_MS if number == 0 else 0) for after_ms in against)
    show.say(bans=len(bans), decisions_under_a_ban=during, last_decision_against_it_after_ms=slowest_ms)
    show.check(len(bans) == ROUNDS + 1, f"{len(bans)} bans in the topic")
    show.check(during > 100 * ROUNDS, "too few decisions to show anything")
    show.check(late == 0, f"{late} decisions for the banned model after it was banned")
