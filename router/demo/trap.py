"""``pointsman demo-trap``: the Pareto trap in three minutes, on a real Kafka, with and without somebody who looks at the slice.

A day of the guard takes some seconds. From day 10 on the small model's answers to one kind of task get slowly worse; everything else stays as it was.
People put a thumb down now and then, reviewers look at a part of the answers. Nothing tells the guard what the simulated provider knows (``sim.good``)
but those reviews and thumbs. When the guard gives the slice back, real routers obey a real order.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from random import Random
from typing import Any, Final

import orjson

from router.cluster import client_of
from router.config import Config, load
from router.contract.codec import decode, encode
from router.contract.errors import BadRecord
from router.contract.records import Alert, Control, Feedback
from router.contract.topics import Names
from router.demo.play import demo_prompts, environment
from router.kafka.client import Client
from router.up import Machine

#: The kind of task that goes bad, from which day on, for how many days, and how good its answers are then.
BAD_CLASS: Final = "code"
ONSET_DAY, FALL_DAYS, GOOD_BEFORE, GOOD_AFTER = 10, 12, 0.94, 0.68
DAYS: Final = 35
#: Requests a second, and of their answers the shares that somebody reviews or puts a thumb down on: a day has only some hundred of them.
RATE: Final = 220.0
REVIEWED: Final = {"pilot": 0.5, "control": 0.9, "holdout": 0.9}
THUMBS_BAD, THUMBS_GOOD = 0.03, 0.005
#: The day on which the same thing was noticed in the case that the README tells of, by customers who left.
DAY_WITHOUT: Final = 91
_LAST_RESULTS_S: Final = 8.0

Say = Callable[[str], None]


@dataclass(slots=True)
class Day:
    """What came back in a day: answers and good ones by (kind of task, model), and cost."""

    answers: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    good: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    thumbs_down: int = 0
    reviewed: int = 0
    found_good: int = 0
    cost_nano_usd: int = 0
    baseline_nano_usd: int = 0

    def count(self, kind: str, model: str) -> int:
        return self.answers.get((kind, model), 0)


@dataclass(slots=True)
class Story:
    """All that there is to tell."""

    config: Config
    day_s: float
    days: dict[int, Day] = field(default_factory=lambda: defaultdict(Day))
    alerts: list[tuple[float, Alert]] = field(default_factory=list)
    orders: list[tuple[float, Control]] = field(default_factory=list)
    status: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def saved(self, first: float, last: float) -> float | None:
        """Share of the baseline's cost that was saved in some days."""
        days = [day for at, day in self.days.items() if first <= at < last]
        baseline = sum(day.baseline_nano_usd for day in days)
        return 1.0 - sum(day.cost_nano_usd for day in days) / baseline if baseline else None


