"""An installation of several processes, each of which can run another release: started by hand, as on several machines (``docs/operations.md``).

    with Fleet(old) as fleet:              # ``old``, ``new``: folders with the source of a release
        fleet.replace("settle", new)       # asked to end, and started again with that release's code

All share one virtual environment: releases whose dependencies differ need one each. The broker and the simulated provider belong to neither release.
"""

from __future__ import annotations

import io
import os
import secrets
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Self

from benchmarks.disturb.rig import CONCURRENCY, Rig
from benchmarks.system import STOP_S, wait_for
from router import stages as rooms
from router.cluster import BROKER_FILE
from router.kafka.embedded import EmbeddedKafka, dying_with_parent
from router.kafka.embedded_folder import free_ports
from router.supervisor import SLOT
from router.up import STAGE_PROCESSES, WEB, WORKERS

ROOT = Path(__file__).resolve().parents[2]
MODELS = ("small", "large")
#: All processes start at once, or beside all others: on a busy machine that takes its time.
START_S = 240.0


def unpack(subject: str, folder: Path, repository: Path = ROOT) -> tuple[str, Path]:
    """The newest commit whose first line begins with ``subject``, and its source in a new folder.

    Raises:
        RuntimeError: It cannot be had here: this is a copy without its history, or one that was cut off after the commit.
    """
    log = _git(repository, "log", "--format=%H %s")
    commits = [line.partition(" ") for line in log.stdout.decode(errors="replace").splitlines()]
    commit = next((name for name, _, said in commits if said.startswith(subject)), None)
    archive = log if commit is None else _git(repository, "archive", commit)
    if commit is None or archive.returncode:
        why = archive.stderr.decode(errors="replace").strip() or f"none of {len(commits)} commits begins so"
        raise RuntimeError(
            f"the previous release ({subject!r}) is not in the history of {repository}: an upgrade can only be tried in a clone with all "
            f"of it (`git fetch --unshallow` in a shallow one); git says: {why}"
        )
    folder.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as packed:
        packed.extractall(folder, filter="data")
    return commit, folder


def _git(repository: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", repository, *arguments], capture_output=True, check=False)


class Fleet(Rig):
    """See the module's text. ``source``: what all processes run at first; ``runs``: process -> the source that it was last started with."""

    def __init__(self, source: Path, *, apart: bool = False) -> None:
        super().__init__("own", apart=apart)
        self.runs: dict[str, Path] = {}
        self._source = source
        self._kafka: EmbeddedKafka | None = None
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self.env["POINTSMAN_KAFKA__BROKER"] = ""  # set once it runs

    def start(self, timeout_s: float = 120.0) -> Self:
        """``topics create`` by the release that all start with, then its processes."""
        del timeout_s
        secret, port = self.folder / "secret", free_ports(1)[0]
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_urlsafe(48) + "\n")
        (self.data_dir / "logs").mkdir(parents=True)
        self._kafka = EmbeddedKafka(data_dir=self.folder / "broker").start()
        (self.data_dir / BROKER_FILE).write_text(self._kafka.bootstrap)
        self.env |= {
            "POINTSMAN_KAFKA__BROKER": self._kafka.bootstrap,
            "POINTSMAN_SECURITY__SECRET_FILE": str(secret),
            **{f"POINTSMAN_MODELS__{name}__BASE_URL": f"http://127.0.0.1:{port}/v1" for name in MODELS},
            SLOT: "0",  # a process that comes back takes its partitions at once, as those of ``up`` do
        }
        behaviour = f"--behaviour={self.folder / 'behaviour.toml'}"
        self._spawn("sim", ROOT, ["sim", f"--port={port}", f"--log={self.data_dir / 'sim-calls.jsonl'}", behaviour])
        self.create_topics(self._source)
        for name in self.names():
            self._spawn(name, self._source, self._arguments(name))
        for name in self.names():
            self.wait_ready(name, START_S)
        return self

    def stop(self) -> int | None:
        """The processes, then the broker."""
        for process in self._started.values():
            process.terminate()
        for process in self._started.values():
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._started.clear()
        if self._kafka is not None:
            self._kafka.stop()
            self._kafka = None
        return None

    def names(self) -> list[str]:
        """Workers, route, settle, then what learns, then the web: they are replaced in any order."""
        if self.apart:
            return [*(f"worker-{model}" for model in MODELS), *rooms.NAMES, WEB]
        return [WORKERS, *STAGE_PROCESSES, WEB]

    def create_topics(self, source: Path) -> None:
        """Those of a release that are missing; ``RuntimeError`` with what it said when it fails."""
        done = subprocess.run(
            [*self.command, "topics", "create"],
            cwd=source,
            env=self._environment(source),
            text=True,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"topics create of {source.name}: exit code {done.returncode}: {done.stderr}")

    def replace(self, name: str, source: Path) -> None:
        """Ask a process to end and start it again with another source.

        Raises:
            RuntimeError: It ended otherwise than in order, or the new one is not ready in time.
        """
        process = self._started[name]
        process.send_signal(signal.SIGTERM)
        if not wait_for(lambda: process.poll() is not None, STOP_S, every_s=0.05) or process.returncode:
            raise RuntimeError(
                f"{name} of {self.runs[name].name} did not end in order: {process.returncode}, see {self.folder}"
            )
        self._spawn(name, source, self._arguments(name))
        self.wait_ready(name, START_S)

    def source_of(self, name: str) -> Path:
        """What a running process was started from, as the kernel says."""
        return Path(f"/proc/{self.pid(name)}/cwd").readlink()

    @property
    def most_repeats(self) -> int:
        """A call that outlives the grace of its process is cut off, and made again."""
        return CONCURRENCY * self._crashes

    def _arguments(self, name: str) -> list[str]:
        if name == WEB:
            return ["run", WEB, "--name", name]
        if name == WORKERS:
            return ["worker", *MODELS, "--name", name]
        if name.startswith("worker-"):
            return ["worker", name.removeprefix("worker-"), "--name", name]
        return ["run", *STAGE_PROCESSES.get(name, (name,)), "--name", name]

    def _environment(self, source: Path) -> dict[str, str]:
        """``python -m`` takes its own folder before all others; the variable is for what that starts."""
        return self.env | {"PYTHONPATH": str(source)}

    def _spawn(self, name: str, source: Path, arguments: list[str]) -> None:
        self.runs[name] = source
        with (self.data_dir / "logs" / f"{name}.log").open("ab") as log:
            self._started[name] = subprocess.Popen(
                [sys.executable, "-m", "router", *arguments],
                cwd=source,
                env=self._environment(source),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=dying_with_parent(),  # noqa: PLW1509 - one system call
            )


def code_of(source: Path) -> Path:
    """Where ``python -m router`` in a source folder takes its code from: a folder that is shadowed by an installed release would try nothing."""
    command = [sys.executable, "-c", "import router; print(router.__file__)"]
    env = os.environ | {"PYTHONPATH": str(source)}
    found = subprocess.run(command, cwd=source, env=env, text=True, capture_output=True, check=True)
    return Path(found.stdout.strip()).resolve().parents[1]
