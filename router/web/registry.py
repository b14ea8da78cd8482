"""Which processes of an installation run on this machine: one small file each in ``<data_dir>/processes``.

A process writes its file once it serves and removes it at an orderly end. After a crash the file stays; who reads it
asks whether the pid lives, and since a pid may have a new owner, whether it started when the file says. Standard
library only: ``status`` reads this without Kafka, HTTP or models.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from router.contract.releases import by_name

FOLDER = "processes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process and where it serves ``/healthz``, ``/readyz`` and ``/metrics``. ``birth``: the kernel's word, 0 unknown."""

    name: str
    pid: int
    host: str
    port: int
    started_at_ms: int
    birth: int = 0


def register(data_dir: Path, name: str, host: str, port: int) -> Path:
    """Write this process's file, whole or not at all; returns it, for ``unlink`` at the end."""
    folder = data_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    pid = os.getpid()
    process = Process(
        name=name, pid=pid, host=host, port=port, started_at_ms=time.time_ns() // 1_000_000, birth=_birth(pid)
    )
    path = folder / f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', name)}.{pid}.json"
    write_whole(path, json.dumps(asdict(process)).encode())
    return path


def running(data_dir: Path) -> list[Process]:
    """The processes that live, by name. Files that no one can read, and those of the dead, are passed over."""
    found = []
    for path in sorted((data_dir / FOLDER).glob("*.json")):
        try:
            process = by_name(Process, json.loads(path.read_bytes()))
            alive = process.birth == _birth(process.pid)
        except (OSError, ValueError, TypeError):
            continue
        if alive:
            found.append(process)
    return sorted(found, key=lambda process: (process.name, process.pid))


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file so that a reader sees the old or the new content, never a part; ``OSError`` when it cannot."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(content)
    beside.replace(path)


def _birth(pid: int) -> int:
    """When a process started, in the kernel's ticks since boot; 0 where there is no /proc but the process lives.

    ``ProcessLookupError`` when it does not.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            raise ProcessLookupError(pid) from None
        with contextlib.suppress(PermissionError):  # it lives, under another user
            os.kill(pid, 0)
        return 0
    fields = stat.rpartition(")")[2].split()
    if fields[0] in {"Z", "X"}:  # ended, only its parent has not looked yet
        raise ProcessLookupError(pid)
    return int(fields[19])
