"""Any bytes become a valid record or a ``BadRecord`` that names what is wrong; nothing else happens."""

import dataclasses
import json
import re

import jsonschema
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.contract.codec import MAX_DEPTH, decode, decode_control, decode_request, encode
from router.contract.errors import BadRecord, RejectCode
from router.contract.examples import AT, RECORDS
from router.contract.examples import REQUEST_ID as RID
from router.contract.faults import MAX_SHOWN
from router.contract.records import Control, Decision, Feedback, Outcome, Request, Weights
from router.contract.schema import schema_of
from router.contract.topics import TOPICS, WORK
from router.contract.wire import too_deep

KINDS = sorted({topic.record for topic in (*TOPICS, WORK) if topic.record}, key=lambda kind: kind.__name__)
LONGEST_MESSAGE = 3 * MAX_SHOWN + 200

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(codec=None), max_size=8),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=8), below, max_size=4),
    max_leaves=12,
)


def dumps(value) -> bytes:
    return json.dumps(value).encode()


def attempt(kind, value: bytes):
    """The record, or the one error that may come instead."""
    try:
        return decode(kind, value)
    except BadRecord as error:
        return error


def refusal(kind, value) -> BadRecord:
    error = attempt(kind, value if isinstance(value, bytes | None) else dumps(value))
    assert isinstance(error, BadRecord)
    assert 0 < len(str(error)) <= LONGEST_MESSAGE
    return error


@st.composite
def damaged(draw):
    """A valid record with some of its fields replaced, removed or added, at any depth."""
    record = draw(st.sampled_from(RECORDS))
    found = json.loads(encode(record))
    at = found
    while draw(st.booleans()):
        inner = [
            value for value in (at.values() if isinstance(at, dict) else at) if isinstance(value, dict | list) and value
        ]
        if not inner:
            break
        at = draw(st.sampled_from(inner))
    if isinstance(at, dict):
        key = draw(st.sampled_from([*at, "unknown"]))
        if draw(st.booleans()):
            at.pop(key, None)
        else:
            at[key] = draw(json_values)
    else:
        at[draw(st.integers(0, len(at) - 1))] = draw(json_values)
    return type(record), dumps(found)


@given(st.sampled_from(KINDS), st.binary(max_size=64) | json_values.map(dumps))
def test_any_bytes_are_a_record_or_a_bad_record(kind, value):
    if type(attempt(kind, value)) is not kind:
        refusal(kind, value)


@settings(max_examples=400)
@given(damaged())
def test_a_damaged_record_is_refused_or_can_be_written_again(case):
    kind, value = case
    record = attempt(kind, value)
    if type(record) is kind:
        assert decode(kind, encode(record)) == record
    else:
        refusal(kind, value)


# As the codec has it: 1.0 is no integer, although JSON Schema says so.
_STRICT_TYPES = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
_Strict = jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=_STRICT_TYPES)
JUDGES = {kind: _Strict(schema_of(kind)) for kind in KINDS}


@settings(max_examples=400)
@given(damaged())
def test_schema_and_codec_agree_on_every_damaged_record(case):
    kind, value = case
    answer = attempt(kind, value)
    if kind is Request and type(answer) is kind:
        try:
            decode_request(value)
        except BadRecord as error:
            answer = error
    beyond_schemas = re.search("no valid JSON|RFC 3339|no time", str(answer)) and type(answer) is not kind
    if not beyond_schemas:
        assert JUDGES[kind].is_valid(orjson.loads(value)) == (type(answer) is kind), str(answer)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_what_is_written_is_read_back_the_same(record):
    assert decode(type(record), encode(record)) == record


def test_every_public_record_has_a_sample():
    assert {type(record) for record in RECORDS} == set(KINDS)


@given(st.builds(Request, custom_id=st.text(st.characters(codec="utf-8"), min_size=1, max_size=9), body=st.just({})))
def test_any_text_survives(request):
    assert decode(Request, encode(request)) == request


def test_absent_fields_are_written_as_null():
    decision = next(record for record in RECORDS if isinstance(record, Decision))
    written = orjson.loads(encode(decision))
    assert written["model"] is None
    assert set(written) == {field.name for field in dataclasses.fields(Decision)}


def test_unknown_fields_are_ignored_everywhere():
    record = RECORDS[0]
    found = orjson.loads(encode(record))
    found |= {"new": 1}
    found["router"] |= {"newer": [1]}
    assert decode(Request, orjson.dumps(found)) == record


def test_bodies_and_metadata_are_kept_with_unknown_fields():
    found = {"custom_id": "r", "body": {"new": {"a": [1, None]}}, "router": {"metadata": {"x": 1.5}}}
    request = decode(Request, dumps(found))
    assert request.body == found["body"]
    assert request.router.metadata == {"x": 1.5}


