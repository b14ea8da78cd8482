"""``pointsman demo``: the whole product on one machine in two minutes, told as it happens.

Two simulated models behind HTTP, a real Kafka, the prompts of ``data/demo_prompts.jsonl.gz`` in two halves. After the
first half a reviewer judges most answers; the second half is routed by what was learned. The simulated provider says in
each answer whether it is good (``sim.good``): the demo's reviewer goes by that.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from statistics import quantiles
from typing import Any, TypeVar

import orjson
import xxhash

from router.batch import feedback as sending
from router.batch.lines import scan
from router.batch.submit import Progress, open_job
from router.cluster import client_of
from router.config import Config, load
from router.contract.records import Feedback
from router.contract.topics import Names
from router.kafka.client import Client
from router.up import Machine

FEEDBACK_SHARE = 0.8
LEARN_S = 15.0
WINDOWS_S = 20.0

Say = Callable[[str], None]
T = TypeVar("T")


def demo_prompts() -> list[bytes]:
    """The requests of the demonstration, one line of the Batch format each."""
    return gzip.decompress((files("router") / "data" / "demo_prompts.jsonl.gz").read_bytes()).splitlines()


@dataclass(slots=True)
class Group:
    """Results of one stratum and model."""

    ok: int = 0
    failed: int = 0
    good: int = 0
    cost_nano_usd: int = 0
    baseline_nano_usd: int = 0
    latencies_ms: list[int] = field(default_factory=list)

    @property
    def count(self) -> int:
        return self.ok + self.failed

    def add(self, result: Mapping[str, Any], baseline_nano_usd: int) -> None:
        self.latencies_ms.append(result["router"]["latency_ms"])
        self.cost_nano_usd += result["router"]["cost_nano_usd"] or 0
        if result["error"] is None:
            self.ok += 1
            self.good += bool(result["response"]["body"]["sim"]["good"])
            self.baseline_nano_usd += baseline_nano_usd
        else:
            self.failed += 1


@dataclass(frozen=True, slots=True)
class Story:
    """All that the demo has to tell: results of both halves and the weights between them."""

    halves: tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]
    weights: Mapping[str, Mapping[str, float]]
    config: Config
    status: Mapping[str, Any]
    seconds: float

    def groups(self, half: int, by: Callable[[Mapping[str, Any]], str]) -> dict[str, Group]:
        """Results of a half, grouped; sorted by name."""
        price = self.config.models[self.config.pools["auto"].baseline].price
        found: dict[str, Group] = {}
        for result in self.halves[half]:
            usage = (result["response"] or {"body": {}})["body"].get("usage", {})
            baseline = usage.get("prompt_tokens", 0) * price.input_nano_usd_per_token
            baseline += usage.get("completion_tokens", 0) * price.output_nano_usd_per_token
            found.setdefault(by(result), Group()).add(result, baseline)
        return dict(sorted(found.items()))

    def reviews(self, by: Callable[[Mapping[str, Any]], str]) -> dict[str, list[float]]:
        """What the reviewer said of the first half, grouped: 1.0 for a good answer, 0.0 for a bad one."""
        found: dict[str, list[float]] = {}
        for result in self.halves[0]:
            if (said := opinion(result)) is not None:
                found.setdefault(by(result), []).append(said.value)
        return found


@contextlib.contextmanager
def environment(config_path: Path) -> Iterator[None]:
    """What the processes of the demo shall see, and nothing of what the user has set for another installation."""
    kept = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("POINTSMAN_") and name != "POINTSMAN_CACHE"]:
        del os.environ[name]
    os.environ.pop("BROKER", None)
    os.environ |= {"POINTSMAN_CONFIG": str(config_path), "POINTSMAN_WEB__PORT": "0"}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= kept


def demo(say: Say, show: Callable[[Progress], None]) -> Story:
    """Run it all; everything that was started has ended and every file is gone when this returns."""
    began_s = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="pointsman-demo-"))
    data = files("router") / "data"
    try:
        with as_file(data / "demo.toml") as config_path, as_file(data / "demo_world.toml") as world:
            config = load(config_path, {"kafka.data_dir": str(folder / "data"), "web.port": 0}, environ={})
            with environment(config_path), Machine(config, say, sim_behaviour=world) as machine:
                machine.wait_ready()
                return _Play(machine, folder, say, show).run(began_s)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Play:
    """The acts of the demo, on a machine that is ready."""

    def __init__(self, machine: Machine, folder: Path, say: Say, show: Callable[[Progress], None]) -> None:
        self._machine, self._folder, self._say, self._show = machine, folder, say, show
        self._config = machine.config
        self._names = Names(self._config.kafka.prefix)
        self._client: Client = client_of(self._config)

    def run(self, began_s: float) -> Story:
        prompts = demo_prompts()
        middle = len(prompts) // 2
        self._say(f"sending the first {middle:,} requests: nothing is known yet, so small and large are both tried")
        first = self._submit("first", prompts[:middle])
        given = [one for result in first if (one := opinion(result)) is not None]
        self._say(f"sending feedback for {len(given):,} of the answers: a reviewer says of each whether it is good")
        self._beside(lambda: asyncio.run(sending.send(self._client, self._names.of("feedback"), given)))
        weights = self._learned(len(given))
        self._say(f"sending the other {len(prompts) - middle:,} requests, routed by what was learned")
        second = self._submit("second", prompts[middle:])
        self._say("waiting for the last metric windows to close")
        status = self._closed_windows(len(prompts))
        self._say("done; stopping everything")
        return Story((first, second), weights, self._config, status, time.monotonic() - began_s)

    def _submit(self, name: str, lines: Sequence[bytes]) -> list[Mapping[str, Any]]:
        source, out = self._folder / f"{name}.jsonl", self._folder / f"{name}.results.jsonl"
        source.write_bytes(b"\n".join(lines) + b"\n")
        job = open_job(
            self._client,
            requests=self._names.of("requests"),
            results=self._names.of("results"),
            source=source,
            tenant=None,
            scanned=scan(source, None),
            out=out,
            resume=False,
            show=self._show,
        )
        self._beside(lambda: asyncio.run(job.run()))
        job.close()
        return [orjson.loads(line) for line in out.read_bytes().splitlines()]

    def _beside(self, work: Callable[[], T]) -> T:
        """Do it in a thread; this one looks after the processes meanwhile."""
        with ThreadPoolExecutor(1) as pool:
            running_work = pool.submit(work)
            self._machine.run(running_work.done)
            return running_work.result()

    def _learned(self, feedback: int) -> dict[str, dict[str, float]]:
        """The published weights, once all feedback has had its effect; by stratum."""
        self._until(lambda status: _evidence(status) >= feedback * 0.9, LEARN_S)
        return {one["stratum"]: one["weights"] for one in self._status()["weights"]}

    def _closed_windows(self, results: int) -> Mapping[str, Any]:
        self._until(lambda status: status["traffic"]["requests"]["final"] >= results, WINDOWS_S)
        return self._status()

    def _until(self, true_of: Callable[[Mapping[str, Any]], bool], patience_s: float) -> None:
        ends_s = time.monotonic() + patience_s
        asked_s = [0.0]

        def reached() -> bool:
            now_s = time.monotonic()
            if now_s - asked_s[0] < 0.5 and now_s < ends_s:
                return False
            asked_s[0] = now_s
            return now_s >= ends_s or true_of(self._status())

        self._machine.run(reached)

    def _status(self) -> Mapping[str, Any]:
        with urllib.request.urlopen(self._machine.status_url(), timeout=5) as answer:  # noqa: S310 - loopback
            found: Mapping[str, Any] = json.load(answer)
            return found


def _evidence(status: Mapping[str, Any]) -> float:
    return sum(sum(one["evidence"].values()) for one in status["weights"])


def opinion(result: Mapping[str, Any]) -> Feedback | None:
    """What a reviewer of the demo says of an answer; most answers are looked at, none of a failed request."""
    token = result["router"]["feedback_token"]
    if token is None or result["error"] is not None or _draw(result["id"]) > FEEDBACK_SHARE:
        return None
    good = bool(result["response"]["body"]["sim"]["good"])
    return Feedback(feedback_token=token, kind="review", value=float(good), source="reviewer")


def _draw(request_id: str) -> float:
    return float(xxhash.xxh3_64_intdigest(request_id.encode())) / 2**64


def percentiles_ms(latencies_ms: Iterable[int]) -> tuple[float, float]:
    """Median and 95th percentile."""
    values = sorted(latencies_ms)
    if len(values) < 2:
        return (float(values[0]) if values else 0.0,) * 2
    cuts = quantiles(values, n=100)
    return cuts[49], cuts[94]
