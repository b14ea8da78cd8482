"""stages/learn on the in-memory log: rewards in, weights out."""

import random

import orjson
import pytest

from router.config import Config
from router.contract.codec import to_rfc3339
from router.core.bandit.voices import VOICES
from router.core.keyring import Keyring
from router.kafka.client import Client
from router.stages import learn_sessions
from router.stages.context import Context
from router.stages.learn import LOOK_EVERY_MS, VOICE, build
from router.stages.learn_sessions import KEPT_MS
from router.stages.learn_sessions import PREFIX as SESSION
from router.testing import FakeClock, MemoryLog

T0 = 1_780_000_020_000
KEYRING = Keyring.parse("a secret of at least thirty-two bytes")


def new_stage(feedback=None, **auto):
    config = Config(
        feedback=feedback or {},
        models={name: {"unpriced": True} for name in ("small", "mid", "large")},
        pools={
            "auto": {"models": ["small", "large"], "margin": 0.1} | auto,
            "still": {"models": ["small", "large"], "policy": "fixed", "weights": {"small": 0.5, "large": 0.5}},
            "look": {"models": ["small", "large"], "policy": "observe"},
        },
    )
    (stage,) = build(Context(config=config, client=Client("nowhere:9"), keyring=KEYRING, partitions=4))
    return stage


@pytest.fixture
def log():
    return MemoryLog(new_stage(), partitions=4, clock=FakeClock(T0))


def give(log, model="small", reward=1.0, **changes):
    value = {
        "request_id": "0" * 32,
        "pool": "auto",
        "stratum": "math/hard",
        "first_model": model,
        "model": model,
        "answered_by_attempt": 1,
        "cohort": "pilot",
        "propensity": 0.5,
        "policy_version": "thompson:0",
        "kind": "review",
        "source": "reviewer",
        "reward": reward,
        "weight": 1.0,
        "at": to_rfc3339(log.clock()),
    } | changes
    log.produce("llm.rewards", f"{value['pool']}/{value['stratum']}".encode(), orjson.dumps(value))


def teach(log, n=400, *, small=0.95, large=0.95, **changes):
    rng = random.Random(3)
    for _ in range(n):
        give(log, "small", float(rng.random() < small), **changes)
        give(log, "large", float(rng.random() < large), **changes)


def weights(log):
    return [orjson.loads(record.value) for record in log.records("llm.weights")]


def test_a_cheap_model_that_is_as_good_gets_the_traffic(log):
    teach(log)
    log.run()
    (published,) = weights(log)
    assert (published["pool"], published["stratum"], published["policy_version"]) == ("auto", "math/hard", "thompson:1")
    assert published["weights"]["small"] > 0.9
    assert sum(published["weights"].values()) == pytest.approx(1.0)
    assert published["evidence"] == {"small": 400.0, "large": 400.0}
    assert log.records("llm.weights")[0].key == b"auto/math/hard"


def test_a_cheap_model_that_is_worse_gets_none(log):
    teach(log, small=0.5)
    log.run()
    assert weights(log)[-1]["weights"]["small"] < 0.01


def test_strata_learn_apart(log):
    teach(log, small=0.95, stratum="math/easy")
    teach(log, small=0.5, stratum="math/hard")
    log.advance(1_000, step_ms=100)
    last = {each["stratum"]: each["weights"]["small"] for each in weights(log)}
    assert last["math/easy"] > 0.9
    assert last["math/hard"] < 0.01


def test_weights_are_published_at_most_once_a_second_and_only_when_they_changed(log):
    for _ in range(40):
        teach(log, n=5)
        log.advance(100)
    assert 4 <= len(weights(log)) <= 5
    log.advance(60_000, step_ms=1_000)
    before = len(weights(log))
    log.advance(60_000, step_ms=1_000)
    assert len(weights(log)) == before


def freeze(log, scope, *, active=True, expires_at=None):
    order = {"scope": scope, "action": "freeze", "active": active, "by": "ann", "reason": "a launch"}
    order |= {"at": to_rfc3339(log.clock()), "expires_at": expires_at}
    log.produce("llm.control", f"{scope}/freeze".encode(), orjson.dumps(order))
    log.advance(1_000)


@pytest.mark.parametrize("scope", ["stratum:auto/math/hard", "stratum:auto/math", "pool:auto", "all"])
def test_frozen_weights_stay_and_what_was_learned_meanwhile_comes_when_they_are_released(log, scope):
    freeze(log, scope)
    teach(log)
    log.advance(5_000, step_ms=1_000)
    assert weights(log) == []
    freeze(log, scope, active=False)
    log.advance(2_000, step_ms=1_000)
    (published,) = weights(log)
    assert published["weights"]["small"] > 0.9
    assert published["evidence"] == {"small": 400.0, "large": 400.0}


