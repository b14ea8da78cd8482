"""Stages and models that are away for a while: nothing is lost, nothing is late for it, traffic goes elsewhere."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from benchmarks.scenarios.show import Show, values
from benchmarks.system import BEHAVIOUR, CONFIG, SUPERVISOR, System, requests, wait_for

#: All of 1,000 requests can be with the provider at once.
WIDE = (
    CONFIG.replace("concurrency = 32", "concurrency = 400")
    .replace(
        "[pools.auto]\nmodels = [",
        '[models.wide]\nprovider = "sim"\ninput_usd_per_mtok = 1.0\noutput_usd_per_mtok = 1.0\n'
        'concurrency = 400\n[pools.auto]\nmodels = ["wide", ',
    )
    .replace("small = 0.5, large = 0.5", "wide = 0.34, small = 0.33, large = 0.33")
)
LONG = """
[models.default]
latency_ms = 20000
latency_sigma = 0
"""


def settle_killed(show: Show, count: int = 1000) -> None:
    """SIGKILL while ``count`` calls are being made; nothing is produced afterwards that could wake anything."""
    with System(WIDE, LONG) as system:
        with system.reading("results") as reader:
            system.produce("requests", requests(count))
            came = wait_for(lambda: len(system.records("decisions")) >= count, 20, every_s=1.0)
            show.check(came, "not all requests were dispatched while the first were being answered")
            show.say(calls_in_hand_at_the_kill=system.in_hand(), results_before=len(reader.reads))
            system.signal("settle")
            reader.wait(count, within_s=90, more_s=3)
        show.results(system, values(reader.reads), count)
        show.check(show.figures["results_before"] == 0, "it was killed too late")
        show.audit(system)
        show.conclude(system)


def settle_stopped(show: Show, stopped_s: float = 120.0) -> None:
    """Twice: frozen by SIGSTOP, then killed under a supervisor that is frozen itself. Deadlines of half that time."""
    deadline_ms = int(stopped_s * 500)
    with System() as system:
        with system.reading("results") as reader:
            for round_, (stop, go_on) in enumerate((_frozen(system), _killed(system)), 1):
                stop()
                stopped = time.monotonic()
                system.produce("requests", requests(500, f"round-{round_}", deadline_ms=deadline_ms), rate=100)
                outcomes = wait_for(lambda: len(system.records("outcomes")) >= 500 * round_, stopped_s / 4, every_s=1.0)  # noqa: B023
                show.check(outcomes, "not all outcomes came while settle was stopped")
                show.check(len(reader.reads) == 500 * (round_ - 1), "settle was not stopped")
                time.sleep(max(0.0, stopped + stopped_s - time.monotonic()))
                go_on()
                resumed = time.monotonic()
                show.check(reader.wait(500 * round_, within_s=60, more_s=2), "results are missing")
                show.say(**{f"round_{round_}_results_all_there_after_s": round(time.monotonic() - resumed - 2, 1)})
        show.results(system, values(reader.reads), 1000)
        show.audit(system)
        show.conclude(system)


def _frozen(system: System) -> tuple[Any, Any]:
    def go_on() -> None:
        system.signal("settle", signal.SIGCONT)

    return lambda: system.signal("settle", signal.SIGSTOP), go_on


def _killed(system: System) -> tuple[Any, Any]:
    def stop() -> None:
        system.signal(SUPERVISOR, signal.SIGSTOP)
        system.signal("settle", signal.SIGKILL)

    return stop, lambda: system.signal(SUPERVISOR, signal.SIGCONT)


def provider_down(show: Show, rate: float = 200.0, phases_s: Sequence[float] = (15, 60, 60)) -> None:
    """100 % 503 on one of two models for a minute: traffic leaves it, is answered by the other, and comes back."""
    with System(CONFIG.replace("concurrency = 32", "concurrency = 64"), BEHAVIOUR) as system:
        count = int(rate * sum(phases_s))
        with system.reading("results", "decisions", "health") as reader:
            producing = threading.Thread(target=lambda: system.produce("requests", requests(count), rate=rate))
            producing.start()
            time.sleep(phases_s[0])
            failing_ms = time.time() * 1000
            system.behave(small={"errors": {"503": 1.0}})
            time.sleep(phases_s[1])
            mended_ms = time.time() * 1000
            system.behave(small={"errors": {"503": 0.0}})
            producing.join()
            reader.until(lambda reads: sum(_is(read, "results") for read in reads) >= count, 60)
            time.sleep(2)
            reads = list(reader.reads)
        show.results(system, values(read for read in reads if _is(read, "results")), count)
        routed = values(read for read in reads if _is(read, "decisions"))
        health = [
            (read.record.timestamp, value["state"]) for read, value in _of(reads, "health") if value["model"] == "small"
        ]
        firsts = [(read.record.timestamp, value) for read, value in _of(reads, "decisions") if value["attempt"] == 1]
        share = {
            name: round(_share(firsts, since, until), 3)
            for name, since, until in (
                ("before", 0, failing_ms),
                ("first_10_s", failing_ms, failing_ms + 10_000),
                ("rest", failing_ms + 10_000, mended_ms),
                ("last_20_s", time.time() * 1000 - 22_000, time.time() * 1000),
            )
        }
        down = next((at - failing_ms for at, state in health if state == "down" and at > failing_ms), None)
        back = next((at - mended_ms for at, state in health if state == "up" and at > mended_ms), None)
        attempts = Counter(min(2, decision["attempt"]) for decision in routed)
        show.say(
            health_of_small=_turns(health, failing_ms),
            share_of_small=share,
            down_after_s=None if down is None else round(down / 1000, 2),
            up_after_s=None if back is None else round(back / 1000, 2),
            added_calls=attempts[2],
        )
        show.check(down is not None and down < 5_000, "the model was not down within 5 s")
        show.check(back is not None, "the model did not come up again")
        show.check(share["rest"] < 0.05, f"{share['rest']:.0%} of the traffic still went to the model that was down")
        show.check(share["last_20_s"] > 0.35, f"only {share['last_20_s']:.0%} of the traffic came back")
        show.check(attempts[2] < 0.05 * count, f"{attempts[2]} added calls")
        show.audit(system)
        show.conclude(system)


def _is(read: Any, topic: str) -> bool:
    return bool(read.record.topic.endswith(f".{topic}"))


def _of(reads: Sequence[Any], topic: str) -> list[tuple[Any, dict[str, Any]]]:
    found = [read for read in reads if _is(read, topic)]
    return list(zip(found, values(found), strict=True))


def _share(firsts: Sequence[tuple[float, dict[str, Any]]], since_ms: float, until_ms: float) -> float:
    models = [decision["model"] for at_ms, decision in firsts if since_ms <= at_ms < until_ms]
    return models.count("small") / max(1, len(models))


def _turns(health: Sequence[tuple[int, str]], zero_ms: float) -> str:
    """Each change of state, with the seconds since the outage began."""
    turns: list[str] = []
    last = None
    for at_ms, state in health:
        if state != last:
            turns.append(f"{state} at {(at_ms - zero_ms) / 1000:.1f} s")
        last = state
    return ", ".join(turns)
