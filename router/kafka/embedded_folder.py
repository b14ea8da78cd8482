"""The folder of an embedded broker: claimed by one broker at a time, and it remembers the broker's ports.

The claim is a ``flock`` on a descriptor that the broker process inherits: it ends when both the program and its broker
have gone, whatever ended them, and leaves no stale file to remove by hand.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

from router.contract.errors import ConfigError, Unavailable

#: A broker killed with its program needs a moment to go: a restart that comes sooner waits.
CLAIM_PATIENCE_S = 3.0

#: Less than this and Kafka would fail midway, with its logs half written.
LEAST_FREE_BYTES = 256 * 1024 * 1024

#: What Kafka leaves when it has ended in order, and removes when it starts.
CLEAN = ".kafka_cleanshutdown"

T = TypeVar("T")


class DataFolder:
    """Claims ``path``; reads and writes its files; errors name the folder and say what to do."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = path / "data"
        self.lock_fd = -1

    @property
    def formatted(self) -> bool:
        return (self.data / "meta.properties").exists()

    @property
    def crashed(self) -> bool:
        """Whether a broker worked here and did not end in order."""
        return self.formatted and (self.data / "__cluster_metadata-0").exists() and not (self.data / CLEAN).exists()

    def claim(self) -> None:
        """Make the folder ours until ``release``; ``ConfigError`` when another broker has it."""
        self._explained(lambda: self.path.mkdir(parents=True, exist_ok=True))
        free_bytes = shutil.disk_usage(self.path).free
        if free_bytes < LEAST_FREE_BYTES:
            raise Unavailable(
                f"the disk of {self.path} has {free_bytes >> 20} MiB left, the broker needs {LEAST_FREE_BYTES >> 20}"
            )
        self.lock_fd = self._explained(lambda: os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600))
        deadline_s = time.monotonic() + CLAIM_PATIENCE_S
        while True:
            try:
                fcntl.flock(self.lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline_s:
                    self.release()
                    raise ConfigError(
                        f"another broker runs in {self.path}; stop it, or choose another data_dir"
                    ) from None
                time.sleep(0.05)
            else:
                return

    def release(self) -> None:
        if self.lock_fd >= 0:
            os.close(self.lock_fd)
            self.lock_fd = -1

    def port(self, wanted: int) -> int:
        """The client port: ``wanted``, else (0) the one of earlier starts, else a free one. Kept from then on."""
        kept = self.path / "port"
        if wanted == 0 and kept.exists():
            wanted = int(kept.read_text())
        if wanted and not is_free(wanted):
            hint = f"; {kept} remembers it, remove that file to take another" if kept.exists() else ""
            raise Unavailable(f"port {wanted} on 127.0.0.1 is taken by another program{hint}")
        port = wanted or free_ports(1)[0]
        self.write("port", str(port))
        return port

    def write(self, name: str, text: str) -> None:
        def put() -> None:
            path = self.path / name
            path.touch(mode=0o600)
            path.write_text(text)

        self._explained(put)

    def read(self, name: str) -> str:
        return (self.path / name).read_text(errors="replace")

    def open(self, name: str) -> BinaryIO:
        return self._explained(lambda: (self.path / name).open("wb"))

    def _explained(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except OSError as error:
            raise Unavailable(f"cannot write in the data folder {self.path}: {error.strerror}") from error


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_ports(count: int) -> list[int]:
    """Loopback ports that are free now, all different."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