def test_of_a_key_that_is_there_twice_the_last_counts():
    assert decode(Request, b'{"custom_id": "a", "custom_id": "b", "body": {}}').custom_id == "b"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "the value is null"),
        (b"", "no valid JSON"),
        (b"{", "no valid JSON"),
        (b"\xff{}", "no valid JSON"),
        (b'{"custom_id": "\\ud800"}', "no valid JSON"),
        (b'{"custom_id": NaN}', "no valid JSON"),
        (b'{"custom_id": 1e999}', "no valid JSON"),
        (b"[" * 100_000, "no valid JSON"),
        (b"[1]", "must be a JSON object, not a list"),
        (b"null", "must be a JSON object, not null"),
        (b'"' + b"x" * 1000 + b'"', "must be a JSON object, not text"),
        (b'{"custom_id": "r", "body": {"x": ' + b"[" * 300 + b"]" * 300 + b"}}", "is nested deeper than 200 levels"),
    ],
)
def test_what_is_no_usable_json_is_refused(value, message):
    assert message in str(refusal(Request, value))


def test_the_deepest_body_that_is_read_can_be_written():
    lists = MAX_DEPTH - 2
    record = decode(Request, b'{"custom_id": "r", "body": {"x": ' + b"[" * lists + b"]" * lists + b"}}")
    assert decode(Request, encode(record)) == record
    refusal(Request, b'{"custom_id": "r", "body": {"x": ' + b"[" * (lists + 1) + b"]" * (lists + 1) + b"}}")


OUTCOME = {"request_id": RID, "attempt": 1, "model": "small", "status": "error", "slip": "s"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attempt": "5"}, 'attempt: must be an integer, not "5"'),
        ({"attempt": True}, "attempt: must be an integer, not true"),
        ({"attempt": 1.0}, "attempt: must be an integer, not 1.0"),
        ({"attempt": -1}, "attempt: must be at least 0, not -1"),
        ({"attempt": 2**53}, "attempt: must be at most 9007199254740991, not 9007199254740992"),
        ({"attempt": 10**30}, "attempt: must be an integer, not 1e+30"),
        ({"attempt": [1]}, "attempt: must be an integer, not a list"),
        (
            {"status": "fine"},
            "status: must be 'ok', 'error', 'timeout', 'rate_limited', 'refused' or 'truncated', not \"fine\"",
        ),
        ({"status": []}, "not a list"),
        ({"request_id": RID.upper()}, "request_id: must match ^[0-9a-f]{32}$"),
        ({"request_id": RID + "\n"}, "request_id: must match"),
        ({"model": None}, "model: must be text, not null"),
        ({"body": []}, "body: must be an object, not a list"),
        ({"usage": {"prompt_tokens": -3}}, "usage.prompt_tokens: must be at least 0, not -3"),
        ({"confidence": 1.5}, "confidence: must be at most 1.0, not 1.5"),
        ({"confidence": "0.5"}, 'confidence: must be a number, not "0.5"'),
        ({"confidence": True}, "confidence: must be a number, not true"),
        ({"error": "bad"}, "error: must be an object"),
        ({"status": "ok"}, "body: is missing; status ok needs the provider's answer"),
    ],
)
def test_a_wrong_field_is_named_with_its_path(change, message):
    error = refusal(Outcome, OUTCOME | change)
    assert message in str(error)
    assert error.code == RejectCode.INVALID_OUTCOME


def test_a_missing_field_is_named_and_further_problems_counted():
    assert str(refusal(Outcome, {})) == "request_id: is missing (and 4 more)"


def test_an_integer_is_a_number_where_one_is_expected():
    assert decode(Outcome, dumps(OUTCOME | {"confidence": 1})).confidence == 1.0


def test_a_long_value_is_cut_in_the_message():
    assert str(refusal(Outcome, OUTCOME | {"status": "secret " * 10_000})).count("secret") < 12


def test_a_field_path_of_any_length_is_cut():
    weights = {
        "pool": "p",
        "stratum": "s",
        "weights": {"k" * 10_000: 2},
        "policy_version": "v",
        "evidence": {},
        "at": AT,
    }
    assert len(str(refusal(Weights, weights))) < LONGEST_MESSAGE


FEEDBACK = {"kind": "thumbs", "value": 1, "feedback_token": "t"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feedback_token": None}, "feedback_token: is missing; give feedback_token or request_id"),
        ({"request_id": RID}, "request_id: give feedback_token or request_id, not both"),
        ({"value": 1.01}, "value: must be at most 1.0, not 1.01"),
        ({"value": -0.1}, "value: must be at least 0.0, not -0.1"),
        ({"value": None}, "value: must be a number, not null"),
        ({"kind": "love"}, "kind: must be 'thumbs', "),
        ({"source": "robot"}, "source: must be"),
        ({"weight": -1}, "weight: must be at least 0"),
        ({"at": "yesterday"}, "at: must be an RFC 3339 time"),
    ],
)
def test_feedback_names_one_request_and_a_value(change, message):
    error = refusal(Feedback, FEEDBACK | change)
    assert message in str(error)
    assert error.code == RejectCode.INVALID_FEEDBACK