def test_a_freeze_of_something_else_or_one_that_is_over_holds_nothing(log):
    freeze(log, "stratum:auto/math/easy")
    freeze(log, "pool:auto", expires_at=to_rfc3339(T0 + 3_000))
    teach(log)
    log.run()
    assert weights(log) == []
    log.advance(4_000, step_ms=1_000)
    assert len(weights(log)) == 1


def test_versions_count_up_and_go_on_after_a_restart(log):
    teach(log, n=50)
    log.run()
    log.restart(new_stage())
    log.advance(1_000)
    assert [each["policy_version"] for each in weights(log)] == ["thompson:1"]
    teach(log, n=200)
    log.advance(2_000)
    assert [each["policy_version"] for each in weights(log)] == ["thompson:1", "thompson:2"]
    assert weights(log)[-1]["evidence"]["small"] == 250.0


def test_weights_go_back_to_the_baseline_as_evidence_fades(log):
    teach(log, n=60)
    log.run()
    learned = weights(log)[-1]["weights"]["small"]
    log.advance(200 * 86_400_000, step_ms=20 * 86_400_000)
    assert weights(log)[-1]["weights"]["small"] < learned
    assert log.clock() - T0 > LOOK_EVERY_MS


def test_a_new_configuration_is_obeyed_at_the_next_start(log):
    teach(log)
    log.run()
    log.restart(new_stage(models=["small", "mid", "large"]))
    log.run()
    assert weights(log)[-1]["weights"].keys() == {"small", "mid", "large"}


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "large", "first_model": "small", "answered_by_attempt": 2},
        {"cohort": "pinned"},
        {"cohort": "direct"},
        {"pool": "still"},
        {"pool": "nowhere"},
        {"model": "unheard", "first_model": "unheard"},
    ],
)
def test_what_is_no_evidence_moves_no_posterior(log, changes):
    give(log, **changes)
    log.advance(5_000, step_ms=1_000)
    assert weights(log) == []
    assert log.records("llm.dead-letter") == []


@pytest.mark.parametrize("cohort", ["pilot", "control", "holdout"])
def test_pilot_control_and_holdout_are_evidence(log, cohort):
    give(log, "large", cohort=cohort)
    log.run()
    assert weights(log)[-1]["evidence"] == {"small": 0.0, "large": 1.0}


def test_an_observing_pool_learns_too(log):
    teach(log, pool="look")
    log.run()
    assert weights(log)[-1]["pool"] == "look"


@pytest.mark.parametrize(
    "value", [b"", b"{}", b"[]", b"\xff", b'{"reward": NaN}', orjson.dumps({"pool": "auto", "reward": 2})]
)
def test_a_malformed_reward_is_a_dead_letter(log, value):
    log.produce("llm.rewards", b"auto/math/hard", value)
    give(log, reward=7.0)
    give(log, at="yesterday")
    log.produce("llm.rewards", b"auto/math/hard", None)
    log.run()
    codes = [orjson.loads(record.value)["reason"]["code"] for record in log.records("llm.dead-letter")]
    assert codes == ["invalid_feedback"] * 3
    assert weights(log) == []


def evidence(log):
    return [orjson.loads(record.value) for record in log.records("llm.weights")][-1]["evidence"]


def test_a_conversation_counts_for_two_opinions_at_most():
    one, many = (MemoryLog(new_stage(), partitions=4, clock=FakeClock(T0)) for _ in range(2))
    for number in range(300):
        give(one, session="0123456789abcdef", request_id=f"{number:032x}")
        give(many, session=f"{number:016x}", request_id=f"{number:032x}")
    for log in (one, many):
        log.advance(2_000, step_ms=100)
    assert 1.5 < evidence(one)["small"] <= 2.0
    assert evidence(many)["small"] > 290


def test_opinions_of_another_kind_model_or_stratum_are_others():
    log = MemoryLog(new_stage(), partitions=4, clock=FakeClock(T0))
    for kind in ("review", "label"):
        give(log, session="0123456789abcdef", kind=kind)
    give(log, session="0123456789abcdef", model="large")
    log.advance(2_000, step_ms=100)
    assert evidence(log) == {"small": 2.0, "large": 1.0}


