from dataclasses import replace

import orjson
import pytest
from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError

from router.config import loads
from router.contract.codec import decode, encode, to_rfc3339
from router.contract.errors import Unavailable
from router.contract.ids import partition_of, request_id
from router.contract.records import Control, Decision, Health, Origin, Weights, Work
from router.contract.topics import MAX_REQUEST_BYTES, Names
from router.core.features import SURFACE
from router.core.records import First, Load, Order
from router.core.slip import Keyring, verify
from router.core.snapshot import Snapshot
from router.core.usual import Spread, Usual
from router.history.explain import Account, explain
from router.history.replay import Snapshots, Verdict, replay
from router.kafka import bodies
from router.kafka.bodies import BodyReader
from router.kafka.client import Client
from router.stages import route_sessions
from router.stages.context import Context
from router.stages.route import build
from router.stages.route_intake import MAX_KEY_BYTES
from router.testing import FakeClock, MemoryLog
from tests.core.classifiers import INTEGRALS, knowing

CONFIG = """
[kafka]
partitions = 4
[route]
max_inflight = 10
[classify]
rules = [{ name = "math", any = ["integral"] }]
[models.small]
capabilities = ["tools"]
context_window = 1000
max_output_tokens = 500
input_usd_per_mtok = 0.1
output_usd_per_mtok = 0.4
[models.large]
provider_model = "large-2026"
capabilities = ["tools", "images"]
input_usd_per_mtok = 2
output_usd_per_mtok = 8
[pools.auto]
models = ["small", "large"]
session_ttl_s = 600
holdout_percent = 0
epsilon = 0
[pools.fixed]
models = ["small", "large"]
policy = "fixed"
weights = { small = 0.5, large = 0.5 }
holdout_percent = 0
"""
RING = Keyring((b"k" * 32,))
NAMES = Names()


class World:
    """Both stages of route on an in-memory log."""

    def __init__(self, config=CONFIG, artefact=None):
        self.clock = FakeClock()
        self.context = Context(
            config=loads(config),
            client=Client("127.0.0.1:1"),
            keyring=RING,
            clock=self.clock,
            partitions=4,
            artefact=artefact,
        )
        self.route, self.batch = build(self.context)
        self.log = MemoryLog(self.route, self.batch, clock=self.clock)

    def ask(self, custom_id="r-1", *, lane="interactive", key=b"k", text="hello", produced=None, headers=(), **changed):
        body = {"model": "auto", "messages": [{"role": "user", "content": text}]} | changed.pop("body", {})
        value = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body} | changed
        return self.produce(encode(value), lane=lane, key=key, produced=produced, headers=headers)

    def produce(self, value, *, lane="interactive", key=b"k", produced=None, headers=()):
        topic = NAMES.of("requests.batch" if lane == "batch" else "requests")
        return self.log.produce(topic, key, value, timestamp_ms=produced, headers=headers)

    def order(self, asked, *, custom_id="r-1", tenant="default", **changed):
        order = Order(
            **{
                "request_id": request_id(tenant, custom_id),
                "attempt": 2,
                "reason": "retry",
                "lane": "interactive",
                "origin": Origin(topic=asked.topic, partition=asked.partition, offset=asked.offset),
                "at_ms": asked.timestamp,
                "deadline_at_ms": asked.timestamp + 60_000,
                "first": First(
                    stratum="math/hard", cohort="pilot", propensity=0.25, policy_version="thompson:3", model="small"
                ),
                "prefer": "small",
                "last_error": "provider_error",
            }
            | changed
        )
        topic = NAMES.of("redispatch.batch" if order.lane == "batch" else "redispatch")
        self.log.produce(topic, order.request_id.encode(), encode(order), partition=asked.partition)

    def control(self, scope, action, *, active=True, **args):
        order = Control(
            scope=scope, action=action, args=args, active=active, by="me", reason="test", at=to_rfc3339(self.clock())
        )
        self.log.produce(NAMES.of("control"), f"{scope}/{action}".encode(), encode(order))

    def learned(self, stratum, **weights):
        record = Weights(
            pool="auto",
            stratum=stratum,
            weights=weights,
            policy_version="thompson:9",
            evidence={},
            at=to_rfc3339(self.clock()),
        )
        self.log.produce(NAMES.of("weights"), f"auto/{stratum}".encode(), encode(record))

    def put_in_force(self, file):
        self.log.produce(NAMES.of("classifier"), b"current", file)
        self.log.advance(1)

    def run(self):
        self.log.run()
        return self

    def decisions(self):
        return [decode(Decision, record.value) for record in self.log.records(NAMES.of("decisions"))]

    def slips(self):
        found = [dict(record.headers)["slip"].decode() for record in self.log.records(NAMES.of("decisions"))]
        return [verify(text, RING) for text in found]

    def work(self, model, lane="interactive"):
        return [decode(Work, record.value) for record in self.log.records(NAMES.work(model, lane))]

    def dead(self):
        return [orjson.loads(record.value) for record in self.log.records(NAMES.of("dead-letter"))]

    def errors(self):
        return [(one.attempt, one.error.code) for one in self.decisions()]


