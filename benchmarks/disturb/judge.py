"""What a disturbed run left behind, from the topics alone (and the provider's call log)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import orjson
from aiokafka.errors import KafkaError

from benchmarks.disturb.rig import Rig
from benchmarks.disturb.traffic import FORGED
from benchmarks.system import summary, wait_for
from router.contract.ids import request_id
from router.history.replay import Snapshots, replay

#: Longer than the traffic's deadline: by then everything has been answered.
ANSWERED_S = 200.0
#: A broker that was killed may take this long to be back where cores are shared: it starts twice.
REACHED_S = 120.0


def judge(rig: Rig, *, all_ok: bool) -> tuple[dict[str, Any], list[str]]:
    """Figures, and what should not be. The traffic must have ended."""
    asked = _once_reached(lambda: _asked(rig))
    answered = wait_for(lambda: len(_answered(rig)) >= len(asked), ANSWERED_S, every_s=1.0)
    report = rig.audit(within_s=60.0)
    if report.unchecked and rig.moved_clock:  # the windows of a time that comes in an hour stay open until then
        report = rig.audit(within_s=0.0, quiet=True)
    problems = [*report.problems, *report.unchecked]
    if not answered:
        problems.append(f"{len(asked)} requests, {len(_answered(rig))} answered after {ANSWERED_S:.0f} s")
    codes = summary(rig.values("results"))
    if all_ok and codes.keys() - {"ok"}:
        problems.append(f"not all are ok: {codes}")
    replayed = _replay(rig)
    if replayed["different"]:
        problems.append(f"{replayed['different']} decisions come out differently")
    calls = rig.calls()
    if calls.repeated > rig.most_repeats:
        problems.append(f"{calls.repeated} calls were made again, {rig.most_repeats} were in hand at most")
    opinions, rewards, wrong = _opinions(rig)
    problems += wrong
    figures = {
        "requests": len(asked),
        "results": codes,
        "calls": calls.started,
        "repeated_calls": calls.repeated,
        "most_repeats": rig.most_repeats,
        "replayed": replayed["identical"],
        "most_open_in_a_lane": max(sum(load["open"].values()) for load in rig.values("load")),
        "opinions": opinions,
        "rewards": rewards,
        "final_windows": report.figures["final_windows"],
    }
    return figures, problems


def _once_reached(read: Callable[[], set[str]]) -> set[str]:
    ends_s = time.monotonic() + REACHED_S
    while True:
        try:
            return read()
        except KafkaError:
            if time.monotonic() > ends_s:
                raise
            time.sleep(1.0)


def _asked(rig: Rig) -> set[str]:
    found = set()
    for record in rig.records("requests", "requests.batch"):
        value = orjson.loads(record.value)
        found.add(request_id(value["router"]["tenant"], value["custom_id"]))
    return found


def _answered(rig: Rig) -> set[str]:
    return {result["id"] for result in rig.values("results")}


def _replay(rig: Rig) -> Counter[str]:
    snapshots = Snapshots({record.key.decode(): record.value for record in rig.records("snapshots")})
    return Counter(str(replay(record.value, snapshots).verdict) for record in rig.records("decisions"))


def _opinions(rig: Rig) -> tuple[dict[str, int], int, list[str]]:
    """Each genuine opinion is one reward; a forged one is none, and moves nothing."""
    given = Counter[str]()
    genuine = set()
    for value in rig.values("feedback"):
        forged = value.get("comment") == FORGED
        given["forged" if forged else "genuine"] += 1
        if not forged:
            genuine.add(value["feedback_token"])
    rewards = rig.values("rewards")
    rewarded = {reward["request_id"] for reward in rewards}
    problems = []
    if len(rewards) != len(rewarded) or len(rewards) != len(genuine):
        problems.append(f"{len(genuine)} genuine opinions, {len(rewards)} rewards for {len(rewarded)} requests")
    if any(reward["pool"] == "still" for reward in rewards):
        problems.append("a forged opinion was rewarded")
    if any(weights["pool"] == "still" for weights in rig.values("weights")):
        problems.append("forged opinions have moved the weights of pool still")
    return dict(given), len(rewards), problems