def test_what_conversations_have_said_survives_a_restart_and_is_forgotten_in_the_end():
    stage = new_stage()
    log = MemoryLog(stage, partitions=4, clock=FakeClock(T0))
    for _ in range(2):
        give(log, session="0123456789abcdef")
        log.advance(1_000)
        log.restart(stage)
    log.advance(2_000, step_ms=100)
    assert evidence(log)["small"] == pytest.approx(1.3, abs=0.05)
    rows = [row for number in range(4) for row in log.rows(stage, number).items() if row[0].startswith(SESSION)]
    assert len(rows) == 1
    log.advance(KEPT_MS + 1_000)
    assert not [row for number in range(4) for row in log.rows(stage, number).items() if row[0].startswith(SESSION)]


def test_of_too_many_conversations_the_one_silent_longest_is_forgotten(monkeypatch):
    monkeypatch.setattr(learn_sessions, "MOST", 3)
    stage = new_stage()
    log = MemoryLog(stage, partitions=1, clock=FakeClock(T0))
    for number in range(5):
        give(log, session=f"{number:016x}")
        log.advance(1_000)
    rows = [row for row in log.rows(stage, 0).items() if row[0].startswith(SESSION)]
    assert len(rows) == 3


def storm(log, n=10_000, tenant="evil", reward=0.0, **changes):
    for number in range(n):
        give(log, reward=reward, tenant=tenant, kind="thumbs", source="user", request_id=f"{number:032x}", **changes)


def honest(log, n=100, tenants=("acme", "bolt", "core", "dune"), small=0.95):
    for tenant in tenants:
        teach(log, n, small=small, tenant=tenant, kind="thumbs", source="user")


HALF = {"max_tenant_share": 0.5}


def learned(**feedback):
    return MemoryLog(new_stage(feedback=HALF | feedback), partitions=4, clock=FakeClock(T0))


def last(log):
    log.advance(2_000, step_ms=500)
    return weights(log)[-1]


def test_a_tenants_storm_counts_for_what_all_others_say_together():
    calm, stormy, free = learned(), learned(), learned(max_tenant_share=1.0)
    for log in (calm, stormy, free):
        honest(log)
    storm(stormy)
    storm(free, n=2_000)
    assert last(calm)["evidence"]["small"] == 400
    assert last(calm)["bounded"] is None
    assert last(free)["evidence"]["small"] == 2_400
    found = last(stormy)
    assert found["evidence"]["small"] == 800
    assert found["bounded"] == {"small": pytest.approx(1 - 800 / 10_400, abs=0.01)}
    storm(stormy, n=1_000)
    assert last(stormy)["weights"] == found["weights"]


def test_by_default_a_tenant_counts_for_twice_what_the_others_say():
    log = MemoryLog(new_stage(), partitions=4, clock=FakeClock(T0))
    honest(log)
    storm(log, n=2_000)
    assert last(log)["evidence"]["small"] == pytest.approx(3 * 400, rel=0.02)


def test_praise_of_one_tenant_does_not_release_what_others_find_bad():
    bound, free = learned(), learned(max_tenant_share=1.0)
    for log in (bound, free):
        honest(log, small=0.4)
        storm(log, n=3_000, reward=1.0)
    assert last(free)["weights"]["small"] > 0.5
    assert last(bound)["weights"]["small"] < 0.1


def test_honest_feedback_after_a_storm_takes_back_what_the_storm_had():
    log = learned()
    storm(log, n=2_000)
    alone = last(log)
    assert alone["bounded"] is None  # one tenant alone: nobody whom it could outvote
    honest(log)
    after = last(log)
    assert after["evidence"]["small"] == 800
    honest(log, n=400)
    assert last(log)["evidence"]["small"] == 4_000


def test_of_one_tenant_alone_everything_counts_and_one_word_of_another_undoes_nothing():
    log = learned()
    honest(log, n=1000, tenants=("acme",))
    before = last(log)["weights"]
    assert before["small"] > 0.5
    give(log, reward=0.0, tenant="other", kind="thumbs", source="user")
    assert last(log)["weights"]["small"] == pytest.approx(before["small"], abs=0.05)


def test_who_said_what_survives_a_restart_and_any_batches():
    logs = [learned() for _ in range(3)]
    logs[2].batch_records = 7
    for log in logs:
        honest(log, n=50)
        storm(log, n=700)
    logs[1].run()
    logs[1].restart(new_stage(feedback=HALF))
    assert [last(log)["weights"] for log in logs[1:]] == [last(logs[0])["weights"]] * 2
    assert [last(log)["bounded"] for log in logs[1:]] == [last(logs[0])["bounded"]] * 2


def test_voices_are_bounded_however_many_tenants_there_are():
    log = MemoryLog(stage := new_stage(), partitions=1, clock=FakeClock(T0))
    for number in range(1000):
        give(log, tenant=f"tenant-{number}")
    log.advance(2_000, step_ms=500)
    assert len([key for key, _ in log.rows(stage, 0).items() if key.startswith(VOICE)]) == VOICES
