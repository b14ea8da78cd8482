"""The signing secret is replaced while requests are on their way, in the three steps of docs/operations.md: none is lost, no opinion either."""

from __future__ import annotations

from dataclasses import replace

import orjson

from router.config import loads
from router.contract.codec import decode, encode
from router.contract.records import Outcome, Work
from router.core.keyring import Keyring
from router.stages import feedback, route, settle
from tests.stages.system import NAMES, System

CONFIG = loads(
    """
    [models.small]
    input_usd_per_mtok = 0.1
    output_usd_per_mtok = 0.4
    [pools.auto]
    models = ["small"]
    """
)
OLD, NEW = b"k" * 32, b"n" * 32


def restart(system, *keys):
    """Every process, with these keys: the first signs."""
    context = replace(system.context, keyring=Keyring(keys))
    for stage in [*route.build(context), *settle.build(context), *feedback.build(context)]:
        system.log.restart(stage)
    system.log.run()


def works(system):
    """By the caller's own id, what workers were given."""
    found = {}
    for record in system.log.records(NAMES.work("small")):
        work = decode(Work, record.value)
        found[work.body["messages"][0]["content"]] = work
    return found


def asked(system, name):
    system.ask(name, body={"model": "auto", "messages": [{"role": "user", "content": name}]})
    system.log.run()


def answer(system, work):
    outcome = Outcome(
        request_id=work.request_id, attempt=1, model="small", status="ok", slip=work.slip, body={"choices": []}
    )
    topic, key = NAMES.of("outcomes"), work.request_id.encode()
    system.log.produce(topic, key, encode(outcome), partition=work.outcome_partition)
    system.log.run()


def say(system, token):
    said = {"feedback_token": token, "kind": "thumbs", "value": 1, "source": "user"}
    system.log.produce(NAMES.of("feedback"), b"k", orjson.dumps(said))
    system.log.run()


def refusals(system):
    return [orjson.loads(record.value)["reason"]["code"] for record in system.log.records(NAMES.of("dead-letter"))]


def test_a_rotation_in_three_steps_loses_neither_a_request_nor_an_opinion():
    system = System(CONFIG, feedback.build)
    system.answers["small"] = "silence"
    asked(system, "before")
    answer(system, works(system)["before"])
    old_token = system.results()["before"].router.feedback_token
    asked(system, "first")
    restart(system, OLD, NEW)
    asked(system, "second")
    restart(system, NEW, OLD)
    asked(system, "third")
    for name in ("first", "second", "third"):
        answer(system, works(system)[name])
    found = system.results()
    assert {found[name].error for name in ("before", "first", "second", "third")} == {None}
    for token in [old_token, *(found[name].router.feedback_token for name in ("first", "second", "third"))]:
        say(system, token)
    assert len(list(system.log.records(NAMES.of("rewards")))) == 4
    assert refusals(system) == []
    restart(system, NEW)
    say(system, found["third"].router.feedback_token)  # it says the same again: no news, and no refusal
    say(system, old_token)
    assert refusals(system) == ["forged_token"]


def test_what_was_signed_with_a_secret_that_is_gone_is_a_forgery():
    system = System(CONFIG, feedback.build)
    system.answers["small"] = "silence"
    asked(system, "too-late")
    restart(system, NEW)
    answer(system, works(system)["too-late"])
    assert "too-late" not in system.results()
    assert refusals(system).count("wrong_slip") >= 1
