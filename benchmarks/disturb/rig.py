"""An installation whose broker, network, clocks and processes can be disturbed.

| brokers | what runs |
|---|---|
| ``own`` | ``pointsman up`` with its embedded broker |
| ``proxied`` | one broker behind a network that can be disturbed |
| ``three`` | three brokers with copies of each other's data |
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import struct
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from benchmarks.disturb.proxy import Proxy
from benchmarks.system import PATIENCE_S, System, wait_for
from router import stages as rooms
from router.kafka.embedded import EmbeddedKafka, dying_with_parent
from router.kafka.embedded_cluster import EmbeddedCluster
from router.up import STAGE_PROCESSES, WEB, WORKERS, says_ready
from router.web.registry import running

Brokers = Literal["own", "proxied", "three"]

CONFIG = """
[models.small]
provider = "sim"
input_usd_per_mtok = 0.15
output_usd_per_mtok = 0.60
concurrency = 32
[models.large]
provider = "sim"
input_usd_per_mtok = 2.50
output_usd_per_mtok = 10.00
concurrency = 32
[models.elsewhere]
provider = "external"
input_usd_per_mtok = 0.15
output_usd_per_mtok = 0.60
[pools.auto]
models = ["small", "large"]
baseline = "large"
[pools.pile]
models = ["elsewhere"]
baseline = "elsewhere"
[pools.still]
models = ["small", "large"]
baseline = "large"
[account]
window_s = 5
grace_s = 2
[web]
port = 0
"""
#: Lanes that come and go between processes; ``up`` by itself makes one.
PARTITIONS = 4
#: A model that joins and leaves while all goes on.
GUEST = """
[models.guest]
provider = "sim"
input_usd_per_mtok = 0.50
output_usd_per_mtok = 1.00
concurrency = 32
"""
#: Some calls fail, so that retries are under way at any time; in the end all requests are ok.
BEHAVIOUR = """
[models.default]
latency_ms = 150
latency_sigma = 0.5
[models.default.errors]
503 = 0.02
"""
#: Calls in hand of a process that serves both models. Half of it is too few where three brokers share two cores: slots are
#: held until outcomes are committed, the queue of ``large`` grows, and deadlines pass without any fault.
CONCURRENCY = 64
READY_S = 180.0
CLOCK = Path(__file__).parent / "clock"


@dataclass(frozen=True, slots=True)
class Beside:
    """A process that ``up`` knows nothing of."""

    process: subprocess.Popen[bytes]

    def end(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait()


class Rig(System):
    """See the module's text.

    ``moved_clock``: whether one has been wrong. ``most_repeats``: how many calls may have been made again because of what
    was done so far.
    """

    def __init__(self, brokers: Brokers = "own", *, apart: bool = False) -> None:
        copies = 3 if brokers == "three" else 1
        super().__init__(f"[kafka]\npartitions = {PARTITIONS}\nreplication_factor = {copies}\n{CONFIG}", BEHAVIOUR)
        self.config["models"] |= tomllib.loads(GUEST)["models"]  # for the audit's price list
        self.brokers = brokers
        self.apart = apart
        self.proxy: Proxy | None = None
        self.cluster: EmbeddedCluster | None = None
        self._broker: EmbeddedKafka | None = None
        self.moved_clock = False
        self._crashes = 0
        self._clocks = self.folder / "clocks"
        self._clocks.mkdir()
        root = Path(__file__).resolve().parents[2]
        path = [str(CLOCK), str(root), *filter(None, [self.env.get("PYTHONPATH")])]
        self.env |= {"PYTHONPATH": os.pathsep.join(path), "POINTSMAN_CLOCKS": str(self._clocks)}
        if apart:
            self.options.append("--apart")

    def start(self, timeout_s: float = PATIENCE_S) -> Self:
        if self.brokers == "three" and self.cluster is None:
            self.cluster = EmbeddedCluster(data_dir=self.folder / "brokers").start()
        if self.brokers == "proxied" and self._broker is None:
            self.proxy = Proxy()
            self._broker = EmbeddedKafka(data_dir=self.folder / "broker", advertised=self.proxy.port).start()
            self.proxy.start(int(self._broker.bootstrap.rpartition(":")[2]))
        if self.brokers != "own":
            self.env["BROKER"] = self.bootstrap
        super().start(timeout_s)
        return self

    def stop(self) -> int | None:
        code = super().stop()
        if self.proxy is not None:
            self.proxy.stop()
        for broker in (self._broker, self.cluster):
            if broker is not None:
                broker.stop()
        self._broker = self.cluster = None
        return code

    @property
    def bootstrap(self) -> str:
        if self.cluster is not None:
            return self.cluster.bootstrap
        return f"127.0.0.1:{self.proxy.port}" if self.proxy is not None else super().bootstrap

    @property
    def broker_pid(self) -> int:
        return self._broker.pid if self._broker is not None else super().broker_pid

    def revive_broker(self) -> None:
        """After it has ended: ``up`` does that by itself for its own."""
        if self._broker is not None:
            self._broker.stop()
            self._broker.start()

    # --- processes ----------------------------------------------------------------------------------------------

    def home_of(self, stage: str) -> str:
        """The process that runs a stage, or a model's worker."""
        if self.apart:
            return stage if not stage.startswith("worker") else "worker-small"
        return next((name for name, stages in STAGE_PROCESSES.items() if stage in stages), WORKERS)

    def makes_calls(self, name: str) -> bool:
        return name.startswith("worker")

    def wait_ready(self, name: str, within_s: float = READY_S) -> None:
        """Until a process says so itself; ``RuntimeError`` when it does not in time."""
        if not wait_for(lambda: self._is_ready(name), within_s):
            raise RuntimeError(f"{name} is not ready after {within_s:.0f} s: see {self.folder}")

    def names(self) -> list[str]:
        """Of all processes that run the router: not the simulator, not the supervisor."""
        if self.apart:
            return [*rooms.NAMES, WEB, "worker-small", "worker-large"]
        return [*STAGE_PROCESSES, WORKERS]

    def _is_ready(self, name: str) -> bool:
        process = next((one for one in running(self.data_dir) if one.name == name), None)
        return process is not None and says_ready(process)

    def pid(self, name: str) -> int:
        """Of a process, which may be about to be started again."""
        wait_for(lambda: name in self.processes, READY_S)
        return self.processes[name]

    def send(self, name: str, number: int) -> None:
        """A signal to a process, unless it ends just now."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid(name), number)

    def beside(self, what: str) -> Beside:
        """A second process that is no child of ``up``: of a stage, or ``worker:MODEL``."""
        kind, _, model = what.partition(":")
        name = f"beside-{what.replace(':', '-')}"
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*self.command, *(["worker", model] if model else ["run", kind]), "--name", name],
                env=self.env | self._given(model),
                stdout=log,
                stderr=log,
                preexec_fn=dying_with_parent(),  # noqa: PLW1509 - one system call
            )
        self.wait_ready(name)
        return Beside(process)

    def _given(self, model: str) -> dict[str, str]:
        """What ``up`` gives its children."""
        environment = Path(f"/proc/{self.pid(self.home_of('worker'))}/environ").read_bytes().decode().split("\0")
        given = dict(entry.split("=", 1) for entry in environment if re.match("POINTSMAN_(SECURITY|MODELS)", entry))
        address = {"POINTSMAN_MODELS__guest__BASE_URL": given["POINTSMAN_MODELS__small__BASE_URL"]}
        return given | (address if model == "guest" else {})

    def move_clock(self, name: str, by_s: float) -> None:
        """Of one process, from now on: to ``by_s`` beside the machine's."""
        self.moved_clock = True
        with contextlib.suppress(OSError):
            file = (self._clocks / str(self.pid(name))).open("r+b")  # never cut: it is mapped
            with file:
                file.write(struct.pack("<q", int(by_s * 1e9)))

    def fill_disk(self, pid: int) -> None:
        """No file of the process can grow any more."""
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

    # --- what it may have cost ----------------------------------------------------------------------------------

    def crashed(self, workers: int = 1) -> None:
        """Something happened after which so many workers may have to make the calls in their hands again."""
        self._crashes += workers

    @property
    def most_repeats(self) -> int:
        ended = re.findall(r"(\S+) ended \(", (self.folder / "up.log").read_text())
        return CONCURRENCY * (self._crashes + sum(self.makes_calls(name) for name in ended))