@pytest.fixture
def world():
    return World()


# --- a request ---


def test_a_request_leaves_as_a_decision_and_work_with_one_slip(world):
    asked = world.ask(
        text="What is the integral?",
        key=b"\x00\xff",
        router={"tenant": "acme", "metadata": {"a": [1]}, "deadline_ms": 500},
    )
    world.run()
    (decision,), (slip,), (work,) = world.decisions(), world.slips(), world.work("large")
    rid = request_id("acme", "r-1")
    assert (decision.request_id, decision.attempt, decision.model, decision.stratum) == (rid, 1, "large", "math/easy")
    assert decision.deadline_at_ms == work.deadline_at_ms == slip.deadline_at_ms == asked.timestamp + 500
    assert decision.origin == slip.origin == Origin(topic="llm.requests", partition=asked.partition, offset=0)
    assert (work.provider_model, work.reason, work.body["model"]) == ("large-2026", "routed", "auto")
    assert verify(work.slip, RING) == slip
    assert (slip.key, slip.tenant, slip.custom_id, slip.metadata) == (b"\x00\xff", "acme", "r-1", {"a": [1]})
    assert (slip.first_model, slip.baseline, slip.propensity) == ("large", "large", 1.0)
    assert world.dead() == []


def test_decisions_and_outcomes_belong_into_the_partition_of_the_id(world):
    for number in range(20):
        world.ask(f"r-{number}", key=str(number).encode())
    world.run()
    homes = {one.key: one.partition for one in world.log.records(NAMES.of("decisions"))}
    assert len(homes) == 20
    assert all(home == partition_of(key, 4) for key, home in homes.items())
    assert all(work.outcome_partition == homes[work.request_id.encode()] for work in world.work("large"))


def test_the_trace_goes_on_and_other_headers_do_not(world):
    world.ask(headers=[("traceparent", b"00-ab"), ("cookie", b"x"), ("slip", b"forged")])
    world.run()
    decision, work = world.log.records(NAMES.of("decisions"))[0], world.log.records(NAMES.work("large"))[0]
    assert ("traceparent", b"00-ab") in decision.headers
    assert list(work.headers) == [("traceparent", b"00-ab")]
    assert [name for name, _ in decision.headers] == ["slip", "traceparent"]


def test_no_prompt_text_is_in_a_decision(world):
    world.ask(text="the integral of xyzzy", router={"tenant": "acme"})
    world.produce(b'{"custom_id": "r-2", "body": {"messages": "the xyzzy prompt"}}')
    world.run()
    assert len(world.decisions()) == 2
    assert not any(b"xyzzy" in record.value for record in world.log.records(NAMES.of("decisions")))


def test_a_duplicate_read_lately_is_dropped_and_a_later_one_is_left_to_settle(world):
    world.ask()
    world.ask(body={"model": "small"})
    world.run()
    assert len(world.decisions()) == 1
    world.log.advance(60_000)
    world.ask()
    world.run()
    assert len(world.decisions()) == 2


def test_a_duplicate_after_a_restart_is_settles_matter(world):
    world.ask()
    world.run()
    world.log.restart(world.route)
    world.ask()
    world.run()
    assert len(world.decisions()) == 2


def test_batch_requests_have_their_own_work_topic_and_a_day(world):
    asked = world.ask(lane="batch")
    world.run()
    (work,) = world.work("large", "batch")
    assert work.deadline_at_ms == asked.timestamp + 86_400_000
    assert world.decisions()[0].lane == "batch"


@pytest.mark.parametrize(("ahead_ms", "counted_ms"), [(-(10**12), -60_000), (-30_000, -30_000), (10**12, 60_000)])
def test_a_producers_clock_counts_only_within_a_minute(world, ahead_ms, counted_ms):
    now_ms = world.clock()
    world.ask(produced=max(0, now_ms + ahead_ms), router={"deadline_ms": 86_400_000})
    world.run()
    assert world.slips()[0].at_ms == now_ms + counted_ms


# --- the classifier ---

UNRULED = CONFIG.replace(
    """[classify]
rules = [{ name = "math", any = ["integral"] }]
""",
    "",
)


