"""Everything on one machine: ``pointsman up``.

    embedded Kafka (unless a broker is named) -> topics -> [simulated provider] -> route | settle | feedback account
    learn watch | workers, web

What must survive lies in the data folder: the broker's log, the secret that signs slips, tables, logs of the
processes. One ``up`` a folder: a second one is refused. The calling thread must be the main one and outlive it all.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import socket
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from router import stages as rooms
from router.cluster import BROKER_FILE, EMBEDDED_PARTITIONS, client_of, create_topics
from router.config import Config
from router.contract.errors import ConfigError, Unavailable
from router.kafka.embedded import EmbeddedKafka
from router.kafka.embedded_folder import free_ports
from router.supervisor import Child, Supervisor
from router.web.registry import Process, running

SECRET_FILE = "secret"  # noqa: S105 - its name
#: On a machine that does much else a start takes a minute and more.
READY_S = 180.0
#: A broker that ended is started so many times, with 2, 4 ... s between, before ``up`` gives up.
MOST_STARTS = 5

#: Which stages share a process: those that carry requests have one of their own.
STAGE_PROCESSES = {"route": ("route",), "settle": ("settle",), "learning": ("feedback", "account", "learn", "watch")}
WORKERS, WEB = "workers", "web"
SIM = "sim"

Say = Callable[[str], None]


class Machine:
    """``with Machine(config, say) as machine: machine.wait_ready(); machine.run(until)``.

    Args:
        say: gets a line for each thing that happens, with the seconds since the start.
        sim_behaviour: file with the behaviour of the simulated models; serves those without a ``base_url``.
        apart: every stage and every worker gets a process of its own.
    """

    def __init__(self, config: Config, say: Say, *, sim_behaviour: Path | None = None, apart: bool = False) -> None:
        self.config = config
        self.data_dir = config.kafka.data_dir.resolve()
        self.sim_log = self.data_dir / "sim-calls.jsonl"
        self._say, self._sim_behaviour, self._apart = say, sim_behaviour, apart
        self._began_s = time.monotonic()
        self._broker: EmbeddedKafka | None = None
        self._failed_starts, self._revive_s = 0, 0.0
        self._lock: TextIO | None = None
        self._supervisor = Supervisor(self._tell)
        self.sim_port = 0

    def __enter__(self) -> Self:
        try:
            self._claim()
            self._start_broker()
            self._tell(str(asyncio.run(create_topics(client_of(self.config), self.config))))
            self._start_processes()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, until: Callable[[], bool]) -> None:
        """Keep all of it running until ``until()`` is true."""
        while not until():
            self._supervisor.poll()
            if self._broker is not None and not self._broker.alive and time.monotonic() >= self._revive_s:
                self._revive(self._broker)
            time.sleep(0.05)

    def _revive(self, broker: EmbeddedKafka) -> None:
        """Start it again on its data, several times if need be: what ended it may not be over yet."""
        self._tell("the broker ended, starting it again")
        broker.stop()
        try:
            broker.start()
            self._failed_starts = 0
            self._tell("the broker runs again")
        except Unavailable as error:
            self._failed_starts += 1
            if self._failed_starts >= MOST_STARTS:
                raise
            wait_s = 2**self._failed_starts
            self._revive_s = time.monotonic() + wait_s
            self._tell(f"{str(error).splitlines()[0]}; trying again in {wait_s} s")

    def wait_ready(self, given_up: Callable[[], bool] = lambda: False, timeout_s: float = READY_S) -> None:
        """Return when every process says that it is ready, or when ``given_up()`` is true.

        Raises:
            Unavailable: one is not in time; names its log.
        """
        began_s = time.monotonic()
        waiting = dict(self._supervisor.children)

        def ready() -> bool:
            for name in [name for name, child in waiting.items() if self._is_ready(child)]:
                del waiting[name]
                self._tell(f"{name} ready")
            if waiting and time.monotonic() > began_s + timeout_s:
                logs = ", ".join(str(child.log) for child in waiting.values())
                raise Unavailable(f"not ready after {timeout_s:.0f} s: {', '.join(waiting)}; see {logs}")
            return not waiting

        self.run(lambda: given_up() or ready())

    def status_url(self) -> str:
        """Where the web stage answers; its port may have been any free one."""
        web = next((process for process in running(self.data_dir) if process.name in {WORKERS, WEB}), None)
        port = web.port if web is not None else self.config.web.port
        return f"http://{self.config.web.host}:{port}/v1/status"

    def close(self) -> None:
        """End all of it, the broker last."""
        self._supervisor.stop()
        if self._broker is not None:
            self._broker.stop()
            (self.data_dir / BROKER_FILE).unlink(missing_ok=True)
            self._broker = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _is_ready(self, child: Child) -> bool:
        """Whether the process itself says so; the simulated provider is ready when it listens."""
        if child.name == SIM:
            return _connects(self.sim_port)
        for process in running(self.data_dir):
            if process.pid == child.pid:
                return says_ready(process)
        return False

    def _tell(self, text: str) -> None:
        self._say(f"{time.monotonic() - self._began_s:5.1f} s  {text}")

    def _claim(self) -> None:
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            self._lock = (self.data_dir / "up.lock").open("w")
        except OSError as error:
            raise ConfigError(f"kafka.data_dir: cannot write in {self.data_dir}: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"`pointsman up` runs already in {self.data_dir}; stop it, or set kafka.data_dir to another folder"
            ) from None

    def _start_broker(self) -> None:
        if self.config.kafka.broker is not None:
            return
        self._tell("starting Kafka (the first start ever fetches 45 MB)")
        partitions = self.config.kafka.partitions or EMBEDDED_PARTITIONS
        folder = self.data_dir / "kafka"
        self._broker = EmbeddedKafka(data_dir=folder, partitions=partitions, long_lived=True).start()
        (self.data_dir / BROKER_FILE).write_text(self._broker.bootstrap)
        self._tell(f"Kafka {self._broker.version} at {self._broker.bootstrap}, data in {self.data_dir}")

    def _start_processes(self) -> None:
        env = self._environment()
        served = [name for name, model in self.config.models.items() if model.provider != "external"]
        if self._apart:
            for name in (*rooms.NAMES, WEB):
                self._add(name, ["run", name, "--name", name], env)
            for model in served:
                self._add(f"worker-{model}", ["worker", model, "--name", f"worker-{model}"], env)
            return
        for name, stages in STAGE_PROCESSES.items():
            self._add(name, ["run", *stages, "--name", name], env)
        self._add(WORKERS, ["run", "web", *(f"--worker={name}" for name in served), "--name", WORKERS], env)

    def _environment(self) -> dict[str, str]:
        """What the processes are told; starts the simulated provider when a model needs it."""
        env = {**os.environ, "POINTSMAN_KAFKA__DATA_DIR": str(self.data_dir)}
        if self.config.security.secret_env is None and self.config.security.secret_file is None:
            env["POINTSMAN_SECURITY__SECRET_FILE"] = str(_secret(self.data_dir))
        models = self.config.models.items()
        simulated = [name for name, model in models if model.provider == "sim" and model.base_url is None]
        if simulated:
            self.sim_port = port = free_ports(1)[0]
            behaviour = [f"--behaviour={self._sim_behaviour}"] if self._sim_behaviour else []
            self._add(SIM, ["sim", f"--port={port}", f"--log={self.sim_log}", *behaviour], env)
            env |= {f"POINTSMAN_MODELS__{name}__BASE_URL": f"http://127.0.0.1:{port}/v1" for name in simulated}
        return env

    def _add(self, name: str, arguments: Sequence[str], env: dict[str, str]) -> None:
        self._supervisor.add(name, arguments, self.data_dir / "logs" / f"{name}.log", dict(env))


def says_ready(process: Process) -> bool:
    """Whether a process itself says that it is ready."""
    try:
        with urllib.request.urlopen(f"http://{process.host}:{process.port}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _secret(data_dir: Path) -> Path:
    """Made once, kept for good: what it signed must stay genuine after a restart."""
    place = data_dir / SECRET_FILE
    if not place.exists():
        fresh = place.with_name(place.name + ".new")
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_urlsafe(48) + "\n")
        fresh.replace(place)
    return place


def _connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
