"""SIGKILL in the middle of ``pointsman submit``, with one call of 30 s held open: no orphan, one line a line, few calls again."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import orjson

from benchmarks.scenarios.show import Show
from benchmarks.system import CONFIG, System, request, requests, summary, wait_for

LINES = 3000
#: A call that is being made all the time.
CONFIG_WITH_SLOW = CONFIG.replace(
    "[pools.auto]",
    '[models.slow]\nprovider = "sim"\ninput_usd_per_mtok = 1.0\noutput_usd_per_mtok = 1.0\nconcurrency = 1\n[pools.auto]',
)
#: Some calls fail, so that retries are under way too; such requests are ok in the end, or would be without any kill.
BEHAVIOUR = """
[models.default]
latency_ms = 100
latency_sigma = 0.5
[models.default.errors]
503 = 0.02
[models.slow]
latency_ms = 30000
latency_sigma = 0
"""
#: How long the kernel and the installation may take to end what has lost its parent.
ORPHANS_S = 10.0


class Submission:
    """One batch file on its way through ``pointsman submit``."""

    def __init__(self, system: System, name: str, lines: int) -> None:
        self._system = system
        self._file, self.out = system.folder / f"{name}.jsonl", system.folder / f"{name}.out.jsonl"
        asked = [request(f"{name}-slow", model="slow"), *requests(lines, name)]
        self._file.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in asked))
        self.count = len(asked)
        self._process = self._start()

    def _start(self, *more: str) -> subprocess.Popen[str]:
        return self._system.spawn("submit", str(self._file), "--out", str(self.out), *more)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def written(self) -> int:
        """Whole lines in the output so far."""
        return self.out.read_bytes().count(b"\n") if Path(self.out).exists() else 0

    def until(self, lines: int, within_s: float = 120.0) -> bool:
        return wait_for(lambda: self.written() >= lines or not self.alive, within_s, every_s=0.05) and self.alive

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def finish(self, within_s: float = 180.0) -> int:
        """Wait for its end; if it was killed, go on with ``--resume``. The exit code."""
        if not self.alive and self._process.returncode != 0:
            self._process.communicate()
            self._process = self._start("--resume")
        try:
            self._process.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
        return self._process.wait()

    def results(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.out.read_bytes().splitlines()]


def worker(show: Show, lines: int = LINES) -> None:
    """The process that makes all calls; its supervisor starts it again."""
    with System(CONFIG_WITH_SLOW, BEHAVIOUR) as system:
        undisturbed = _undisturbed(show, system, lines)
        job = Submission(system, "killed", lines)
        show.check(job.until(lines // 3), "the job was over before the kill")
        system.signal("workers")
        _conclude(show, system, job, undisturbed, killed_workers=1)


def everything(show: Show, lines: int = LINES) -> None:
    """Broker, supervisor, stages, workers, the simulated provider and the submit itself; then ``up`` and ``--resume``."""
    with System(CONFIG_WITH_SLOW, BEHAVIOUR) as system:
        undisturbed = _undisturbed(show, system, lines)
        job = Submission(system, "killed", lines)
        show.check(job.until(lines // 3), "the job was over before the kill")
        system.kill_everything()
        show.check(not (left := system.orphans_after(ORPHANS_S)), f"still there after the kill: {left}")
        began = time.monotonic()
        system.start()
        show.say(up_again_after_s=round(time.monotonic() - began, 1))
        _conclude(show, system, job, undisturbed, killed_workers=1)


def supervisor(show: Show, lines: int = LINES) -> None:
    """All must die with it; the submit waits for the broker, and goes on by itself."""
    with System(CONFIG_WITH_SLOW, BEHAVIOUR) as system:
        undisturbed = _undisturbed(show, system, lines)
        job = Submission(system, "killed", lines)
        show.check(job.until(lines // 3), "the job was over before the kill")
        system.kill_supervisor()
        show.check(not (left := system.orphans_after(ORPHANS_S, but=[job.pid])), f"left without a supervisor: {left}")
        show.check(job.alive, "the submit ended with the broker")
        began = time.monotonic()
        system.start()
        show.say(up_again_after_s=round(time.monotonic() - began, 1))
        _conclude(show, system, job, undisturbed, killed_workers=1)


def _undisturbed(show: Show, system: System, lines: int) -> float:
    """Share of ok of the same job when nothing happens to it."""
    job = Submission(system, "undisturbed", lines)
    show.check(job.finish() == 0, "the undisturbed submit failed")
    share = summary(job.results()).get("ok", 0) / job.count
    calls = system.calls()
    show.say(undisturbed_ok_share=round(share, 4), undisturbed_repeated_calls=calls.repeated)
    return share


def _conclude(show: Show, system: System, job: Submission, undisturbed: float, *, killed_workers: int) -> None:
    show.say(lines_at_the_kill=job.written())
    code = job.finish()
    show.check(code == 0, f"submit ended with {code}")
    results = job.results()
    show.results(system, results, job.count)
    share, repeated = show.figures["ok_share"], show.figures["repeated_calls"]
    show.check(share >= undisturbed, f"{share:.2%} are ok, {undisturbed:.2%} undisturbed")
    there = len(system.records("results"))
    show.say(results_in_the_topic=there, calls_per_request=round(show.figures["calls"] / 2 / job.count, 3))
    show.check(there == 2 * job.count, f"{there} results in the topic for {2 * job.count} requests")
    allowed = killed_workers * sum(model["concurrency"] for model in system.config["models"].values())
    show.check(repeated <= allowed, f"{repeated} calls were made again, {allowed} were in hand at most")
    show.say(most_repeats_allowed=allowed)
    show.audit(system)
    system.stop()
    show.check(not (left := system.orphans_after(ORPHANS_S)), f"left after the end: {left}")
    show.conclude(system)