def kinds(world):
    return [(one.stratum, one.features["p_ok"]) for one in world.decisions()]


def test_a_request_is_classed_by_what_was_learned_and_its_candidates_say_what_they_are_worth():
    world = World(UNRULED, INTEGRALS)
    world.ask("r-1", text="integral")
    world.ask("r-2", text="hello there")
    world.run()
    hard, easy = world.decisions()
    assert (hard.stratum, easy.stratum) == ("math/hard", "other/easy")
    assert [one.p_ok for one in hard.candidates] == [hard.features["p_ok"][model] for model in ("small", "large")]
    assert hard.features["p_ok"]["small"] < 0.01
    assert easy.features["p_ok"]["small"] > 0.9


def test_what_is_far_from_what_was_trained_on_is_a_slice_and_is_given_back_alone():
    others = Usual({"small": Spread((), (300,))}, (0.0,) * len(SURFACE), reach=0.0, far=0)
    world = World(UNRULED, replace(INTEGRALS, usual={"other": others}))
    for stratum in ("math/hard", "other/easy"):
        world.learned(stratum, small=1.0, large=0.0)
    world.control("stratum:auto/slice/far=yes", "rollback")
    world.ask("r-1", text="integral")
    world.ask("r-2", text="hello there")
    world.run()
    known, far = world.decisions()
    assert (known.features["slices"], known.model) == (["language=latin", "length=short"], "small")
    assert (far.features["slices"], far.model) == (["language=latin", "length=short", "far=yes"], "large")


def test_a_rule_says_the_class_and_the_classifier_the_band():
    world = World(
        UNRULED.replace("[models.small]", '[classify]\nrules = [{ name = "tea", any = ["integral"] }]\n[models.small]'),
        INTEGRALS,
    )
    world.ask(text="integral")
    world.run()
    assert kinds(world)[0][0] == "tea/hard"


def test_a_pool_whose_models_it_does_not_know_keeps_bands_of_tokens():
    stranger = knowing({"other": (0, {})}, {"math": (0, {}), "verse": (1, {})})
    world = World(UNRULED, stranger)
    world.ask()
    world.run()
    assert kinds(world) == [("verse/easy", {"other": 0.5})]
    assert [one.p_ok for one in world.decisions()[0].candidates] == [None, None]


def test_a_classifier_is_swapped_live_and_back_and_each_snapshot_names_its_own(world):
    for number, file in enumerate([None, INTEGRALS.to_bytes(), b"no classifier", b""]):
        if file is not None:
            world.put_in_force(file)
        world.ask(f"r-{number}", text="hello there")
        world.run()
    assert [stratum for stratum, _ in kinds(world)] == ["general/easy", "other/easy", "other/easy", "general/easy"]
    stored = {
        record.key.decode(): Snapshot.from_canonical(record.value)
        for record in world.log.records(NAMES.of("snapshots"))
    }
    versions = [stored[one.snapshot_version].classifier for one in world.decisions()]
    assert versions == ["", INTEGRALS.version, INTEGRALS.version, ""]


def test_one_that_is_in_force_is_read_before_the_first_decision(world):
    world.log.produce(NAMES.of("classifier"), b"current", INTEGRALS.to_bytes())
    world.ask(text="integral")
    world.run()
    assert kinds(world)[0][0] == "math/hard"


def test_requests_read_before_a_swap_are_classed_by_the_snapshot_that_decides_them(world):
    """Reading ahead makes no class: what a turn has in hand goes by one classifier, the one that its snapshot names."""
    world.ask(text="integral")
    batch_of = world.route.prepare
    seen = []
    taxonomy = world.route.resources[0].snapshots

    def prepare(batch):
        found = batch_of(batch)
        if not seen:
            seen.append(taxonomy.apply_classifier(b"current", INTEGRALS.to_bytes()))
        return found

    world.log = MemoryLog(replace(world.route, prepare=prepare), clock=world.clock)
    world.ask(text="integral")
    world.run()
    (decision,) = world.decisions()
    stored = Snapshot.from_canonical(world.log.records(NAMES.of("snapshots"))[-1].value)
    assert (decision.stratum, stored.classifier) == ("math/hard", INTEGRALS.version)


# --- refusals and dead letters ---


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"body": {"model": "nobody"}}, "model_not_found"),
        ({"body": {"model": "small", "tools": [{}], "max_tokens": 1000}}, "context_length_exceeded"),
        ({"body": {"logprobs": True}}, "capability_missing"),
        ({"router": {"max_cost_nano_usd": 0}}, "budget_exceeded"),
    ],
)
def test_what_no_model_can_do_is_refused_by_a_decision_alone(world, changed, code):
    world.ask(**changed)
    world.run()
    assert world.errors() == [(0, code)]
    assert (world.slips()[0].attempt, world.slips()[0].model) == (0, None)
    assert world.dead() == []


