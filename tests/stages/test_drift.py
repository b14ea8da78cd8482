"""From requests to an alert of drift, through route and the stage ``drift`` on the in-memory log, with a classifier that was really fitted."""

from __future__ import annotations

import orjson
import pytest

from router.config import loads
from router.contract.codec import decode
from router.contract.records import Alert
from router.core.guard.drift import LEAST
from router.stages.drift import DriftStage
from router.train.fit import fit
from router.train.rows import read_rows
from tests.stages.system import NAMES, System
from tests.train.made import EASY, rows, write

CONFIG = """
[models.cheap]
input_usd_per_mtok = 1
output_usd_per_mtok = 1
[models.strong]
input_usd_per_mtok = 9
output_usd_per_mtok = 9
[pools.auto]
models = ["cheap", "strong"]
[guard]
day_s = 60
"""
DAY_MS = 60_000
T0 = 1_750_003_200_000


@pytest.fixture(scope="module")
def artefact(tmp_path_factory):
    """Knows easy and hard words, and the classes service and science."""
    return fit(read_rows([write(tmp_path_factory.mktemp("rows") / "rows.jsonl", rows(900))]), folds=3).artefact


@pytest.fixture
def system(artefact):
    return System(loads(CONFIG), lambda context: [DriftStage(context).stage()], artefact=artefact)


def day(system, prompts, **more):
    """A day of requests, a part of them each second so that lanes say what they have; then the next begins."""
    for at, prompt in enumerate(prompts):
        body = {"model": "auto", "messages": [{"role": "user", "content": prompt}]}
        system.ask(f"{system.clock.now_ms}-{at}", key=b"%d" % (at % 4), body=body, **more)
    system.log.advance(DAY_MS - 5_000, step_ms=1_000)
    system.ask(
        f"{system.clock.now_ms}-last", body={"model": "auto", "messages": [{"role": "user", "content": "hours"}]}
    )
    system.log.advance(5_000, step_ms=500)


def usual(seed, count=560):
    """Of the class service."""
    return [row["prompt"] for row in rows(2 * count + 100, seed=seed) if row["class"] == "service"][:count]


def easier(count=560):
    """What is easiest of all that was known."""
    return [f"Tell me about {EASY[at % 3]} and {EASY[at % 3]}, number {at}" for at in range(count)]


def profile(day, version="v/cheap"):
    """A lane's word of a day's requests that all lie in the lowest bin."""
    told = {"service": [LEAST, 0, 0, 100, 100, 5]}
    return orjson.dumps({"version": version, "at_ms": T0 + day * DAY_MS, "classes": told})


def alerts(system):
    return [decode(Alert, record.value) for record in system.log.records(NAMES.of("alerts"))]


def test_usual_days_are_quiet_and_other_ones_are_told_once_each_until_they_end(system, artefact):
    day(system, usual(2))
    day(system, usual(3))
    assert alerts(system) == []
    day(system, easier())
    (alert,) = [one for one in alerts(system) if one.signal == "confidence_drift"]
    assert (alert.state, alert.severity, alert.pool, alert.stratum, alert.model) == (
        "open",
        "watch",
        "auto",
        None,
        None,
    )
    (shown,) = alert.evidence["classes"].values()
    assert shown["psi"] >= shown["psi_limit"] >= 0.25
    assert alert.evidence["classifier"] == artefact.version
    assert "service" in alert.evidence["summary"]
    assert alert.action.taken is None
    assert alert.reference.n == sum(artefact.usual["service"].spread["cheap"].counts)
    day(system, easier(580))
    told = [one for one in alerts(system) if one.signal == "confidence_drift"]
    assert [one.state for one in told] == ["open", "open"]
    assert {one.id for one in told} == {alert.id}
    for seed in (4, 5, 6):
        day(system, usual(seed))
    told = [one for one in alerts(system) if one.signal == "confidence_drift"]
    assert (told[-1].state, told[-1].id) == ("closed", alert.id)
    assert len(told) == 3
    assert not system.log.records(NAMES.of("control"))


def test_a_person_acknowledges_it_and_closes_it_and_it_stays_closed_while_it_lasts(system):
    system.log.produce(NAMES.of("profiles"), b"auto", profile(0))
    system.log.produce(NAMES.of("profiles"), b"auto", profile(1))
    system.log.advance(200)
    (alert,) = alerts(system)
    for act in ("acknowledge", "close"):
        system.log.produce(NAMES.of("alert.acts"), alert.id.encode(), orjson.dumps({"id": alert.id, "act": act}))
        system.log.advance(200)
    for at in (2, 3):
        system.log.produce(NAMES.of("profiles"), b"auto", profile(at))
    system.log.advance(200)
    assert [one.state for one in alerts(system)] == ["open", "acknowledged", "closed"]


def test_another_classifier_ends_what_was_seen_by_the_one_before(system):
    for one in (profile(0), profile(1), profile(2, version="other/cheap")):
        system.log.produce(NAMES.of("profiles"), b"auto", one)
    system.log.advance(200)
    assert [one.state for one in alerts(system)] == ["open", "closed"]


@pytest.mark.parametrize(
    "value",
    [
        b"[]",
        b"{",
        b'{"version":"v","at_ms":1,"classes":{"c":[1,"x",3,4]}}',
        b'{"version":"v","at_ms":1,"classes":{"c":[1,1,0,0,0,0]}}',
    ],
)
def test_what_is_no_profile_is_a_dead_letter(system, value):
    system.log.produce(NAMES.of("profiles"), b"auto", value)
    system.log.advance(200)
    assert len(system.log.records(NAMES.of("dead-letter"))) == 1


def test_of_a_conversation_one_request_a_day_counts(system):
    day(system, ["hours"] * 40, router={"session": "s"})
    counted = [orjson.loads(record.value) for record in system.log.records(NAMES.of("profiles"))]
    assert sum(sum(counts[: len(counts) // 2 - 1]) for one in counted for counts in one["classes"].values()) <= 4 + 1
