"""A whole installation as a program would meet it: ``pointsman up`` as a process, spoken to through Kafka alone.

    with System(config=..., behaviour=...) as system:
        system.produce("requests", requests(1000))
        results = system.results(1000, within_s=60)

For the fault runs and the end-to-end tests. Everything it starts dies with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord

from router.contract.ids import request_id
from router.web.registry import running

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
[pools.auto]
models = ["small", "large"]
baseline = "large"
policy = "fixed"
weights = { small = 0.5, large = 0.5 }
[account]
window_s = 5
grace_s = 2
[web]
port = 0
"""

BEHAVIOUR = """
[models.default]
latency_ms = 50
latency_sigma = 0.2
"""


def request(custom_id: str, *, model: str = "auto", text: str = "hello", **router: Any) -> dict[str, Any]:
    """One valid request."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 64}
    line = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}
    return line | ({"router": router} if router else {})


def requests(count: int, name: str = "r", **how: Any) -> list[dict[str, Any]]:
    """``count`` different requests."""
    return [request(f"{name}-{number}", **how) for number in range(count)]


@dataclass(frozen=True, slots=True)
class Calls:
    """What the simulated provider was asked."""

    started: int
    repeated: int


class System:
    """``pointsman up`` in a folder of its own. ``processes``: names of those that run, with their pids."""

    def __init__(self, config: str = CONFIG, behaviour: str = BEHAVIOUR, *, prefix: str = "llm") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pointsman-system-"))
        self.data_dir = self.folder / "data"
        self.prefix = prefix
        (self.folder / "pointsman.toml").write_text(config)
        (self.folder / "behaviour.toml").write_text(behaviour)
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN_")},
            "POINTSMAN_CONFIG": str(self.folder / "pointsman.toml"),
            "POINTSMAN_KAFKA__DATA_DIR": str(self.data_dir),
            "POINTSMAN_KAFKA__PREFIX": prefix,
        }
        self.env.pop("BROKER", None)
        self._up: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- life ---------------------------------------------------------------------------------------------------

    def start(self, timeout_s: float = 90.0) -> Self:
        """Returns when everything is ready."""
        log = (self.folder / "up.log").open("ab")
        with log:
            self._up = subprocess.Popen(
                [*self.command, "up", f"--sim-behaviour={self.folder / 'behaviour.toml'}"],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        began = (self.folder / "up.log").read_text().count("ready: http")
        deadline = time.monotonic() + timeout_s
        while (self.folder / "up.log").read_text().count("ready: http") == began:
            if self._up.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "up.log").read_text())
            time.sleep(0.1)
        return self

    def stop(self) -> int | None:
        """End in order; returns the exit code."""
        if self._up is None:
            return None
        self._up.send_signal(signal.SIGTERM)
        try:
            return self._up.wait(30)
        except subprocess.TimeoutExpired:
            self._up.kill()
            return self._up.wait()

    def kill_supervisor(self) -> None:
        assert self._up is not None
        self._up.kill()
        self._up.wait()

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "router"]

    def run(self, *arguments: str, **how: Any) -> subprocess.CompletedProcess[str]:
        """``pointsman ARGUMENTS``, to its end."""
        return subprocess.run([*self.command, *arguments], env=self.env, text=True, capture_output=True, check=False, **how)

    def spawn(self, *arguments: str) -> subprocess.Popen[str]:
        """``pointsman ARGUMENTS``, left running."""
        return subprocess.Popen(
            [*self.command, *arguments], env=self.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    @property
    def processes(self) -> dict[str, int]:
        return {process.name: process.pid for process in running(self.data_dir)}

    def signal(self, name: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to one process; returns its pid."""
        pid = self.processes[name]
        os.kill(pid, number)
        return pid

    def orphans(self) -> list[int]:
        """Processes of this installation that live though their supervisor does not."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if str(self.data_dir).encode() in entry.read_bytes() and (pid := int(entry.parent.name)) != os.getpid():
                    found.append(pid)
        return found

    # --- Kafka --------------------------------------------------------------------------------------------------

    @property
    def bootstrap(self) -> str:
        return (self.data_dir / "broker").read_text()

    def topic(self, name: str) -> str:
        return f"{self.prefix}.{name}"

    def produce(
        self, topic: str, values: Iterable[Any], *, rate: float | None = None, key: bytes | None = None, **producer: Any
    ) -> None:
        """Dictionaries as JSON, bytes as they are; ``rate`` a second."""
        asyncio.run(self._produce(topic, list(values), rate, key, producer))

    async def _produce(
        self, topic: str, values: Sequence[Any], rate: float | None, key: bytes | None, how: dict[str, Any]
    ) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self.bootstrap, max_request_size=6_000_000, **how) as producer:
            began = time.monotonic()
            for number, value in enumerate(values):
                if rate and number % 10 == 0:
                    await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
                content = value if isinstance(value, bytes) else orjson.dumps(value)
                await producer.send(self.topic(topic), content, key=key or _key(value))
            await producer.flush()

    def records(self, *topics: str, isolation: str = "read_committed") -> list[ConsumerRecord]:
        """All that is committed in these topics now."""
        return asyncio.run(read_topics(self.bootstrap, [self.topic(topic) for topic in topics], isolation))

    def results(self, count: int, within_s: float = 60.0, settle_s: float = 1.0) -> list[dict[str, Any]]:
        """Waits for ``count`` results, then ``settle_s`` more for any that should not come."""
        deadline = time.monotonic() + within_s
        while len(self.records("results")) < count and time.monotonic() < deadline:
            time.sleep(0.5)
        time.sleep(settle_s)
        return [orjson.loads(record.value) for record in self.records("results")]

    # --- the provider -------------------------------------------------------------------------------------------

    def calls(self) -> Calls:
        """From the simulator's call log."""
        keys: Counter[str] = Counter()
        for line in (self.data_dir / "sim-calls.jsonl").read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                entry = json.loads(line)
                if entry.get("event") == "start":
                    keys[entry["key"]] += 1
        return Calls(sum(keys.values()), sum(count - 1 for count in keys.values()))


def _key(value: Any) -> bytes | None:
    if not isinstance(value, dict) or not isinstance(value.get("custom_id"), str):
        return None
    tenant = (value.get("router") or {}).get("tenant", "default")
    return request_id(tenant, value["custom_id"]).encode() if isinstance(tenant, str) else None


async def read_topics(bootstrap: str, topics: Sequence[str], isolation: str = "read_committed") -> list[ConsumerRecord]:
    """Everything in some topics, up to their ends as of now."""
    consumer = AIOKafkaConsumer(
        *topics, bootstrap_servers=bootstrap, isolation_level=isolation, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        tps = list(consumer.assignment())
        ends = await consumer.end_offsets(tps)
        found: list[ConsumerRecord] = []
        while any([await consumer.position(tp) < ends[tp] for tp in tps]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += records
        return found
    finally:
        await consumer.stop()


def summary(results: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Results by outcome: ``ok`` or the error's code."""
    return dict(Counter((result["error"] or {"code": "ok"})["code"] for result in results))


@contextlib.contextmanager
def timed(label: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    print(f"{label}: {time.monotonic() - began:.1f} s", file=sys.stderr)
