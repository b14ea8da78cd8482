"""Some processes of the router on a broker of their own, without workers: for figures of the stages alone.

    with EmbeddedKafka() as kafka, Stages(kafka.bootstrap, "round1", PROCESSES["all stages"]) as stages:
        ...

The workers are played by ``benchmarks.stub``. For a whole installation see ``benchmarks.system``.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from router.cluster import create_topics
from router.config import loads
from router.contract.topics import Names
from router.kafka.client import Client
from router.kafka.embedded import dying_with_parent
from router.up import STAGE_PROCESSES
from router.web.registry import running

READY_S, STOP_S = 90.0, 20.0
MODELS = ("small", "large")

CONFIG = """
[models.small]
provider = "external"
input_usd_per_mtok = 0.15
output_usd_per_mtok = 0.60
[models.large]
provider = "external"
input_usd_per_mtok = 2.50
output_usd_per_mtok = 10.00
[pools.auto]
models = ["small", "large"]
baseline = "large"
[web]
port = 0
"""

#: By name: which processes run, and the stages of each. ``all stages`` is what ``pointsman up`` runs, but for workers.
PROCESSES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "route and settle": {name: STAGE_PROCESSES[name] for name in ("route", "settle")},
    "all stages": {**STAGE_PROCESSES, "web": ("web",)},
}


class Stages:
    """Processes of the router under a topic prefix of their own. ``pids`` by name."""

    def __init__(
        self, bootstrap: str, prefix: str, processes: Mapping[str, Sequence[str]], *, config: str = CONFIG
    ) -> None:
        self.bootstrap, self.names = bootstrap, Names(prefix)
        self.folder = Path(tempfile.mkdtemp(prefix="pointsman-stages-"))
        (self.folder / "secret").write_text("a secret for benchmarks, nothing else\n")
        place = self.folder / "pointsman.toml"
        place.write_text(config)
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN_")},
            "BROKER": bootstrap,
            "POINTSMAN_CONFIG": str(place),
            "POINTSMAN_KAFKA__DATA_DIR": str(self.folder),
            "POINTSMAN_KAFKA__PREFIX": prefix,
            "POINTSMAN_SECURITY__SECRET_FILE": str(self.folder / "secret"),
        }
        self._config = loads(config, environ={"BROKER": bootstrap, "POINTSMAN_KAFKA__PREFIX": prefix})
        self._wanted = processes
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def pids(self) -> dict[str, int]:
        return {name: process.pid for name, process in self._running.items()}

    def create_topics(self) -> None:
        """So that requests can be laid out before anyone reads them."""
        asyncio.run(create_topics(Client(self.bootstrap), self._config))

    def start(self) -> Self:
        """Returns when all are ready; raises ``RuntimeError`` with a log when one is not."""
        self.join(self._wanted)
        return self

    def join(self, processes: Mapping[str, Sequence[str]]) -> None:
        """Start further ones, as ``start`` does."""
        for name, stages in processes.items():
            with (self.folder / f"{name}.log").open("ab") as log:
                self._running[name] = subprocess.Popen(
                    [sys.executable, "-m", "router", "run", *stages, "--name", name],
                    env=self.env,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    preexec_fn=dying_with_parent(),  # noqa: PLW1509 - one system call
                )
        deadline_s = time.monotonic() + READY_S
        waiting = dict(processes)
        while waiting:
            self.check()
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"not ready: {', '.join(waiting)}\n{self._logs(waiting)}")
            for process in running(self.folder):
                if process.name in waiting and _answers(f"http://{process.host}:{process.port}/readyz"):
                    del waiting[process.name]
            time.sleep(0.05)

    def leave(self, names: Iterable[str], how: signal.Signals) -> None:
        """Send these a signal; returns when they have ended."""
        leaving = [self._running.pop(name) for name in names]
        for process in leaving:
            process.send_signal(how)
        for process in leaving:
            process.wait(STOP_S)

    def check(self) -> None:
        """Raises ``RuntimeError`` with its log when a process has ended."""
        ended = [name for name, process in self._running.items() if process.poll() is not None]
        if ended:
            raise RuntimeError(f"ended: {', '.join(ended)}\n{self._logs(ended)}")

    def stop(self) -> None:
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        for process in self._running.values():
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _logs(self, names: Sequence[str] | Mapping[str, object]) -> str:
        return "\n".join(f"--- {name}\n{(self.folder / f'{name}.log').read_text()[-2000:]}" for name in names)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