def test_nan_feedback_is_no_json():
    refusal(Feedback, b'{"kind": "thumbs", "value": NaN, "feedback_token": "t"}')


CONTROL = {"scope": "all", "action": "freeze", "active": True, "by": "ann", "reason": "test", "at": AT}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"action": "pin"}, "args.model: is missing; pin needs a model"),
        ({"action": "pin", "args": {"model": "Large"}}, 'args.model: must be a model\'s name, not "Large"'),
        ({"action": "pin", "args": {"model": 5}}, "args.model: must be a model's name, not 5"),
        ({"action": "pin", "scope": "model:small", "args": {"model": "small"}}, "scope: pin needs all, a pool,"),
        ({"action": "rollout"}, "args.percent: is missing; rollout needs a percentage"),
        ({"action": "rollout", "args": {"percent": 101}}, "args.percent: must be a number from 0 to 100, not 101"),
        ({"action": "holdout", "args": {"percent": True}}, "args.percent: must be a number from 0 to 100, not true"),
        ({"action": "holdout", "args": {"percent": "5"}}, "args.percent: must be a number from 0 to 100"),
        ({"action": "ban"}, 'scope: ban needs a model, like model:small, not "all"'),
        ({"action": "drain", "scope": "pool:auto"}, "scope: drain needs a model"),
        ({"scope": "tenant:acme"}, "scope: freeze needs all, a pool or a stratum"),
        ({"scope": "model:small"}, "scope: freeze needs all, a pool or a stratum"),
        ({"action": "explode"}, "action: must be"),
        ({"scope": "everything"}, "scope: must match"),
        ({"scope": "model:Small"}, "scope: must match"),
        ({"scope": "stratum:auto"}, "scope: must match"),
        ({"by": ""}, "by: must have at least 1 characters"),
        ({"reason": None}, "reason: must be text, not null"),
        ({"active": 1}, "active: must be true or false, not 1"),
        ({"expires_at": "2026-11-01"}, "expires_at: must be an RFC 3339 time"),
        ({"at": "2026-13-01T00:00:00Z"}, "at: is no time that exists"),
    ],
)
def test_a_control_record_must_be_complete_and_make_sense(change, message):
    error = refusal(Control, CONTROL | change)
    assert message in str(error)
    assert error.code == RejectCode.INVALID_CONTROL


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"action": "pin", "args": {"model": "large"}, "scope": "stratum:auto/math/hard"},
        {"action": "rollout", "args": {"percent": 0}, "scope": "pool:auto"},
        {"action": "holdout", "args": {"percent": 99.5}, "scope": "tenant:acme"},
        {"action": "ban", "scope": "model:small"},
        {"action": "drain", "scope": "model:small", "args": {"why": "ignored"}, "expires_at": AT},
        {"action": "pin", "active": False},
    ],
)
def test_a_sensible_control_record_is_read(change):
    assert decode_control(dumps(CONTROL | change)).by == "ann"


def test_a_missing_author_or_reason_is_refused():
    for field in ("by", "reason", "at", "active"):
        assert f"{field}: is missing" in str(refusal(Control, {key: CONTROL[key] for key in CONTROL if key != field}))


@given(st.sampled_from(["args", "scope", "at", "expires_at", "action"]), json_values)
@example("args", {"percent": 10**400})
def test_any_control_field_is_judged_without_another_exception(field, value):
    for action in ("pin", "rollout", "ban"):
        order = dumps(CONTROL | {"action": action, field: value})
        if type(attempt(Control, order)) is not Control:
            refusal(Control, order)


@pytest.mark.parametrize("brackets", ["[]", "{}"])
@pytest.mark.parametrize("padding", [0, 100_000])
def test_depth_is_judged_alike_in_short_and_long_text(brackets, padding):
    """Brackets in text are no depth; both kinds count."""
    shut = f'"{brackets * 100}{"x" * padding}"'
    left, right = ("[", "]") if brackets == "[]" else ('{"a":', "}")
    for levels in (MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1):
        value = (left * levels + shut + right * levels).encode()
        assert too_deep(value, orjson.loads(value)) == (levels > MAX_DEPTH)
    many = b"[" + b",".join([b"{}"] * MAX_DEPTH) + b', "' + b"x" * padding + b'"]'
    assert not too_deep(many, orjson.loads(many))
