"""What the kernel says of a process: CPU time and memory. Linux only."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from benchmarks.system import System

_TICKS = os.sysconf("SC_CLK_TCK")
_MIB = 1024


def cpu_s(pid: int) -> float:
    """User and system time of a process since its start, without its children; 0.0 once it is gone."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS
    return 0.0


def rss_kib(pid: int) -> int:
    """Resident memory, pages shared with others included; 0 once the process is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    return 0


def cpu_of(processes: Mapping[str, int]) -> dict[str, float]:
    """CPU seconds by name."""
    return {name: cpu_s(pid) for name, pid in processes.items()}


def rss_mib_of(processes: Mapping[str, int]) -> dict[str, float]:
    """Resident memory by name, in MiB."""
    return {name: round(rss_kib(pid) / _MIB, 1) for name, pid in processes.items()}


def everyone(system: System) -> dict[str, int]:
    """Name -> pid of all processes of an installation; those that register nowhere by their command line."""
    known = system.processes
    found = {**known, "broker": system.broker_pid}
    for pid in system.orphans():
        if pid not in found.values():
            with contextlib.suppress(OSError):
                arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                found["sim" if b"sim" in arguments else f"other {pid}"] = pid
    return found
