"""Everything on one machine: the broker and a few processes of the router, kept running, ended together.

Rules
- A child that ends is started again, soon at first, later after up to ``RESTART_MAX_S``; one that lived
  ``SETTLED_S`` is forgiven.
- All die with the supervisor, whatever kills it: each child asks the kernel to be killed when its parent ends
  (``bind_to_parent``), the embedded broker does the same.
- Orderly end: SIGTERM to all, ``GRACE_S`` to finish, then SIGKILL; the broker goes last.
- Children have static group ids, so a restart takes its partitions back without waiting for a session to time out.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

RESTART_MIN_S = 0.1
RESTART_MAX_S = 5.0
SETTLED_S = 20.0
GRACE_S = 8.0
#: Of a log, to find its last line in.
LAST_BYTES = 2_000

PARENT = "POINTSMAN_PARENT"
#: Tells a child its slot: the static group id of its stages ends with it.
SLOT = "POINTSMAN_SLOT"


def bind_to_parent() -> None:
    """In a child: be killed when the supervisor ends, also by SIGKILL. Does nothing for a process without one."""
    parent = os.environ.get(PARENT)
    if not parent or sys.platform != "linux":
        return
    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != int(parent):  # it ended before we asked
        os._exit(1)


@dataclass(slots=True)
class Child:
    """One process to keep running. ``arguments`` are those of ``pointsman``."""

    name: str
    arguments: Sequence[str]
    log: Path
    env: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    restarts: int = 0
    wait_s: float = RESTART_MIN_S
    start_at_s: float = 0.0

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None and self.process.poll() is None else None


class Supervisor:
    """Starts children, restarts what ends, stops all; ``say`` hears of each end.

    Must be created, run and stopped on one thread: the kernel ties the children's lives to the thread that forked them.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.children: dict[str, Child] = {}
        self._say = say

    def add(self, name: str, arguments: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        """Start ``pointsman`` with ``arguments`` and keep it running; its output goes to ``log``."""
        log.parent.mkdir(parents=True, exist_ok=True)
        child = self.children[name] = Child(name, arguments, log, env)
        self._start(child)

    def poll(self) -> None:
        """Look once after each child; call it several times a second."""
        now_s = time.monotonic()
        for child in self.children.values():
            if child.process is None:
                if now_s >= child.start_at_s:
                    self._start(child)
            elif (code := child.process.poll()) is not None:
                self._ended(child, code, now_s)

    def stop(self) -> None:
        """End all children, in order if they can."""
        running = [child.process for child in self.children.values() if child.process is not None]
        for process in running:
            if process.poll() is None:
                process.terminate()
        deadline_s = time.monotonic() + GRACE_S
        for process in running:
            try:
                process.wait(max(0.0, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.children.clear()

    def _start(self, child: Child) -> None:
        child.started_s = time.monotonic()
        with child.log.open("ab") as log:
            child.process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-m", "router", *child.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**child.env, PARENT: str(os.getpid()), SLOT: "0"},
                start_new_session=True,  # Ctrl-C is the supervisor's to pass on
            )

    def _ended(self, child: Child, code: int, now_s: float) -> None:
        if now_s - child.started_s > SETTLED_S:
            child.wait_s = RESTART_MIN_S
        child.process = None
        child.restarts += 1
        child.start_at_s = now_s + child.wait_s
        child.wait_s = min(child.wait_s * 2, RESTART_MAX_S)
        self._say(f"{child.name} ended ({_cause(code, child.log)}), starting it again; its log: {child.log}")


def _cause(code: int, log: Path) -> str:
    if code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}: {_last_words(log)}"


def _last_words(log: Path) -> str:
    """The last line of a log, which after an error is what it says."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_BYTES))
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"
