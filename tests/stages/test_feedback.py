"""stages/feedback on the in-memory log: verified, joined, counted once."""

from dataclasses import replace

import orjson
import pytest

from router.config import Config
from router.core.keyring import Keyring
from router.core.token import FeedbackFacts, issue
from router.kafka.client import Client
from router.stages import feedback
from router.stages.context import Context
from router.stages.feedback import build
from router.stages.feedback_desk import WAIT_MS
from router.testing import FakeClock, MemoryLog

T0 = 1_750_000_020_000
KEYRING = Keyring.parse("a secret of at least thirty-two bytes")
OTHER_KEYRING = Keyring.parse("another secret of thirty-two bytes!!")
ID = "1462af60e975e034dad89dbdd8b130e1"
FACTS = FeedbackFacts(
    request_id=ID,
    tenant="acme",
    lane="interactive",
    pool="auto",
    stratum="math/hard",
    first_model="small",
    model="small",
    answered_by_attempt=1,
    cohort="pilot",
    propensity=0.93,
    policy_version="thompson:7",
    expires_at_ms=T0 + 3_600_000,
)


def new_stage(**settle):
    config = Config(
        models={"small": {"unpriced": True}, "large": {"unpriced": True}},
        pools={"auto": {"models": ["small", "large"]}},
        feedback={"ttl_s": 3_600},
        settle={"dedupe_window_s": 600} | settle,
    )
    (stage,) = build(Context(config=config, client=Client("nowhere:9"), keyring=KEYRING, partitions=4))
    return stage


@pytest.fixture
def log():
    return MemoryLog(new_stage(), partitions=4, clock=FakeClock(T0))


def token(keyring=KEYRING, **changes):
    return issue(replace(FACTS, **changes), keyring)


def give(log, **fields):
    opinion = {"kind": "thumbs", "value": 1.0} | fields
    return log.produce("llm.feedback", b"mine", orjson.dumps(opinion))


def settle(log, request_id=ID, feedback_token=..., partition=None):
    """A result, in the partition of its id, as settle writes it."""
    where = log.produce("elsewhere", request_id.encode(), b"").partition if partition is None else partition
    found = token(request_id=request_id) if feedback_token is ... else feedback_token
    value = orjson.dumps({"id": request_id, "router": {"feedback_token": found}})
    headers = [("id", request_id.encode()), ("lane", b"interactive")]
    return log.produce("llm.results", b"users key", value, partition=where, headers=headers)


def values(log, topic):
    return [orjson.loads(record.value) for record in log.records(topic)]


def letters(log):
    return [(letter["reason"]["code"], letter["topic"], letter["offset"]) for letter in values(log, "llm.dead-letter")]


def test_feedback_with_a_token_becomes_a_reward_without_any_lookup(log):
    give(log, feedback_token=token(), value=0.25, weight=3.0, source="reviewer", kind="review")
    log.run()
    (reward,) = values(log, "llm.rewards")
    assert reward == {
        "request_id": ID,
        "pool": "auto",
        "stratum": "math/hard",
        "first_model": "small",
        "model": "small",
        "answered_by_attempt": 1,
        "cohort": "pilot",
        "propensity": 0.93,
        "policy_version": "thompson:7",
        "kind": "review",
        "source": "reviewer",
        "reward": 0.25,
        "weight": 3.0,
        "at": "2025-06-15T15:07:00.000Z",
        "context": None,
        "arm": None,
        "session": None,
        "label": None,
        "tenant": "acme",
        "asked_at": "2025-06-15T15:07:00.000Z",
        "slices": None,
    }
    (counted,) = values(log, "llm.feedback.counted")
    assert (counted["tenant"], counted["kind"], counted["value"], counted["repeat"], counted["at_ms"]) == (
        "acme",
        "review",
        0.25,
        False,
        T0,
    )


def test_rewards_of_a_stratum_meet_in_one_partition(log):
    for number in range(20):
        give(log, feedback_token=token(request_id=f"{number:032x}"))
    log.run()
    rewards = log.records("llm.rewards")
    assert len(rewards) == 20
    assert {record.key for record in rewards} == {b"auto/math/hard"}
    assert len({record.partition for record in rewards}) == 1