def test_a_request_read_after_its_deadline_is_refused(world):
    world.ask(produced=world.clock() - 1000, router={"deadline_ms": 1000})
    world.run()
    assert world.errors() == [(0, "deadline_exceeded")]


@pytest.mark.parametrize(
    "value",
    [
        b'{"custom_id": "r-1", "body": {"messages": []}}',
        b'{"custom_id": "r-1", "body": {}}',
        b'{"custom_id": "r-1", "body": {"messages": [{"role": "user", "content": "x"}]}, "router": {"deadline_ms": 0}}',
        b'{"custom_id": "r-1", "body": {"messages": [{"role": "user", "content": "x"}]}, "router": {"deadline_ms": 1000000000000}}',
        b'{"custom_id": "r-1", "body": {"messages": [{"role": "user", "content": "x"}]}, "router": {"max_cost_nano_usd": -1}}',
        b'{"custom_id": "r-1", "body": {"messages": [{"role": "user", "content": "x"}]}, "router": {"tenant": 5}}',
    ],
)
def test_readable_but_invalid_is_a_refusal_and_a_dead_letter(world, value):
    world.produce(value)
    world.run()
    assert world.errors() == [(0, "invalid_request")]
    assert [one["reason"]["code"] for one in world.dead()] == ["invalid_request"]
    assert (world.slips()[0].custom_id, world.slips()[0].key) == ("r-1", b"k")
    assert world.decisions()[0].request_id == request_id("default", "r-1")


@pytest.mark.parametrize(
    "value", [b"", b"not json", b"[]", b"{}", b'{"custom_id": ""}', b'{"custom_id": 5}', b"\xff\xfe"]
)
def test_what_cannot_be_answered_is_a_dead_letter_only(world, value):
    world.produce(value)
    world.ask("r-2")
    world.run()
    assert [one["reason"]["code"] for one in world.dead()] == ["invalid_request"]
    assert [one.request_id for one in world.decisions()] == [request_id("default", "r-2")]


def test_a_null_value_is_skipped(world):
    world.produce(None)
    world.run()
    assert (world.decisions(), world.dead()) == ([], [])


@pytest.mark.parametrize(("over", "code"), [(-1, None), (0, None), (1, "invalid_request")])
def test_the_size_limit_is_exact(world, over, code):
    frame = len(encode({"custom_id": "r-1", "body": {"messages": [{"role": "user", "content": ""}]}}))
    text = "a " * MAX_REQUEST_BYTES
    body = {"messages": [{"role": "user", "content": text[: MAX_REQUEST_BYTES - frame + over]}]}
    world.produce(encode({"custom_id": "r-1", "body": body}))
    world.run()
    (decision,) = world.decisions()
    # A megabyte of words is too long for every model, but that is another matter.
    assert decision.error.code == (code or "context_length_exceeded")


@pytest.mark.parametrize(
    ("words", "limited", "estimated"),
    [
        (4000, False, True),
        (1300, False, False),  # near the border of a band
        (1700, False, False),
        (5400, False, False),  # near a context window, the answer counted in
        (4000, True, False),  # a budget
    ],
)
def test_a_count_that_something_depends_on_is_exact(words, limited, estimated):
    bands = 'bands = [{ name = "easy", max_tokens = 1500 }, { name = "hard" }]'
    config = CONFIG.replace("[models.small]", f"{bands}\n[models.small]").replace("= 1000", "= 8000")
    world = World(config)
    router = {"max_cost_nano_usd": 10**12} if limited else {}
    world.ask(text=" word" * words, body={"max_tokens": 1000}, router=router)
    world.run()
    (decision,) = world.decisions()
    assert decision.features["tokens_estimated"] is estimated
    counted = decision.features["prompt_tokens"]
    assert counted == pytest.approx(words, rel=0.25) if estimated else counted == words + 7
    assert decision.stratum == ("general/easy" if words < 1500 else "general/hard")


