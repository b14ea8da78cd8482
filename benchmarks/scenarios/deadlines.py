"""Every request is answered by its deadline: without any worker, and behind a lane that never catches up."""

from __future__ import annotations

from benchmarks.scenarios.show import LATE_MS, Show, deadlines_ms, lateness_ms, quantiles, values
from benchmarks.system import CONFIG, System, requests

#: Much less than what is offered: 2 models x 2 calls of 0.2 s are 20 a second.
NARROW = CONFIG.replace("concurrency = 32", "concurrency = 2")
SLOW = """
[models.default]
latency_ms = 200
latency_sigma = 0
"""


def no_worker(show: Show) -> None:
    """Half of the requests come one after the other, half at once: those have nearly the same deadline."""
    config = CONFIG.replace('provider = "sim"', 'provider = "external"')
    with System(config) as system:
        (system.data_dir / "sim-calls.jsonl").touch()  # there is no simulator either
        with system.reading("results") as reader:
            system.produce("requests", requests(1000, "paced", deadline_ms=3000), rate=200)
            system.produce("requests", requests(1000, "burst", deadline_ms=3000))
            reader.wait(2000, within_s=30, more_s=3)
        late = lateness_ms(reader.reads, deadlines_ms(system, "requests"))
        show.results(system, values(reader.reads), 2000, expected=["deadline_exceeded"])
        show.say(readable_after_deadline_ms=quantiles(late))
        show.check(late and late[0] >= 0, "a result came before its deadline")
        show.check(late and late[-1] <= LATE_MS, f"the latest result came {late[-1]:.0f} ms after its deadline")
        show.audit(system)
        show.conclude(system)


def saturated_lane(show: Show) -> None:
    """100 requests a second for 15 s with deadlines of 2 s, for models that make 20 calls a second."""
    with System(NARROW, SLOW) as system:
        with system.reading("results") as reader:
            system.produce("requests", requests(1500, deadline_ms=2000), rate=100)
            reader.wait(1500, within_s=30, more_s=3)
        late = lateness_ms(reader.reads, deadlines_ms(system, "requests"))
        show.results(system, values(reader.reads), 1500, expected=["ok", "deadline_exceeded"])
        show.say(readable_after_deadline_ms=quantiles(late))
        show.check(show.figures["results"].get("ok", 0) >= 100, "a lane that is saturated does less than it could")
        show.check(late and late[-1] <= LATE_MS, f"the latest result came {late[-1]:.0f} ms after its deadline")
        show.audit(system)
        show.conclude(system)