def test_feedback_with_a_request_id_is_joined_with_its_result(log):
    settle(log)
    log.run()
    give(log, request_id=ID)
    log.run()
    (reward,) = values(log, "llm.rewards")
    assert (reward["request_id"], reward["propensity"], reward["reward"]) == (ID, 0.93, 1.0)


def test_feedback_that_is_quicker_than_our_reading_of_the_result_waits_for_it(log):
    give(log, request_id=ID)
    log.run()
    assert values(log, "llm.rewards") == []
    log.advance(WAIT_MS - 1)
    settle(log)
    log.run()
    assert len(values(log, "llm.rewards")) == 1
    log.advance(60_000, step_ms=1_000)
    assert letters(log) == []
    assert len(values(log, "llm.rewards")) == 1


def test_waiting_feedback_survives_a_restart(log):
    give(log, request_id=ID)
    log.run()
    log.restart(new_stage())
    settle(log)
    log.run()
    assert len(values(log, "llm.rewards")) == 1


def test_feedback_for_an_unknown_id_is_rejected_whole_after_five_seconds(log):
    original = give(log, request_id=ID, comment="why")
    log.advance(WAIT_MS - 1)
    assert letters(log) == []
    log.advance(1)
    assert letters(log) == [("unknown_request", "llm.feedback", original.offset)]
    (record,) = log.records("llm.dead-letter")
    assert record.key == b"mine"
    assert orjson.loads(record.value)["value_bytes"] == len(original.value)
    log.advance(60_000, step_ms=1_000)
    assert len(letters(log)) == 1


def test_after_an_outage_the_result_is_read_before_its_feedback_is_called_unknown(log):
    give(log, request_id=ID)
    settle(log)
    log.clock.advance(90_000)  # nothing of it was read in time
    log.run()
    assert (len(values(log, "llm.rewards")), letters(log)) == (1, [])


def test_feedback_for_a_request_that_failed_has_no_answer_to_judge(log):
    settle(log, feedback_token=None)
    log.run()
    give(log, request_id=ID)
    log.run()
    assert [code for code, _, _ in letters(log)] == ["unknown_request"]


def test_an_id_is_known_as_long_as_settled_ids_are_kept_and_a_token_longer(log):
    settle(log)
    log.run()
    log.advance(660_000, step_ms=10_000)
    give(log, request_id=ID)
    log.advance(WAIT_MS)
    assert [code for code, _, _ in letters(log)] == ["unknown_request"]
    give(log, feedback_token=token())
    log.run()
    assert len(values(log, "llm.rewards")) == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"feedback_token": "nonsense"}, "forged_token"),
        ({"feedback_token": token(keyring=OTHER_KEYRING)}, "forged_token"),
        ({"feedback_token": token(expires_at_ms=T0)}, "expired_token"),
        ({"feedback_token": token(), "kind": "applause"}, "invalid_feedback"),
        ({"feedback_token": token(), "value": 1.5}, "invalid_feedback"),
        ({"feedback_token": token(), "value": True}, "invalid_feedback"),
        ({"feedback_token": token(), "weight": -1}, "invalid_feedback"),
        ({"feedback_token": token(), "source": "cat"}, "invalid_feedback"),
        ({}, "invalid_feedback"),
        ({"request_id": "short"}, "invalid_feedback"),
    ],
)
def test_bad_feedback_is_a_dead_letter_and_moves_nothing(log, changes, code):
    give(log, **changes)
    log.run()
    assert [found for found, _, _ in letters(log)] == [code]
    assert (values(log, "llm.rewards"), values(log, "llm.feedback.counted")) == ([], [])


@pytest.mark.parametrize(
    "value", [b"", b"\xff\xfe", b"[]", b"null", b'{"value": NaN}', b"[" * 100_000, b"{" * 10, b'"' + b"a" * 1000]
)
def test_what_is_no_feedback_at_all_is_a_dead_letter_and_the_partition_goes_on(log, value):
    log.produce("llm.feedback", None, value, partition=2)
    log.produce("llm.feedback", None, None, partition=2)
    give(log, feedback_token=token())
    log.run()
    assert [code for code, _, _ in letters(log)] == ["invalid_feedback"]
    assert len(values(log, "llm.rewards")) == 1


def test_a_tokens_age_is_judged_by_when_its_feedback_was_written_not_by_when_it_is_read(log):
    give(log, feedback_token=token(expires_at_ms=T0 + 1_000))
    log.clock.advance(90_000)
    log.run()
    assert len(values(log, "llm.rewards")) == 1


