"""Whatever lies in a topic, no stage dies of it: a request gets one result or its record one dead letter, and good ones behind it are answered."""

import itertools
from collections import Counter

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.config import loads
from router.contract.codec import encode
from router.contract.examples import RECORDS
from router.contract.records import Control, Feedback, Outcome, Request, Reward
from router.contract.requests import BadRequest, decode_request
from router.contract.topics import TOPICS
from router.stages import account, feedback, learn, watch
from tests.fuzz.hostile import LARGE, TOKENS, TRICKS, damaged
from tests.stages.system import NAMES, System

CONFIG = loads(
    """
    [models.small]
    provider = "sim"
    input_usd_per_mtok = 1
    output_usd_per_mtok = 1
    [models.large]
    provider = "sim"
    input_usd_per_mtok = 2
    output_usd_per_mtok = 2
    [pools.auto]
    models = ["small", "large"]
    policy = "fixed"
    weights = { small = 0.5, large = 0.5 }
    """
)
#: What people, workers and tenants write, with a valid record of it.
WRITTEN = {
    "requests": Request,
    "requests.batch": Request,
    "outcomes": Outcome,
    "feedback": Feedback,
    "control": Control,
}
SEEDS = {topic: tuple(encode(one) for one in RECORDS if type(one) is kind) for topic, kind in WRITTEN.items()}
MESSAGES = [{"role": "user", "content": "hello"}]


class Listening(System):
    """All stages; what a hostile caller writes goes through them, and a good request behind it."""

    def __init__(self):
        super().__init__(CONFIG, feedback.build, account.build, learn.build, watch.build)
        self._numbers = itertools.count()

    def hear(self, topic, *values, key=b"k", headers=()):
        """Everything comes to its end, and a good request behind it is answered. Returns the records that were written."""
        records = [self.log.produce(NAMES.of(topic), key, value, headers=headers) for value in values]
        good = self.ask(f"good-{next(self._numbers)}")
        self.log.run()
        self.log.advance(2_000)
        assert self.results()[orjson.loads(good.value)["custom_id"]].error is None or topic == "control"
        return records

    def judge(self, topic, records):
        """One result, or one dead letter of a stage, or both where a request can be answered but not routed."""
        letters = Counter(
            (one["topic"], one["partition"], one["offset"], one["stage"])
            for one in (orjson.loads(each.value) for each in self.log.records(NAMES.of("dead-letter")))
        )
        ids = set(self.ids())
        for record in records:
            place = (record.topic, record.partition, record.offset)
            found = [count for (*at, _), count in letters.items() if tuple(at) == place]
            assert set(found) <= {1}
            if topic.startswith("requests") and record.value is not None:
                try:
                    wanted, buried = decode_request(record.value).request_id, 0
                except BadRequest as error:
                    wanted, buried = error.request_id, 1
                assert len(found) == buried
                assert wanted is None or wanted in ids  # ``results`` has seen that there is no second one

    def ids(self):
        return [orjson.loads(one.value)["id"] for one in self.log.records(NAMES.of("results"))]


@pytest.fixture(scope="module")
def system():
    return Listening()


@pytest.mark.parametrize("topic", WRITTEN)
@settings(max_examples=50, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.data())
def test_no_damaged_record_stops_a_stage(system, topic, data):
    value = data.draw(damaged(SEEDS[topic]))
    system.judge(topic, system.hear(topic, value, key=data.draw(st.none() | st.binary(max_size=5))))


@pytest.mark.parametrize("topic", WRITTEN)
def test_nothing_large_or_deep_stops_a_stage(system, topic):
    values = (*LARGE.values(), *TOKENS, None, b"")
    system.judge(topic, system.hear(topic, *values))


TEXTS = TRICKS | {"a megabyte without a space": "x" * 900_000, "many spaces": " " * 900_000}


def with_text(where, name, text):
    """A request whose ``where`` is ``text``."""
    request = {"custom_id": f"{where} {name}", "body": {"messages": MESSAGES}, "router": {}}
    if where == "custom_id":
        request["custom_id"] = text
    elif where in {"content", "role"}:
        request["body"]["messages"] = [{"role": "user", "content": "x", where: text}]
    elif where == "model":
        request["body"]["model"] = text
    else:
        request["router"][where] = text
    return orjson.dumps(request)


@pytest.mark.parametrize("where", ["content", "model", "tenant", "session", "custom_id", "role", "metadata"])
def test_no_text_stops_a_stage_wherever_it_stands(system, where):
    values = [with_text(where, name, text) for name, text in TEXTS.items()]
    system.judge("requests", system.hear("requests", *values))


def test_a_name_that_only_looks_like_a_models_is_unknown(system):
    for name, text in {
        "confusable": TRICKS["confusable"],
        "invisible": TRICKS["invisible"],
        "wide": "\uff53mall",
    }.items():
        system.hear(
            "requests", orjson.dumps({"custom_id": f"looks {name}", "body": {"model": text, "messages": MESSAGES}})
        )
        assert system.results()[f"looks {name}"].error.code == "model_not_found"


def test_headers_of_any_kind_are_borne(system):
    value = orjson.dumps({"custom_id": "headers", "body": {"messages": MESSAGES}})
    headers = [
        ("traceparent", b"\xff\x00" * 100),
        ("schema", b"999"),
        ("", b""),
        ("slip", b"forged"),
        ("redriven", None),
    ]
    system.judge("requests", system.hear("requests", value, headers=headers))
    assert system.results()["headers"].error is None


def test_a_reward_that_nobody_of_ours_wrote_stops_nothing(system):
    cut = [encode(one)[:-9] for one in RECORDS if type(one) is Reward]
    records = system.hear("rewards", *TOKENS, *cut)
    system.judge("rewards", records)


@pytest.mark.parametrize("topic", [one.name for one in TOPICS if one.name not in {*WRITTEN, "results"}])
def test_nothing_in_a_topic_of_our_own_stops_a_stage(topic):
    """Whoever may write there can do harm, but not by bytes that are no record."""
    system = Listening()
    for key in (b"k", b"\xff"):
        system.hear(topic, *TOKENS, b"[]", b"[1, 2, 3]", b'{"a": 1}', b'"x"', b"5", b"", None, key=key)
