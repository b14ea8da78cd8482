"""A network between clients and a broker that can be disturbed: a TCP proxy in a process of its own.

| order | what happens |
|---|---|
| ``delay`` | every byte arrives that much later |
| ``cut`` | connections end, new ones are refused |
| ``mute`` | connections stay, nothing arrives |
| ``heal`` | all is well again; what was held back arrives |
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from types import TracebackType
from typing import Self

from router.kafka.embedded import dying_with_parent
from router.kafka.embedded_folder import free_ports

CHUNK_BYTES = 256 * 1024


class Proxy:
    """Listens on ``port``, for a broker at ``target``; both on loopback."""

    def __init__(self) -> None:
        self.port = free_ports(1)[0]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, target: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.disturb.proxy", str(self.port), str(target)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=dying_with_parent(),  # noqa: PLW1509 - one system call
        )
        self._answer()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()  # closes the pipes, too
            self._process = None

    def delay(self, ms: int) -> None:
        self._tell(f"delay {ms}")

    def cut(self) -> None:
        self._tell("cut")

    def mute(self) -> None:
        self._tell("mute")

    def heal(self) -> None:
        self._tell("heal")

    def _tell(self, order: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(order.encode() + b"\n")
        self._process.stdin.flush()
        self._answer()

    def _answer(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ok\n":
            raise RuntimeError("the proxy has ended")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Network:
    """The state of the network, and the connections through it."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._delay_s = 0.0
        self._cut = False
        self._open = asyncio.Event()
        self._open.set()
        self._connections: set[asyncio.Task[None]] = set()

    def order(self, line: str) -> None:
        """One line as ``Proxy`` writes it."""
        what, _, how = line.partition(" ")
        self._delay_s = int(how) / 1000 if what == "delay" else 0.0
        self._cut = what == "cut"
        if what == "mute":
            self._open.clear()
        else:
            self._open.set()
        if self._cut:
            for connection in self._connections:
                connection.cancel()

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, until either side ends."""
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        ends = [writer]
        try:
            if not self._cut:
                await self._open.wait()
                there, back = await asyncio.open_connection("127.0.0.1", self._target)
                ends.append(back)
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pass_on(reader, back))
                    both.create_task(self._pass_on(there, writer))
        except* (OSError, asyncio.CancelledError, EOFError):
            pass
        finally:
            self._connections.discard(connection)
            for end in ends:
                end.transport.abort()

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Bytes in their order, each ``delay`` after it came; ends both ways when the source ends."""
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)
        clock = asyncio.get_running_loop().time

        async def deliver() -> None:
            while True:
                due_s, chunk = await late.get()
                if (left_s := due_s - clock()) > 0:
                    await asyncio.sleep(left_s)
                await self._open.wait()
                sink.write(chunk)
                await sink.drain()

        delivering = asyncio.create_task(deliver())
        try:
            while chunk := await source.read(CHUNK_BYTES):
                await late.put((clock() + self._delay_s, chunk))
        finally:
            delivering.cancel()
        raise EOFError


async def _serve(port: int, target: int) -> None:
    network = Network(target)
    server = await asyncio.start_server(network.connect, "127.0.0.1", port)
    loop = asyncio.get_running_loop()
    async with server:
        sys.stdout.write("ok\n")
        sys.stdout.flush()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            network.order(line.strip())
            sys.stdout.write("ok\n")
            sys.stdout.flush()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