def test_one_opinion_counts_once_per_kind_and_source_however_it_came(log):
    settle(log)
    log.run()
    give(log, feedback_token=token(), value=1.0)
    give(log, feedback_token=token(), value=0.0)
    give(log, request_id=ID, value=0.0)
    give(log, feedback_token=token(), source="reviewer")
    give(log, feedback_token=token(), kind="rating")
    log.run()
    assert len(values(log, "llm.rewards")) == 3
    counted = values(log, "llm.feedback.counted")
    assert sorted(each["repeat"] for each in counted) == [False, False, False, True, True]
    assert letters(log) == []


def test_a_repeat_is_known_after_a_restart(log):
    give(log, feedback_token=token())
    log.run()
    log.restart(new_stage())
    give(log, feedback_token=token())
    log.run()
    assert [each["repeat"] for each in values(log, "llm.feedback.counted")] == [False, True]


@pytest.mark.parametrize("changes", [{"pool": None, "stratum": None, "cohort": "direct"}, {"cohort": "shadow"}])
def test_feedback_for_a_request_that_no_pool_decided_is_counted_and_gives_no_reward(log, changes):
    give(log, feedback_token=token(**changes))
    log.run()
    assert values(log, "llm.rewards") == []
    assert len(values(log, "llm.feedback.counted")) == 1


def test_a_second_result_of_one_id_is_reported_as_doubled(log):
    where = settle(log).partition
    log.advance(2_000)
    settle(log)
    log.advance(2_000)
    log.restart(new_stage())
    log.advance(2_000)
    load = values(log, "llm.load")[-1]
    assert (load["stage"], load["partition"], load["doubled"], load["ids"]) == ("feedback", where, 1, 1)


def test_load_is_told_when_it_changes_and_at_most_once_a_second(log):
    for _ in range(12):
        settle(log, request_id=f"{log.clock():032x}", partition=0)
        log.advance(250)
    assert len(values(log, "llm.load")) <= 4
    before = len(values(log, "llm.load"))
    log.advance(10_000, step_ms=1_000)
    assert len(values(log, "llm.load")) <= before + 1


def test_offsets_beyond_32_bits_are_found_again(log):
    stage = new_stage()
    desk = stage.index(stage.rows())
    desk.newest = 5 * 2**32 + 7
    for offset in (desk.newest, desk.newest - 8, desk.newest - 2**32 + 1):
        assert desk.place(offset % 2**32) == offset


def test_a_result_without_its_id_header_is_a_dead_letter(log):
    log.produce("llm.results", b"k", b"{}", partition=0)
    log.produce("llm.results", b"k", b"{}", partition=0, headers=[("id", b"zz")])
    settle(log)
    log.run()
    assert [code for code, _, _ in letters(log)] == ["internal_error"] * 2


def test_when_the_feedback_itself_is_gone_its_dead_letter_still_names_its_place(log):
    original = give(log, request_id=ID)
    log.run()
    lookup = log._at
    log._at = lambda place: None if place[0] == "llm.feedback" else lookup(place)
    log.restart(new_stage())
    log.advance(WAIT_MS)
    assert letters(log) == [("unknown_request", "llm.feedback", original.offset)]


def test_too_many_that_wait_are_not_kept(log, monkeypatch):
    monkeypatch.setattr(feedback, "MAX_PARKED", 2)
    for _ in range(3):
        give(log, request_id=ID)
    log.run()
    assert [code for code, _, _ in letters(log)] == ["unknown_request"]
    settle(log)
    log.run()
    assert len(values(log, "llm.feedback.counted")) == 2


def test_a_record_that_killed_the_process_becomes_a_dead_letter(log):
    stage = new_stage()
    record = give(log, feedback_token=token())
    log.give_up(stage.name, record)
    log.run()
    assert letters(log) == [("internal_error", "llm.feedback", record.offset)]
    assert values(log, "llm.rewards") == []


def test_an_answer_by_a_fallback_model_is_rewarded_as_such(log):
    give(log, feedback_token=token(model="large", answered_by_attempt=2))
    log.run()
    (reward,) = values(log, "llm.rewards")
    assert (reward["first_model"], reward["model"], reward["answered_by_attempt"]) == ("small", "large", 2)