HOSTILE = {
    "a million spaces": lambda: {"messages": [{"role": "user", "content": " " * 900_000}]},
    "a hundred thousand messages": lambda: {"messages": [{"role": "u"}] * 60_000},
    "numbers that grow when written": lambda: {"messages": [{"role": "user", "content": "x"}], "x": "GROW"},
    "metadata of a megabyte": lambda: {"messages": [{"role": "user", "content": "x"}]},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_requests_get_one_answer_and_hold_nobody_up(world, name):
    value = encode({"custom_id": "r-1", "body": HOSTILE[name](), "router": {"metadata": "META"}})
    value = value.replace(b'"GROW"', b"[" + b"1e15," * 150_000 + b"1]")
    if name.startswith("metadata"):
        value = value.replace(b'"META"', b"[" + b"1e15," * 150_000 + b"1]")
    world.produce(value)
    world.ask("r-2")
    world.run()
    answered = {one.request_id for one in world.decisions()}
    assert answered == {request_id("default", "r-1"), request_id("default", "r-2")}
    for topic in ("decisions", "dead-letter"):
        assert all(_size(one) < 3 * 2**20 for one in world.log.records(NAMES.of(topic)))
    assert all(_size(one) < 3 * 2**20 for one in world.log.records(NAMES.work("large")))


def _size(record):
    return len(record.value) + sum(len(name) + len(value) for name, value in record.headers)


def test_a_key_too_long_to_travel_is_refused(world):
    world.ask(key=b"k" * (MAX_KEY_BYTES + 1))
    world.run()
    assert world.errors() == [(0, "invalid_request")]
    assert world.slips()[0].key is None


def test_a_record_that_killed_the_process_is_given_up_with_an_answer(world):
    record = world.ask()
    world.log.give_up(world.route.name, record)
    world.run()
    assert world.errors() == [(0, "internal_error")]
    assert [one["reason"]["code"] for one in world.dead()] == ["internal_error"]
    assert [slip.key for slip in world.slips()] == [b"k"]


def test_a_bad_request_that_killed_the_process_is_answered_with_what_is_wrong_with_it(world):
    world.log.give_up(world.route.name, world.ask(method="GET", key=b"caller"))
    world.log.give_up(world.route.name, world.produce(b"hostile"))
    assert world.errors() == [(0, "invalid_request")]
    assert [slip.key for slip in world.slips()] == [b"caller"]
    assert len(world.dead()) == 2


def test_an_order_that_killed_the_process_ends_its_request(world):
    asked = world.ask()
    world.order(asked)
    (order,) = world.log.records(NAMES.of("redispatch"))
    world.log.give_up(world.route.name, order)
    assert (0, "internal_error") in [(one.attempt, one.error and one.error.code) for one in world.decisions()]
    (slip,) = [slip for slip in world.slips() if slip.attempt == 0]
    assert (slip.request_id, slip.of_order) == (request_id("default", "r-1"), True)
    assert [one["reason"]["code"] for one in world.dead()] == ["internal_error"]


# --- the snapshot ---


def test_the_snapshot_is_in_the_log_under_the_version_that_decisions_name(world):
    world.learned("general/easy", small=0.5, large=0.5)
    for number in range(8):
        world.ask(f"r-{number}", key=str(number).encode())
    world.run()
    stored = {one.key.decode(): one.value for one in world.log.records(NAMES.of("snapshots"))}
    versions = {one.snapshot_version for one in world.decisions()}
    assert versions == set(stored)
    for version, value in stored.items():
        assert Snapshot.from_canonical(value).version == version


def test_a_snapshot_that_lasts_is_written_anew_each_day_for_retention_takes_old_ones(world):
    for day in range(3):
        world.ask(f"r-{day}")
        world.run()
        world.log.advance(86_400_000)
    assert len({one.key for one in world.log.records(NAMES.of("snapshots"))}) == 1
    assert len(world.log.records(NAMES.of("snapshots"))) == 3


def test_learned_weights_are_followed(world):
    world.learned("general/easy", small=1.0, large=0.0)
    world.ask()
    world.run()
    (decision,) = world.decisions()
    assert (decision.model, decision.policy_version, decision.propensity) == ("small", "thompson:9", 1.0)


def test_orders_hold_from_the_next_turn_and_until_released(world):
    world.control("pool:auto", "pin", model="small")
    world.ask("r-1")
    world.run()
    world.control("pool:auto", "pin", active=False)
    world.ask("r-2")
    world.run()
    assert [(one.model, one.cohort) for one in world.decisions()] == [("small", "pinned"), ("large", "pilot")]


RUSSIAN = "Где мой заказ?"


def test_a_slice_that_was_given_back_gets_the_baseline_wherever_it_is_and_nothing_else_does(world):
    for stratum in ("general/easy", "math/easy"):
        world.learned(stratum, small=1.0, large=0.0)
    world.control("stratum:auto/slice/language=cyrillic", "rollback")
    for number, text in enumerate([RUSSIAN, RUSSIAN + " integral", "Where is my order?", "the integral of x"]):
        world.ask(f"r-{number}", text=text)
    world.run()
    found = {one.request_id: one for one in world.decisions()}
    decided = [found[request_id("default", f"r-{number}")] for number in range(4)]
    assert [one.stratum for one in decided] == ["general/easy", "math/easy"] * 2
    assert [(one.model, one.cohort) for one in decided] == [("large", "pilot")] * 2 + [("small", "pilot")] * 2
    fence = "stratum:auto/slice/language=cyrillic"
    assert [one.features.get("fence") for one in decided] == [fence, fence, None, None]
    script = {one.request_id: one.slices for one in world.slips()}
    assert [script[one.request_id] for one in decided] == [("language=cyrillic", "length=short")] * 2 + [
        ("language=latin", "length=short")
    ] * 2
    (told,) = [line for line in explain(Account(request_id="", decisions=decided[:1])) if fence in line]
    assert told.strip() == f"back on the baseline by the order rollback {fence}"
    snapshots = {record.key.decode(): record.value for record in world.log.records(NAMES.of("snapshots"))}
    for record in world.log.records(NAMES.of("decisions")):
        assert replay(record.value, Snapshots(snapshots)).verdict == Verdict.IDENTICAL
    world.control(fence, "rollback", active=False)
    world.ask("later", text=RUSSIAN)
    world.run()
    assert world.decisions()[-1].model == "small"


def test_a_further_attempt_is_in_the_slices_of_the_first(world):
    asked = world.ask(text=RUSSIAN)
    world.order(asked)
    world.run()
    assert [one.attempt for one in world.decisions()] == [1, 2]
    assert {one.slices for one in world.slips()} == {("language=cyrillic", "length=short")}


def test_bad_control_records_change_nothing(world):
    world.log.produce(NAMES.of("control"), b"all/pin", b"{}")
    world.log.produce(NAMES.of("control"), None, b"\xff")
    world.log.produce(NAMES.of("weights"), b"auto/x", b"[]")
    world.log.produce(NAMES.of("health"), b"small", b"{}")
    world.ask()
    world.run()
    assert world.decisions()[0].model == "large"


def test_health_and_weights_make_a_new_snapshot_at_most_once_a_second(world):
    world.ask("r-0")
    world.run()

    def fall_ill(number, state):
        record = Health(
            model="large", state=state, reason="", error_rate=None, p95_ms=number, queue_wait_ms=None,
            endpoints={}, until=None, at=to_rfc3339(world.clock()),
        )  # fmt: skip
        world.log.produce(NAMES.of("health"), b"large", encode(record))
        world.ask(f"r-{number}")
        world.run()

    fall_ill(1, "down")
    assert world.decisions()[-1].model == "large"
    world.log.advance(1000)
    fall_ill(2, "down")
    assert world.decisions()[-1].model == "small"


def test_nothing_is_decided_without_a_fresh_snapshot(world):
    follower = world.route.resources[0]
    assert world.route.ready()
    follower.confirm(follower.clock_s() - 3.0)
    assert not world.route.ready()


# --- further attempts ---


def test_a_retry_repeats_what_the_first_decision_said_in_its_slip(world):
    asked = world.ask(key=b"caller")
    world.order(asked)
    world.run()
    decision = next(one for one in world.decisions() if one.attempt == 2)
    slip = next(one for one in world.slips() if one.attempt == 2)
    assert (decision.model, decision.reason, decision.stratum) == ("small", "retry", "math/hard")
    assert (slip.stratum, slip.cohort, slip.propensity, slip.policy_version) == (
        "math/hard",
        "pilot",
        0.25,
        "thompson:3",
    )
    assert (slip.first_model, slip.model, slip.key, slip.custom_id) == ("small", "small", b"caller", "r-1")
    assert {each.attempt: each.of_order for each in world.slips()} == {1: False, 2: True}
    (work,) = world.work("small")
    assert work.body["messages"] == [{"role": "user", "content": "hello"}]


def test_a_retry_never_goes_to_a_model_banned_meanwhile(world):
    asked = world.ask()
    world.run()
    world.control("model:small", "ban")
    world.order(asked)
    world.run()
    assert [(one.model, one.reason) for one in world.decisions()] == [("large", "routed"), ("large", "fallback")]


def test_when_no_model_is_left_the_last_error_is_the_refusal(world):
    asked = world.ask()
    world.order(asked, reason="fallback", exclude=("small", "large"), last_error="rate_limited")
    world.run()
    assert (0, "rate_limited") in [(one.attempt, one.error and one.error.code) for one in world.decisions()]
    assert {each.attempt: each.of_order for each in world.slips()} == {1: False, 0: True}


@pytest.mark.parametrize("offset", [0, 7])
def test_a_body_that_is_gone_or_not_what_it_was_ends_with_an_internal_error(world, offset):
    asked = world.ask("other")
    origin = Origin(topic=asked.topic, partition=asked.partition, offset=offset)
    world.order(asked, origin=origin)
    world.run()
    refused = next(one for one in world.decisions() if one.attempt == 0)
    assert (refused.request_id, refused.error.code) == (request_id("default", "r-1"), "internal_error")
    slip = next(one for one in world.slips() if one.attempt == 0)
    assert (slip.origin, slip.of_order) == (origin, True)


def test_orders_wait_while_kafka_does_not_answer_and_are_not_blamed_for_it(world, monkeypatch):
    """An error of ``prefetch`` would end the process; after three of them an order of the batch would be given up."""
    monkeypatch.setattr(bodies, "RETRY_S", 0.0)
    asked = world.ask()
    world.order(asked)
    failures = [KafkaConnectionError("away"), KafkaTimeoutError(), Unavailable("no broker")]

    def lookup(place):
        if failures:
            raise failures.pop()
        return asked

    next(one for one in world.route.resources if isinstance(one, BodyReader)).read_from(lookup)
    world.run()
    assert failures == []
    assert {one.attempt: one.model for one in world.decisions()}[2] == "small"


def test_an_order_that_nobody_of_ours_wrote_is_a_dead_letter(world):
    world.log.produce(NAMES.of("redispatch"), b"x", b"{}")
    world.log.produce(NAMES.of("redispatch"), b"x", None)
    world.run()
    assert [one["reason"]["code"] for one in world.dead()] == ["internal_error"]
    assert world.decisions() == []


# --- sessions ---


def in_session(world, custom_id, **changed):
    world.ask(custom_id, router={"session": "s-1"}, **changed)
    world.run()
    return world.decisions()[-1]


def test_a_session_keeps_its_model_through_new_weights_and_a_restart(world):
    first = in_session(world, "r-1")
    world.learned("general/easy", small=1.0, large=0.0)
    world.log.advance(2_000)
    world.log.restart(world.route)
    second = in_session(world, "r-2", text="the integral")
    assert (first.model, second.model, second.stratum) == ("large", "large", "general/easy")
    assert second.policy_version == first.policy_version == "thompson:0"


def test_a_pool_that_is_not_sticky_remembers_no_sessions():
    world = World(CONFIG.replace("session_ttl_s = 600", 'session_ttl_s = 600\nsticky = "none"'))
    in_session(world, "r-1")
    assert world.log.records(f"{world.route.name}-rows-changelog") == []


def test_a_session_is_forgotten_after_being_idle(world):
    in_session(world, "r-1")
    world.learned("general/easy", small=1.0, large=0.0)
    world.log.advance(600_000)
    assert in_session(world, "r-2").model == "small"


def test_a_lively_session_is_kept_and_writes_little(world):
    in_session(world, "r-0")
    changelog = f"{world.route.name}-rows-changelog"
    world.learned("general/easy", small=1.0, large=0.0)
    for number in range(1, 40):
        world.log.advance(30_000)
        assert in_session(world, f"r-{number}").model == "large"
    assert len(world.log.records(changelog)) <= 20
    world.log.advance(700_000)
    assert all(len(world.log.rows(world.route, partition)) == 0 for partition in range(4))


def test_sessions_of_other_tenants_and_pools_are_other_sessions(world):
    in_session(world, "r-1")
    world.learned("general/easy", small=1.0, large=0.0)
    world.log.advance(1_000)
    world.ask("r-1", router={"session": "s-1", "tenant": "acme"})
    world.run()
    assert world.decisions()[-1].model == "small"
    world.ask("r-2", router={"session": "s-1"}, body={"model": "small"})
    world.run()
    assert world.decisions()[-1].cohort == "direct"


def test_of_too_many_sessions_the_one_that_expires_soonest_is_forgotten(world, monkeypatch):
    monkeypatch.setattr(route_sessions, "MAX_SESSIONS", 2)
    for number in range(4):
        world.ask(f"r-{number}", router={"session": f"s-{number}"})
        world.run()
        world.log.advance(1_000)
    rows = [dict(world.log.rows(world.route, partition).items()) for partition in range(4)]
    assert sum(map(len, rows)) == 2
    world.learned("general/easy", small=1.0, large=0.0)
    world.log.advance(1_000)
    chosen = []
    for number in (3, 0):
        world.ask(f"again-{number}", router={"session": f"s-{number}"})
        world.run()
        chosen.append(world.decisions()[-1].model)
    assert chosen == ["large", "small"]


# --- batch admission ---


def load(world, partition, open_batch, *, lag_ms=0):
    record = Load(
        stage="settle",
        partition=partition,
        at_ms=world.clock(),
        read_to_ms=world.clock() - lag_ms,
        open={"interactive": 0, "batch": open_batch},
    )
    world.log.produce(NAMES.of("load"), f"settle/{partition}".encode(), encode(record))


def ask_batch(world, count, start=0):
    for number in range(start, start + count):
        world.ask(f"b-{number}", lane="batch", key=str(number).encode())


def test_batch_waits_while_enough_is_in_work_and_interactive_never_does(world):
    load(world, 0, 6)
    load(world, 1, 4)
    ask_batch(world, 4)
    world.ask("r-1")
    world.run()
    assert [one.lane for one in world.decisions()] == ["interactive"]
    world.log.advance(100)
    load(world, 0, 0)
    world.run()
    assert len(world.decisions()) == 5


def test_what_was_dispatched_counts_until_settle_has_seen_it(world):
    ask_batch(world, 10)
    world.run()
    ask_batch(world, 5, start=10)
    world.run()
    assert len(world.decisions()) == 10
    world.log.advance(200)
    for partition in range(4):
        load(world, partition, 1)
    world.run()
    assert len(world.decisions()) == 15


def test_settle_falling_silent_when_nothing_is_open_does_not_close_the_gate_for_good(world):
    ask_batch(world, 10)
    world.run()
    for partition in range(4):
        load(world, partition, 0, lag_ms=80)
    ask_batch(world, 1, start=10)
    world.run()
    assert len(world.decisions()) == 10
    world.log.advance(2_100)
    assert len(world.decisions()) == 11


def test_batch_waits_while_settle_falls_behind(world):
    load(world, 0, 1, lag_ms=900)
    ask_batch(world, 1)
    world.run()
    assert world.decisions() == []
    world.log.advance(300)
    load(world, 0, 1)
    world.run()
    assert len(world.decisions()) == 1


def test_further_attempts_of_batch_requests_do_not_wait(world):
    asked = world.ask(lane="batch")
    world.run()
    load(world, 0, 100)
    world.order(asked, lane="batch")
    world.run()
    assert [one.attempt for one in world.decisions()] == [1, 2]


def test_ids_read_lately_are_forgotten_by_time_and_by_number():
    recent = route_sessions.RecentIds()
    assert [recent.add("a", at_ms, 1000) for at_ms in (0, 999, 1000, 1500, 2000)] == [True, False, True, False, True]
    for number in range(3 * route_sessions.MAX_RECENT):
        recent.add(f"{number}", 2000, 1000)
    assert len(recent) == route_sessions.MAX_RECENT
    assert recent.add("last", 3000, 1000)
    assert len(recent) == 1


CACHING = CONFIG.replace("[models.large]", "[models.large]\ncached_input_usd_per_mtok = 0.2").replace(
    "[pools.fixed]", '[pools.loose]\nmodels = ["small", "large"]\nsticky = "none"\nholdout_percent = 0\n[pools.fixed]'
)
LONG = "word " * 2000


@pytest.mark.parametrize("name", ["auto", "loose"])
def test_what_the_provider_has_in_its_cache_is_expected_to_cost_less(name):
    world = World(CACHING)

    def large():
        candidates = world.run().decisions()[-1].candidates
        return next(one.expected_cost_nano_usd for one in candidates if one.model == "large")

    def asks(custom_id, text=LONG):
        world.ask(custom_id, text=text, body={"model": name}, router={"session": "s-1"})
        return large()

    first = asks("r-1")
    world.log.advance(60_000)
    second = asks("r-2")
    assert world.decisions()[-1].model == "large"
    assert 0.85 < (first - second) / (2_000 * 1_800) < 1.15
    world.log.restart(world.route)
    assert asks("r-3") == second
    world.log.advance(301_000)
    assert asks("r-4") == first
    short = asks("r-5", "hello")
    assert asks("r-6", "hello") == short


def test_a_session_whose_prompts_are_in_no_cache_writes_as_little_as_before():
    world = World(CACHING)
    for number in range(20):
        world.ask(f"r-{number}", body={"model": "loose"}, router={"session": "s-1"})
        world.log.advance(1_000)
    assert world.log.records("llm-route-rows-changelog") == []


def test_a_slip_tells_conversations_apart_and_does_not_name_them(world):
    for number, session in enumerate(["secret-1", "secret-1", "secret-2", None]):
        world.ask(f"r-{number}", router={"session": session} if session else {})
    found = [slip.session for slip in world.run().slips()]
    assert found[0] == found[1] != found[2]
    assert found[3] is None
    assert "secret" not in str(found)
