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
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, TypeVar

import orjson

from router.batch import feedback as sending
from router.batch.lines import scan
from router.batch.submit import Progress, open_job
from router.cluster import client_of
from router.config import load
from router.contract.topics import Names
from router.demo import careful
from router.demo.story import Careful, Story, opinion
from router.history.explain import explain
from router.history.reader import account_of
from router.kafka.client import Client
from router.up import Machine

#: Requests to the pool with the cascade, before its calibration and after.
CAREFUL = (1000, 400)
LEARN_S = 15.0
WINDOWS_S = 20.0

Say = Callable[[str], None]
T = TypeVar("T")


def demo_prompts() -> list[bytes]:
    """The requests of the demonstration, one line of the Batch format each."""
    return gzip.decompress((files("router") / "data" / "demo_prompts.jsonl.gz").read_bytes()).splitlines()


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
        self._say(
            f"sending {CAREFUL[0]:,} requests to the pool careful: small answers, large is asked where small is not sure"
        )
        before = self._careful("careful", prompts[: CAREFUL[0]])
        self._say("labelling what small answered, to calibrate from which confidence on its answers may go out")
        self._calibrate(before.results)
        self._say(f"sending {CAREFUL[1]} others, with the calibrated threshold")
        after = self._careful("calibrated", prompts[CAREFUL[0] : sum(CAREFUL)])
        why = self._explained(after.results)
        self._say("done; stopping everything")
        seconds = time.monotonic() - began_s
        return Story((first, second), weights, self._config, status, (before, after), why, seconds)

    def _careful(self, name: str, lines: Sequence[bytes]) -> Careful:
        results = self._submit(name, careful.requests_of(name, lines))
        return self._beside(lambda: asyncio.run(careful.outcome_of(self._client, self._names, self._config, results)))

    def _calibrate(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Labels of the sample, and the threshold that follows from them."""
        labels = self._beside(lambda: asyncio.run(careful.labels_of(self._client, self._names, results)))
        self._beside(lambda: asyncio.run(sending.send(self._client, self._names.of("feedback"), labels)))
        self._until(lambda status: careful.labelled(status) >= len(labels) * 0.95, LEARN_S)

    def _explained(self, results: Sequence[Mapping[str, Any]]) -> list[str]:
        """What ``pointsman explain`` says of a request that went on to large."""
        escalated = [one for one in results if len(one["router"]["attempts"]) == 2 and one["error"] is None]
        chosen = (escalated or list(results))[0]["id"]
        account = self._beside(lambda: asyncio.run(account_of(self._client, self._names, chosen)))
        return explain(account)

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
        return {one["stratum"]: one["weights"] for one in self._status()["weights"] if one["pool"] == "auto"}

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
    return sum(sum(one["evidence"].values()) for one in status["weights"] if one["pool"] == "auto")
