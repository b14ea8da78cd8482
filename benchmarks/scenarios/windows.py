"""Metric windows add up to the nano-dollar: after an outage of account, and when traffic stops within a window."""

from __future__ import annotations

import signal
import time

import orjson

from benchmarks.scenarios.show import Show
from benchmarks.system import SUPERVISOR, System, requests, wait_for

#: From the end of a window until its final is readable: ``grace_s`` and what a busy machine takes.
SLACK_S = 8.0


def account_down(show: Show, down_s: float = 90.0) -> None:
    """Its process is killed and kept down while requests go on; then traffic stops for good in mid-window."""
    with System() as system:
        system.produce("requests", requests(400, "before"), rate=50)
        system.signal(SUPERVISOR, signal.SIGSTOP)
        system.signal("learning")
        began = time.monotonic()
        system.produce("requests", requests(1000, "during"), rate=50)
        time.sleep(max(0.0, began + down_s - time.monotonic()))
        finals = _finals(system)
        system.signal(SUPERVISOR, signal.SIGCONT)
        system.produce("requests", requests(412, "after"), rate=50)
        show.results(system, system.results(1812, 30, settle_s=0.0), 1812)
        last_ms = max(record.timestamp for record in system.records("results"))
        account = system.config["account"]
        window_ms = account["window_s"] * 1000
        due_s = (last_ms // window_ms + 1) * window_ms / 1000 + account["grace_s"]
        came = wait_for(lambda: _finals(system) >= 1812, due_s + SLACK_S - time.time(), every_s=1.0)
        show.say(
            requests_in_finals_while_down=finals,
            requests_in_finals=_finals(system),
            finals_all_there_after_grace_s=round(time.time() - due_s, 1),
        )
        show.check(came, "with no traffic the last windows did not become final in time")
        show.audit(system)
        show.conclude(system)


def _finals(system: System) -> int:
    """Requests counted in final windows."""
    windows = (orjson.loads(record.value) for record in system.records("metrics"))
    return sum(window["requests"] for window in windows if window["final"])
