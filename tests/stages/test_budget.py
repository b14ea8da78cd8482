"""A pool with a budget and the contextual policy, through all stages: what is spent, what is learned, what is recorded."""

import random

import orjson
import pytest

from router.config import loads
from router.contract.codec import encode, to_rfc3339
from router.contract.records import Usage, Weights
from router.core.bandit.squarecb import SIZE
from router.stages import feedback, learn
from tests.core.classifiers import knowing
from tests.stages.system import NAMES, System

BUDGET = 1_000_000
CONFIG = """
[models.small]
input_usd_per_mtok = 0.1
output_usd_per_mtok = 0.4
[models.large]
input_usd_per_mtok = 2
output_usd_per_mtok = 8
[pools.auto]
models = ["small", "large"]
policy = "squarecb"
objective = "budget"
budget_usd_per_request = 0.001
holdout_percent = 0
sticky = "none"
"""
#: Answers of small are good enough half of the time, of large always.
CLASSIFIER = knowing(
    {"small": (0, {}), "large": (3, {})}, {"a": (1, {}), "b": (0, {})}, edges={("large", "small"): (0.2, 0.9)}
)
STRATUM = "a/medium"


class Paced(System):
    """One lane of route; a call takes some 300 completion tokens, 256 are expected."""

    def __init__(self, *more, config=CONFIG):
        super().__init__(loads(config), *more, artefact=CLASSIFIER)
        self._dice = random.Random(1)

    def usage(self, work):
        return Usage(prompt_tokens=10, completion_tokens=self._dice.randrange(200, 400))

    def taught(self, **changed):
        """As if much had been learned: of both models what the classifier says."""
        regression = {"theta": {}, "n": {"small": 1000.0, "large": 1000.0}, "gamma": 500.0}
        made = Weights(
            pool="auto",
            stratum=STRATUM,
            weights={"small": 0.5, "large": 0.5},
            policy_version="squarecb:1",
            evidence={},
            at=to_rfc3339(self.clock()),
            regression=regression | changed,
        )
        self.log.produce(NAMES.of("weights"), f"auto/{STRATUM}".encode(), encode(made))
        self.log.run()

    def go(self, count, first=0, step=20):
        for number in range(first, first + count):
            self.ask(f"r-{number}")
            if number % step == 0:
                self.log.advance(1_100)
        self.log.run()
        for _ in range(5):
            self.log.advance(1_000)

    def decisions(self):
        return [orjson.loads(record.value) for record in self.log.records(NAMES.of("decisions"))]

    def spent(self):
        return sum(one.router.cost_nano_usd for one in self.results().values())


@pytest.fixture
def system():
    return Paced()


def test_what_is_spent_keeps_the_budget_and_uses_it(system):
    system.taught()
    system.go(2_000)
    spent, allowed = system.spent(), BUDGET * 2_000
    assert 0.95 * allowed < spent <= 1.01 * allowed
    models = [one["model"] for one in system.decisions()]
    assert 0.2 < models.count("large") / len(models) < 0.6


def test_the_ledger_is_what_the_calls_have_cost_also_after_restarts(system):
    system.taught()
    for first in range(0, 600, 100):
        system.go(100, first)
        for stage in system.stages:
            system.log.restart(stage)
    spent = system.spent()
    system.ask("last")
    system.log.run()
    purse = system.decisions()[-1]["features"]["purse"]
    assert purse["left_nano_usd"] == 601 * BUDGET - spent


def test_failed_attempts_cost_and_their_retries_are_no_second_charge(system):
    system.taught()
    system.answers["small"] = "error"
    system.go(60, step=1)
    for _ in range(40):
        system.log.advance(500)
    assert {one.error for one in system.results().values()} == {None}
    system.ask("last")
    system.log.run()
    assert system.decisions()[-1]["features"]["purse"]["left_nano_usd"] == 61 * BUDGET - system.spent()


def test_a_duplicate_is_charged_as_long_as_nobody_can_tell_that_it_is_one(system):
    """Both are decided; one gets a result. The other's call is made, too, and its outcome is priced with the first."""
    system.taught()
    system.ask("r-1", key=b"k")
    system.log.advance(61_000)
    system.ask("r-1", key=b"k")
    system.log.run()
    system.ask("last")
    system.log.run()
    charged = [one["candidates"] for one in system.decisions()[:2]]
    assert len(charged) == 2
    left = system.decisions()[-1]["features"]["purse"]["left_nano_usd"]
    assert 0 < left <= 3 * BUDGET


def test_what_the_ledger_has_no_room_for_is_not_asked_but_the_cheapest_is(system):
    poor = Paced(config=CONFIG.replace("0.001", "0.00000001"))
    poor.taught()
    poor.go(50)
    first, *others = poor.decisions()
    assert {one["model"] for one in others} == {"small"}
    assert [one["excluded"] for one in others[-1]["candidates"]] == [None, "spent"]
    assert first["features"]["purse"]["left_nano_usd"] == 10
    assert len(poor.results()) == 50


def test_a_reward_carries_the_context_and_what_was_learned_reaches_the_router():
    system = Paced(
        feedback.build, learn.build, config=CONFIG.replace("objective", "margin = 0.1 #").replace("budget_usd", "#")
    )
    dice = random.Random(2)
    for round_ in range(6):
        for number in range(60):
            system.ask(f"r-{round_}-{number}")
        system.log.run()
        system.log.advance(1_000)
        for result in system.results().values():
            if result.custom_id.startswith(f"r-{round_}-"):
                good = dice.random() < (0.95 if result.router.model == "large" else 0.3)
                value = {
                    "feedback_token": result.router.feedback_token,
                    "kind": "review",
                    "value": float(good),
                    "source": "reviewer",
                    "weight": 1.0,
                    "at": to_rfc3339(system.clock()),
                }
                system.log.produce(NAMES.of("feedback"), b"f", orjson.dumps(value))
        system.log.run()
        for _ in range(5):
            system.log.advance(1_000)
    rewards = [orjson.loads(record.value) for record in system.log.records(NAMES.of("rewards"))]
    assert {len(one["context"]) for one in rewards} == {SIZE}
    published = orjson.loads(system.log.records(NAMES.of("weights"))[-1].value)
    assert published["policy_version"].startswith("squarecb:")
    assert published["weights"]["large"] > 0.7
    system.log.advance(2_000)
    system.ask("last")
    system.log.run()
    last = system.decisions()[-1]
    assert last["policy_version"] == published["policy_version"]
    assert last["features"]["quality"]["large"] > last["features"]["quality"]["small"] + 0.2