def play(say: Say, tell_day: Callable[[int, Story], None]) -> Story:
    """Run it all; everything that was started has ended and every file is gone when this returns."""
    began_s = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="pointsman-trap-"))
    data = files("router") / "data"
    try:
        with as_file(data / "trap.toml") as config_path, as_file(data / "trap_world.toml") as world:
            config = load(config_path, {"kafka.data_dir": str(folder / "data"), "web.port": 0}, environ={})
            with environment(config_path), Machine(config, say, sim_behaviour=world) as machine:
                machine.wait_ready()
                trap = _Trap(machine, say, tell_day)
                with ThreadPoolExecutor(1) as pool:
                    playing = pool.submit(asyncio.run, trap.run())
                    machine.run(playing.done)
                    playing.result()
                trap.story.seconds = time.monotonic() - began_s
                return trap.story
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Trap:
    """Traffic, opinions and ears, all at once."""

    def __init__(self, machine: Machine, say: Say, tell_day: Callable[[int, Story], None]) -> None:
        self._machine, self._say, self._tell_day = machine, say, tell_day
        self._config = machine.config
        self._names = Names(self._config.kafka.prefix)
        self._client: Client = client_of(self._config)
        self._day_s = float(self._config.guard.day_s)
        self._random = Random(2026)  # noqa: S311 - a play, no secret
        self._began_s = 0.0
        self._ends = asyncio.Event()
        self.story = Story(self._config, self._day_s)

    @property
    def _day(self) -> float:
        return (time.monotonic() - self._began_s) / self._day_s

    async def run(self) -> None:
        producer = self._client.producer(self._names.of("requests"), linger_ms=20)
        await producer.start()
        self._began_s = time.monotonic()
        ears = [asyncio.create_task(one) for one in (self._results(producer), self._verdicts())]
        try:
            await asyncio.gather(self._requests(producer), self._world(), self._calendar())
            await asyncio.sleep(_LAST_RESULTS_S)
        finally:
            for task in ears:
                task.cancel()
            for task in ears:
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            await producer.stop()
        self.story.status = await asyncio.to_thread(self._status)

    async def _requests(self, producer: Any) -> None:
        """The demonstration's prompts again and again, each time a little different."""
        topic, number = self._names.of("requests"), 0
        prompts = [orjson.loads(line) for line in demo_prompts()]
        while self._day < DAYS:
            due = int((time.monotonic() - self._began_s) * RATE)
            while number < due:
                request = prompts[self._random.randrange(len(prompts))]
                message = request["body"]["messages"][-1]
                body = request["body"] | {"messages": [*request["body"]["messages"][:-1], _varied(message, number)]}
                kind = request["router"]["metadata"]["task_class"]
                options = {"tenant": request["router"]["tenant"], "metadata": {"task_class": kind}}
                made = request | {"custom_id": f"trap-{number}", "body": body, "router": options}
                await producer.send(topic, orjson.dumps(made), key=b"%d" % number)
                number += 1
            await asyncio.sleep(0.05)

    async def _world(self) -> None:
        """The small model gets worse, a step a day."""
        await asyncio.sleep(ONSET_DAY * self._day_s)
        self._say(f"day {ONSET_DAY}: from now on the small model's answers to {BAD_CLASS} get worse. Nobody is told.")
        while self._day < DAYS:
            gone = min(1.0, (self._day - ONSET_DAY) / FALL_DAYS)
            good = GOOD_BEFORE + (GOOD_AFTER - GOOD_BEFORE) * gone
            change = {"models": {"small": {"quality": {BAD_CLASS: round(good, 3)}}}}
            await asyncio.to_thread(self._change, change)
            await asyncio.sleep(self._day_s)

    async def _calendar(self) -> None:
        for week in range(1, DAYS // 7 + 1):
            await asyncio.sleep(max(0.0, self._began_s + week * 7 * self._day_s - time.monotonic()))
            self._tell_day(week * 7, self.story)
        await asyncio.sleep(max(0.0, self._began_s + DAYS * self._day_s - time.monotonic()))

    async def _results(self, producer: Any) -> None:
        """Count what came back, and let people say what they say."""
        price = self._config.models["large"].price
        consumer = self._client.consumer(self._names.of("results"))
        await consumer.start()
        try:
            async for record in consumer:
                found = orjson.loads(record.value)
                if found["error"] is not None:
                    continue
                router, body = found["router"], found["response"]["body"]
                day = self.story.days[int(self._day)]
                key, good = (router["metadata"]["task_class"], router["model"]), bool(body["sim"]["good"])
                day.answers[key] += 1
                day.good[key] += good
                day.cost_nano_usd += router["cost_nano_usd"] or 0
                usage = body["usage"]
                day.baseline_nano_usd += usage["prompt_tokens"] * price.input_nano_usd_per_token
                day.baseline_nano_usd += usage["completion_tokens"] * price.output_nano_usd_per_token
                for said in self._opinions(router["feedback_token"], router["cohort"], good):
                    await producer.send(self._names.of("feedback"), encode(said), key=found["id"].encode())
                    day.thumbs_down += said.kind == "thumbs"
                    day.reviewed += said.kind == "review"
                    day.found_good += said.kind == "review" and said.value == 1.0
        finally:
            await consumer.stop()

    def _opinions(self, token: str, cohort: str, good: bool) -> list[Feedback]:
        found = []
        if self._random.random() < REVIEWED.get(cohort, 0.0):
            seen = good if self._random.random() < 0.96 else not good
            found.append(Feedback(feedback_token=token, kind="review", value=float(seen), source="reviewer"))
        if self._random.random() < (THUMBS_GOOD if good else THUMBS_BAD):
            found.append(Feedback(feedback_token=token, kind="thumbs", value=0.0, source="user"))
        return found

    async def _verdicts(self) -> None:
        """Alerts and orders, as anybody may read them."""
        alerts, orders = self._names.of("alerts"), self._names.of("control")
        consumer = self._client.consumer(alerts, orders)
        await consumer.start()
        try:
            async for record in consumer:
                with contextlib.suppress(BadRecord):
                    if record.topic == alerts:
                        alert = decode(Alert, record.value)
                        if alert.stratum is not None:
                            self.story.alerts.append((self._day, alert))
                            self._say(
                                f"day {self._day:.0f}: ALERT {alert.severity}: {alert.stratum}: {alert.evidence['summary']}"
                            )
                    else:
                        order = decode(Control, record.value)
                        self.story.orders.append((self._day, order))
                        self._say(f"day {self._day:.0f}: ORDER by {order.by}: {order.action} {order.scope}")
        finally:
            await consumer.stop()

    def _change(self, change: Mapping[str, Any]) -> None:
        url = f"http://127.0.0.1:{self._machine.sim_port}/sim/behaviour"
        request = urllib.request.Request(url, orjson.dumps(change), method="POST")
        with urllib.request.urlopen(request, timeout=5):  # noqa: S310
            pass

    def _status(self) -> Mapping[str, Any]:
        with urllib.request.urlopen(self._machine.status_url(), timeout=5) as answer:  # noqa: S310 - loopback
            found: Mapping[str, Any] = json.load(answer)
            return found


def _varied(message: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The same question in a conversation of its own, so that its answer is another one."""
    return {**message, "content": f"{message['content']}\n\n(ticket {number})"}
