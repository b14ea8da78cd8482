"""How routing follows a world that changes: days of traffic through the real stages, in memory, with a clock that only the run moves.

    python benchmarks/adapt.py [--requests 1000] [--json] [--picture FILE]

Two kinds of task: prose, at which ``small`` is as good as ``large`` at first, and math, at which it never is. Each day so many requests, a fifth
of whose answers a reviewer judges four hours later. Day by day, what share of the pilot each model gets:

| day | what happens |
|---|---|
| 0 | nothing is known: all to ``large``, but for epsilon |
| 20 | ``small`` gets worse at prose: of its answers 60 % are good instead of 95 |
| 40 | ``small`` is what it was |
| 55 | ``mid`` joins the pool: nearly as good as ``large`` at both, at a quarter of its price |
| 70 | prices change: ``mid`` costs five times as much, more than ``large`` |

Policies ``thompson`` and ``squarecb`` under the quality floor; the order of a pool's models is changed with the prices, as a person would.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import orjson

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.report import Report, finish, options
from router.config import Config, loads
from router.contract.codec import decode, encode
from router.contract.records import Decision, Outcome, Usage, Work
from router.contract.topics import Names
from router.core.slip import Keyring
from router.kafka.client import Client
from router.kafka.stage import Stage
from router.stages import feedback, learn, route, settle
from router.stages.context import Context
from router.testing import FakeClock, MemoryLog

DAY_MS = 86_400_000
#: Behind the landmark of decaying sums: before it nothing is forgotten (``core/bandit/decay``).
BEGUN_MS = 1_780_000_000_000
DAYS = 85
WORSE, BETTER, JOINS, PRICES = 20, 40, 55, 70
NAMES = Names()
POLICIES = ("thompson", "squarecb")
CAVEATS = [
    "the reviewer is always right and looks at a fifth of all answers: with fewer it takes as many days longer",
    "the stages run in memory: what is measured is learning, not Kafka",
]

CONFIG = """
[kafka]
partitions = 1
[classify]
model = "none"
rules = [{{ name = "math", any = ["integral"] }}]
bands = [{{ name = "any" }}]
[models.small]
input_usd_per_mtok = 0.1
output_usd_per_mtok = 0.4
[models.mid]
input_usd_per_mtok = {mid}
output_usd_per_mtok = {mid}
[models.large]
input_usd_per_mtok = 2
output_usd_per_mtok = 8
[pools.auto]
models = {models}
baseline = "large"
policy = "{policy}"
margin = 0.1
epsilon = 0.02
holdout_percent = 5
"""


def config_of(policy: str, day: int) -> Config:
    """As a person would have it on that day."""
    if day < JOINS:
        models, mid = '["small", "large"]', 0.5
    elif day < PRICES:
        models, mid = '["small", "mid", "large"]', 0.5
    else:
        models, mid = '["small", "large", "mid"]', 20
    return loads(CONFIG.format(policy=policy, models=models, mid=mid), environ={})


def p_good(model: str, kind: str, day: int) -> float:
    """Probability of a good answer."""
    if model == "small":
        return 0.6 if kind == "math" or WORSE <= day < BETTER else 0.95
    return 0.95


@dataclass
class World:
    """The stages, workers that answer at once, and a reviewer."""

    policy: str
    requests: int
    dice: Random = field(default_factory=lambda: Random(7))
    shares: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))

    def __post_init__(self) -> None:
        self.clock = FakeClock(BEGUN_MS)
        self.log = MemoryLog(partitions=1, clock=self.clock)
        self.begun_ms = self.clock()
        self.good: dict[str, bool] = {}
        self.kind: dict[str, str] = {}
        self.stages: list[Stage] = []
        self._read = {"results": 0, "decisions": 0}
        self.configure(0)

    @property
    def day(self) -> int:
        return (self.clock() - self.begun_ms) // DAY_MS

    def configure(self, day: int) -> None:
        """Start the stages, or start them again with another configuration."""
        config = config_of(self.policy, day)
        context = Context(
            config=config, client=Client("127.0.0.1:1"), keyring=Keyring((b"k" * 32,)), clock=self.clock, partitions=1
        )
        topics = tuple(NAMES.work(model, lane) for model in config.models for lane in ("interactive", "batch"))
        workers = Stage(name="workers", sources=topics, outputs=frozenset({NAMES.of("outcomes")}), handle=self.work)
        builders = (route, settle, feedback, learn)
        stages = [workers, *(stage for module in builders for stage in module.build(context))]
        for stage in stages:
            if self.stages:
                self.log.restart(stage)
            else:
                self.log.add(stage)
        self.stages = stages

    def work(self, batch: Any, unit: Any) -> None:
        for record in batch.records:
            work = decode(Work, record.value)
            text = work.body["messages"][0]["content"]
            kind = "math" if "integral" in text else "prose"
            self.kind[work.request_id] = kind
            self.good[work.request_id] = self.dice.random() < p_good(work.model, kind, self.day)
            outcome = Outcome(
                request_id=work.request_id,
                attempt=work.attempt,
                model=work.model,
                status="ok",
                slip=work.slip,
                body={"choices": []},
                usage=Usage(prompt_tokens=200, completion_tokens=100),
                latency_ms=100,
            )
            unit.emit(NAMES.of("outcomes"), work.request_id.encode(), encode(outcome), partition=work.outcome_partition)

    def live(self, day: int) -> None:
        """A day: requests in four parts, opinions of each four hours later."""
        if day in {JOINS, PRICES}:
            self.configure(day)
        for part in range(4):
            for number in range(self.requests // 4):
                text = "the integral of x" if number % 3 == 0 else "a letter to the town"
                body = {"model": "auto", "messages": [{"role": "user", "content": text}], "max_tokens": 200}
                value = {"custom_id": f"{day}-{part}-{number}", "body": body}
                self.log.produce(NAMES.of("requests"), b"k", orjson.dumps(value), partition=0)
            self.log.run()
            self.log.advance(4 * 3_600_000, step_ms=3_600_000)
            self.review()
            self.log.advance(2 * 3_600_000, step_ms=3_600_000)
        self.count()

    def new(self, topic: str) -> list[Any]:
        records = self.log.partition((NAMES.of(topic), 0))
        begin, self._read[topic] = self._read[topic], len(records)
        return [orjson.loads(record.value) for record in records[begin:]]

    def review(self) -> None:
        for result in self.new("results"):
            if self.dice.random() < 0.2:
                said = {
                    "feedback_token": result["router"]["feedback_token"],
                    "kind": "review",
                    "source": "reviewer",
                    "value": float(self.good[result["id"]]),
                }
                self.log.produce(NAMES.of("feedback"), b"k", orjson.dumps(said), partition=0)
        self.log.run()

    def count(self) -> None:
        seen: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        for one in self.new("decisions"):
            decision = decode(Decision, orjson.dumps(one))
            if decision.cohort == "pilot" and decision.stratum is not None and decision.model is not None:
                kind = "math" if decision.stratum.startswith("math") else "prose"
                seen[kind][decision.model] += 1
        for kind in ("prose", "math"):
            total = sum(seen[kind].values()) or 1
            for model in ("small", "mid", "large"):
                self.shares[kind][model].append(seen[kind][model] / total)


def days_until(
    shares: list[float], begin: int, end: int, *, above: float | None = None, below: float | None = None
) -> float | None:
    """Days from ``begin`` until the share is beyond the bound, in the mean of that day and the next; ``None``: not before ``end``."""
    for day in range(begin, end - 1):
        mean = (shares[day] + shares[day + 1]) / 2.0
        if (above is not None and mean >= above) or (below is not None and mean <= below):
            return float(day - begin)
    return None


def measure(requests: int, picture: Path | None) -> Report:
    report = Report("adapt", caveats=CAVEATS)
    worlds: dict[str, World] = {}
    for policy in POLICIES:
        world = worlds[policy] = World(policy, requests)
        for day in range(DAYS):
            world.live(day)
        prose, math = world.shares["prose"], world.shares["math"]
        rows: Mapping[str, float | None] = {
            "prose: days until small has half": days_until(prose["small"], 0, WORSE, above=0.5),
            "prose: days until small, worse now, has a tenth": days_until(prose["small"], WORSE, BETTER, below=0.1),
            "prose: days until small, well again, has half": days_until(prose["small"], BETTER, JOINS, above=0.5),
            "math: days until mid, new, has half": days_until(math["mid"], JOINS, PRICES, above=0.5),
            "math: days until mid, dearer now, has a tenth": days_until(math["mid"], PRICES, DAYS, below=0.1),
        }
        for name, days in rows.items():
            report.add(f"{policy}, {name}", days, "days" if days is not None else "(not seen)")
        most = max(math["small"])
        report.add(f"{policy}, math: most that small ever had", round(most, 3), "of a day's requests")
        report.details[policy] = {kind: dict(shares) for kind, shares in world.shares.items()}
    if picture is not None:
        draw(picture, worlds)
    return report


def draw(file: Path, worlds: Mapping[str, World]) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - only to draw

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(2, 2, figsize=(12, 6.4), sharex=True, sharey=True, constrained_layout=True)
    colours = {"small": "#1f5fa8", "mid": "#3a8a4d", "large": "#c2571a"}
    events = {
        WORSE: "small worse at prose",
        BETTER: "small well again",
        JOINS: "mid\njoins",
        PRICES: "mid five times\nas dear",
    }
    for row, kind in enumerate(("prose", "math")):
        for column, (policy, world) in enumerate(worlds.items()):
            plot = axes[row][column]
            for model, shares in world.shares[kind].items():
                plot.plot(
                    range(len(shares)), [100 * one for one in shares], color=colours[model], linewidth=2, label=model
                )
            for day, what in events.items():
                plot.axvline(day, color="#9aa0a6", linewidth=1, linestyle="--")
                if row == 0:
                    plot.annotate(what, (day, 103), fontsize=8, color="#5f6368", annotation_clip=False, va="bottom")
            plot.set_title(f"{policy}, {kind}", loc="left", fontsize=10, pad=24 if row == 0 else 6)
            plot.grid(color="#e4e6e8", linewidth=0.8)
            for side in ("top", "right"):
                plot.spines[side].set_visible(False)
            if column == 0:
                plot.set_ylabel("share of the pilot, %")
            if row == 1:
                plot.set_xlabel("day")
    axes[0][0].legend(frameon=False, loc="center left", fontsize=9)
    figure.savefig(file, dpi=130)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--picture", type=Path)
    asked = parser.parse_args()
    finish(measure(asked.requests, asked.picture), asked.json)


if __name__ == "__main__":
    main()
