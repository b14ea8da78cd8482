"""Records as the stages write them, of an installation whose truth is known, and an archive of them without Kafka."""

import asyncio
import json
from collections import defaultdict
from dataclasses import dataclass, field
from unittest.mock import patch

import numpy as np

from router.contract.ids import request_id
from router.contract.times import to_rfc3339
from router.history import archive_folder
from router.history.archive import Archived, write
from router.history.archive_folder import Folder
from router.history.archive_rows import KINDS

#: A Monday.
START_MS = 1_793_577_600_000
DAY_MS = 86_400_000
PRICES = {"small": (100, 400), "large": (2_000, 8_000)}


@dataclass(frozen=True)
class Record:
    offset: int
    timestamp: int
    value: bytes | None
    partition: int = 0
    headers: tuple = ()


@dataclass
class World:
    """``records``: by topic (without prefix)."""

    records: dict = field(default_factory=lambda: defaultdict(list))

    def put(self, topic, at_ms, value, headers=()):
        lies = self.records[topic]
        content = value if isinstance(value, bytes | None) else json.dumps(value).encode()
        lies.append(Record(len(lies), at_ms, content, headers=tuple(headers)))

    def request(
        self, name, at_ms, *, cohort="pilot", model="small", pool="auto", stratum="math/hard", tenant="acme", session=None,
        prompt=100, tokens=100, length=50, own_tokens=None, error=None, reasons=("routed",), shadow=None, judge=False,
    ):  # fmt: skip
        """One request from its decision to its result; returns its id. ``shadow``: length of the baseline's shadow answer."""
        found = request_id(tenant, name)
        about = {"pool": pool, "stratum": stratum, "tenant": tenant, "cohort": cohort}
        for number, reason in enumerate(reasons, 1):
            self.decide(found, at_ms, number, model, reason=reason, session=session, tokens=tokens, **about)
            last = number == len(reasons) and error is None
            self.attempt(
                found, at_ms + 500, number, model, prompt, reason=reason, length=length if last else 0,
                status="ok" if last else "error", answered=last, **about,
            )  # fmt: skip
        if judge:
            self.attempt(found, at_ms + 600, 9, "small", 300, reason="judge", length=5, **about)
        if shadow is not None:
            about["cohort"] = "shadow"
            self.decide(
                found, at_ms, 101, "large", reason="shadow", session=session, tokens=tokens, shadow_of=1, **about
            )
            self.attempt(found, at_ms + 900, 101, "large", prompt, reason="shadow", length=shadow, **about)
            self.attempt(found, at_ms + 950, 102, "small", 400, reason="judge", length=5, **about)
        router = {
            "tenant": tenant, "pool": pool, "stratum": stratum, "cohort": cohort, "propensity": 0.9, "policy_version": "p",
            "model": None if error else model, "cost_nano_usd": 1, "cost_unknown": False, "latency_ms": 500,
            "attempts": [{}] * len(reasons), "metadata": {"secret": "SECRET"}, "feedback_token": "SECRET",
        }  # fmt: skip
        problem = {"code": error, "message": "SECRET"} if error else None
        body = {"id": found, "custom_id": "SECRET", "response": {"body": "SECRET"}, "error": problem, "router": router}
        self.put("results", at_ms + 1_000, body, [("lane", b"interactive"), ("id", found.encode())])
        return found

    def decide(self, found, at_ms, number, model, *, session, tokens, shadow_of=None, **about):
        value = {
            "request_id": found, "attempt": number, "at": to_rfc3339(at_ms), "lane": "interactive", "session": session,
            "features": {"prompt_tokens": tokens}, "candidates": [], "weights": {model: 1.0}, "draw": 0.5, "model": model,
            "propensity": 1.0, "policy_version": "p", "snapshot_version": "s", "shadow_of": shadow_of, "error": None, "cascade": None,
        }  # fmt: skip
        self.put("decisions", at_ms, value | about)

    def attempt(self, found, at_ms, number, model, prompt, *, length, status="ok", answered=False, **about):
        price, baseline = PRICES[model], PRICES["large"]
        value = {
            "request_id": found, "attempt": number, "model": model, "lane": "interactive", "status": status, "error_code": None, "at_ms": at_ms,
            "latency_ms": 400, "prompt_tokens": prompt, "completion_tokens": length, "cached_tokens": 0, "reasoning_tokens": 0,
            "cost_nano_usd": prompt * price[0] + length * price[1],
            "baseline_cost_nano_usd": prompt * baseline[0] + length * baseline[1] if answered else 0,
            "price_version": "v", "late": False, "baseline": None if about["pool"] is None else "large",
            "baseline_output_nano_usd_per_token": None if about["pool"] is None else baseline[1],
        }  # fmt: skip
        self.put("usage", at_ms, value | about)

    def judge(
        self, found, at_ms, reward, *, kind="review", source="reviewer", cohort="pilot", stratum="math/hard", **more
    ):
        value = {
            "request_id": found, "pool": "auto", "stratum": stratum, "first_model": "m", "model": "m", "answered_by_attempt": 1,
            "cohort": cohort, "propensity": 1.0, "policy_version": "p", "kind": kind, "source": source, "reward": reward,
            "weight": 1.0, "at": to_rfc3339(at_ms),
        }  # fmt: skip
        self.put("rewards", at_ms, value | more)

    def spent(self):
        return sum(json.loads(one.value)["cost_nano_usd"] or 0 for one in self.records["usage"])

    def archive(self, path, *, most=None, fresh=True):
        """Into a folder; ``most``: records of each topic that are there."""
        folder, done = Folder(path), Archived()
        with folder.open("llm"), patch.object(archive_folder, "_synced"):  # no test outlives a power failure
            for kind in KINDS:
                topic, known = f"llm.{kind.topic}", folder.positions(kind.name).get((f"llm.{kind.topic}", 0))
                records = self.records[kind.topic][known.offset if known else 0 : most]
                asyncio.run(
                    write(
                        in_batches(records),
                        folder,
                        kind,
                        topic=topic,
                        partition=0,
                        day=known.day if known else "",
                        done=done,
                    )
                )
        return folder


async def in_batches(records, size=100):
    for start in range(0, len(records), size):
        yield records[start : start + size]


STRATA = {"math/hard": (300, 1.4, 0.10), "chat/easy": (120, 0.8, 0.02)}


def usual(requests=3_000, *, seed=0, weeks=2, holdout=0.1, sessions=3):
    """Two strata: length of small's answers, of large's beside them, and how much worse small is."""
    draw, world = np.random.default_rng(seed), World()
    for number in range(requests):
        session = f"s-{number // sessions}"
        cohort = "holdout" if np.random.default_rng((seed, number // sessions)).random() < holdout else "pilot"
        stratum = tuple(STRATA)[int(draw.integers(2))]
        usual_length, longer, worse = STRATA[stratum]
        prompt = int(draw.integers(50, 500))
        length = int(draw.lognormal(np.log(usual_length), 0.6))
        at_ms = START_MS + int(number * weeks * 7 * DAY_MS / requests)
        model = "small" if cohort == "pilot" else "large"
        if model == "large":
            length = int(length * longer)
        found = world.request(
            f"r-{number}", at_ms, cohort=cohort, model=model, stratum=stratum, session=session, prompt=prompt, tokens=prompt,
            length=length,
        )  # fmt: skip
        if draw.random() < 0.3:
            good = draw.random() < (0.9 - worse if model == "small" else 0.9)
            world.judge(found, at_ms + 3_600_000, float(good), cohort=cohort, stratum=stratum)
    return world
