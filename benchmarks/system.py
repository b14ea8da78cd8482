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
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord

from benchmarks.reader import Reader
from router.contract.ids import request_id
from router.contract.topics import Names
from router.history.audit import Ledger, ListPrice, Report, judge
from router.history.audit import read_topics as read_ledger
from router.kafka.client import Client
from router.kafka.embedded import dying_with_parent
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

#: The supervisor's own process, beside the names of those it started.
SUPERVISOR = "up"
STOP_S = 60.0
#: How long a test waits for what must come: no longer than it has to, and on a machine that does much else, too.
PATIENCE_S = 240.0


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
    """What the simulated provider was asked: calls, and those whose idempotency key it had seen before."""

    started: int
    repeated: int


class System:
    """``pointsman up`` in a folder of its own, which is removed at the end unless ``keep`` is set.

    ``processes``: names of those that run, with their pids.
    """

    def __init__(self, config: str = CONFIG, behaviour: str = BEHAVIOUR, *, prefix: str = "llm") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pointsman-system-"))
        self.data_dir = self.folder / "data"
        self.prefix = prefix
        self.keep = False
        self.config = tomllib.loads(config)
        (self.folder / "pointsman.toml").write_text(config)
        (self.folder / "behaviour.toml").write_text(behaviour)
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN_")},
            "POINTSMAN_CONFIG": str(self.folder / "pointsman.toml"),
            "POINTSMAN_KAFKA__DATA_DIR": str(self.data_dir),
            "POINTSMAN_KAFKA__PREFIX": prefix,
        }
        self.env.pop("BROKER", None)
        self.options = [f"--sim-behaviour={self.folder / 'behaviour.toml'}"]
        self._up: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is None and not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    # --- life ---------------------------------------------------------------------------------------------------

    def start(self, timeout_s: float = PATIENCE_S) -> Self:
        """Returns when everything is ready; raises ``RuntimeError`` with the log if it is not."""
        place = self.folder / "up.log"
        began = len(place.read_text()) if place.exists() else 0
        with place.open("ab") as log:
            self._up = subprocess.Popen(
                [*self.command, "up", *self.options],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=dying_with_parent(),  # noqa: PLW1509 - one system call
            )
        deadline = time.monotonic() + timeout_s
        while "ready: http" not in place.read_text()[began:]:
            if self._up.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(place.read_text()[began:])
            time.sleep(0.1)
        return self

    def stop(self) -> int | None:
        """End in order; returns the exit code, ``None`` if nothing runs."""
        up, self._up = self._up, None
        if up is None or up.poll() is not None:
            return None
        up.send_signal(signal.SIGTERM)
        try:
            return up.wait(STOP_S)
        except subprocess.TimeoutExpired:
            up.kill()
            return up.wait()

    def kill_supervisor(self) -> None:
        assert self._up is not None
        self._up.kill()
        self._up.wait()

    def kill_everything(self) -> None:
        """SIGKILL to every process of the installation at once: broker, supervisor, and whatever uses the folder."""
        assert self._up is not None
        pids = self.orphans()
        for pid in pids:  # all stand still first, so that none sees another die
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._up.wait()

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "router"]

    def run(self, *arguments: str, **how: Any) -> subprocess.CompletedProcess[str]:
        """``pointsman ARGUMENTS``, to its end."""
        command = [*self.command, *arguments]
        return subprocess.run(command, env=self.env, text=True, capture_output=True, check=False, **how)

    def spawn(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """``pointsman ARGUMENTS``, left running; ``variables`` of its environment are further ones."""
        return subprocess.Popen(
            [*self.command, *arguments],
            env=self.env | variables,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=dying_with_parent(),  # noqa: PLW1509 - one system call
        )

    @property
    def processes(self) -> dict[str, int]:
        found = {process.name: process.pid for process in running(self.data_dir)}
        return found | ({SUPERVISOR: self._up.pid} if self._up is not None else {})

    def signal(self, name: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to one process; returns its pid."""
        pid = self.processes[name]
        os.kill(pid, number)
        return pid

    @property
    def broker_pid(self) -> int:
        """Of the embedded broker."""
        for pid in self.orphans():
            with contextlib.suppress(OSError):
                if b"kafka.Kafka" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        raise RuntimeError("no broker runs")

    def orphans(self) -> list[int]:
        """Processes of this installation that live; after its end there must be none."""
        return living_with(str(self.data_dir))

    def orphans_after(self, within_s: float, *, but: Iterable[int] = ()) -> list[int]:
        """Those that still live when the time is over; returns at once when there are none."""
        spared = set(but)
        wait_for(lambda: not set(self.orphans()) - spared, within_s)
        return [pid for pid in self.orphans() if pid not in spared]

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
            began, sent = time.monotonic(), []
            for number, value in enumerate(values):
                if rate and number % 10 == 0:
                    await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
                content = value if isinstance(value, bytes) else orjson.dumps(value)
                sent.append(await producer.send(self.topic(topic), content, key=key or _key(value)))
            await asyncio.gather(*sent)

    def reading(self, *topics: str) -> Reader:
        """A consumer of these topics that notes when what became readable."""
        return Reader(self.bootstrap, [self.topic(topic) for topic in topics])

    def records(self, *topics: str, isolation: str = "read_committed") -> list[ConsumerRecord]:
        """All that is committed in these topics now."""
        return asyncio.run(read_topics(self.bootstrap, [self.topic(topic) for topic in topics], isolation))

    def records_of(self, topics: Sequence[str]) -> list[ConsumerRecord]:
        """The same, by full names."""
        return asyncio.run(read_topics(self.bootstrap, topics))

    def values(self, topic: str) -> list[dict[str, Any]]:
        """The same of one topic, parsed."""
        return [orjson.loads(record.value) for record in self.records(topic)]

    def results(self, count: int, within_s: float = PATIENCE_S, settle_s: float = 1.0) -> list[dict[str, Any]]:
        """Waits for ``count`` results, then ``settle_s`` more for any that should not come."""
        with self.reading("results") as reader:
            reader.wait(count, within_s, more_s=settle_s)
            return [orjson.loads(read.record.value) for read in reader.reads]

    def audit(self, within_s: float = PATIENCE_S, *, quiet: bool = False) -> Report:
        """The audit of all topics, once every window is final; of what there is when the time is over.

        ``quiet``: as in ``history.audit``.
        """
        prices = {
            name: ListPrice(
                prompt=_nano_usd(model["input_usd_per_mtok"]), completion=_nano_usd(model["output_usd_per_mtok"])
            )
            for name, model in self.config["models"].items()
            if not model.get("unpriced")
        }
        deadline = time.monotonic() + within_s
        while True:
            ledger = Ledger(Names(self.prefix), prices)
            asyncio.run(read_ledger(ledger, Client(self.bootstrap)))
            report = judge(ledger, now_ms=time.time_ns() // 1_000_000, window_ms=86_400_000, quiet=quiet)
            if not (report.unchecked or report.problems) or time.monotonic() > deadline:
                return report
            time.sleep(2.0)

    # --- the provider -------------------------------------------------------------------------------------------

    def calls(self) -> Calls:
        """From the simulator's call log, which outlives it."""
        time.sleep(0.5)  # it is written five times a second
        keys: Counter[str] = Counter()
        for line in (self.data_dir / "sim-calls.jsonl").read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                entry = json.loads(line)
                if entry.get("event") == "start":
                    keys[entry["key"]] += 1
        return Calls(sum(keys.values()), sum(count - 1 for count in keys.values()))

    def behave(self, **models: dict[str, Any]) -> None:
        """Change how simulated models behave from now on: ``behave(small={"errors": {"503": 1.0}})``."""
        self._simulator("behaviour", {"models": models})

    def in_hand(self) -> int:
        """Calls that the simulator has been asked and has not answered."""
        return int(self._simulator("calls")["in_hand"])

    @property
    def provider(self) -> str:
        """Address of the simulated provider, without a path."""
        return re.findall(r"provider at (http://[^/]+)/", (self.data_dir / "logs" / "sim.log").read_text())[-1]

    def _simulator(self, what: str, change: dict[str, Any] | None = None) -> dict[str, Any]:
        body = None if change is None else json.dumps(change).encode()
        asked = urllib.request.Request(f"{self.provider}/sim/{what}", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
        return found


def _nano_usd(usd_per_mtok: float) -> int:
    """Nano-dollars a token."""
    return round(usd_per_mtok * 1000)


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


def living_with(mark: str) -> list[int]:
    """Other processes with this text in their environment, which children inherit."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if mark.encode() in entry.read_bytes() and (pid := int(entry.parent.name)) != os.getpid():
                found.append(pid)
    return found


def summary(results: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Results by outcome: ``ok`` or the error's code."""
    return dict(Counter((result["error"] or {"code": "ok"})["code"] for result in results))


def wait_for(holds: Callable[[], Any], within_s: float, *, every_s: float = 0.2) -> bool:
    """Whether it held in time."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(every_s)
    return True
