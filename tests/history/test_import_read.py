"""Lines of each kind of log become calls; what is no call is counted with its first place, and never ends the run."""

import gzip
import itertools
import json
import os
import threading
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.contract.errors import ConfigError
from router.contract.records import Usage
from router.history.import_batch import Store
from router.history.import_calls import Scores, prompt_of
from router.history.import_lines import MAX_LINE_BYTES, Fault, Place, Sort, check_files
from router.history.import_read import Names, Reading, refused
from tests.history.logs import TEXT, answer, payload, request, result, spend_row, write

USAGE = Usage(prompt_tokens=100, completion_tokens=20)
CACHED = Usage(prompt_tokens=100, completion_tokens=20, cached_tokens=40)


def read(*files, form="auto", scores=None):
    reading = Reading(files, form, scores or Scores())
    return list(reading.calls(lambda _bytes: None)), reading


def one(tmp_path, line, **how):
    (call,), _ = read(write(tmp_path / "log.jsonl", line), **how)
    return call


def faults_of(tmp_path, *lines, **how):
    _, reading = read(write(tmp_path / "log.jsonl", *lines), **how)
    return reading.faults


class TestFormats:
    def test_a_payload_of_litellm(self, tmp_path):
        call = one(tmp_path, payload())
        assert (call.id, call.source, call.model) == ("chatcmpl-0", "litellm", "openai/gpt-4o-2024-08-06")
        assert (call.usage, call.cost_nano_usd, call.at_ms) == (CACHED, 450_000, 1_756_700_000_500)
        assert prompt_of(call.body).last_user_text == TEXT

    def test_a_row_of_its_spend_table_says_the_same(self, tmp_path):
        call = one(tmp_path, spend_row())
        assert (call.id, call.model) == ("row-0", "gpt-4o")
        assert (call.usage, call.cost_nano_usd, call.at_ms) == (CACHED, 450_000, 1_756_700_000_500)
        assert prompt_of(call.body).last_user_text == TEXT

    @pytest.mark.parametrize(
        "messages",
        [TEXT, json.dumps([{"role": "user", "content": TEXT}]), {"messages": [{"role": "user", "content": TEXT}]}],
    )
    def test_messages_may_be_text_or_written_as_text_or_a_body(self, tmp_path, messages):
        assert prompt_of(one(tmp_path, payload(messages=messages)).body).last_user_text == TEXT

    def test_what_a_request_needs_is_among_its_parameters(self, tmp_path):
        call = one(tmp_path, payload(model_parameters={"tools": [{"type": "function"}], "temperature": 1}))
        assert prompt_of(call.body).needs == ("tools",)

    def test_a_batch_is_joined(self, tmp_path):
        call = one_of(tmp_path, request(), answer())
        assert (call.id, call.source, call.model) == ("r0", "openai", "gpt-4o-mini-2024-07-18")
        assert (call.usage, call.cost_nano_usd, call.at_ms) == (USAGE, None, 1_756_700_000_000)
        assert prompt_of(call.body).last_user_text == TEXT

    def test_results_of_pointsman_name_its_model_and_its_cost(self, tmp_path):
        call = one_of(tmp_path, request(), result())
        assert (call.model, call.cost_nano_usd) == ("mini", 27_000)

    def test_tenants_may_have_the_same_custom_ids(self, tmp_path):
        lines = [request(), request(router={"tenant": "acme"}), result(tenant="acme", model="large"), result()]
        calls, reading = read(write(tmp_path / "log.jsonl", *lines))
        assert {call.id: call.model for call in calls} == {"r0": "mini", "acme/r0": "large"}
        assert not reading.faults

    def test_responses_and_completions_are_read_too(self, tmp_path):
        usage = {"input_tokens": 100, "output_tokens": 20, "input_tokens_details": {"cached_tokens": 40}}
        call = one_of(tmp_path, request(url="/v1/responses", body={"input": TEXT}), answer(usage=usage))
        assert call.usage == CACHED
        assert prompt_of(call.body).last_user_text == TEXT
        call = one_of(tmp_path, request(url="/v1/completions", body={"prompt": TEXT}), answer())
        assert prompt_of(call.body).last_user_text == TEXT

    def test_a_format_can_be_forced(self, tmp_path):
        bare = {"model": "gpt-4o", "messages": TEXT}
        assert Fault.UNKNOWN in faults_of(tmp_path, bare)
        assert one(tmp_path, bare, form="litellm").id == "log.jsonl:1"
        assert Fault.BAD_ID in faults_of(tmp_path, payload(), form="openai")


def one_of(tmp_path, *lines):
    (call,), reading = read(write(tmp_path / "log.jsonl", *lines))
    assert not reading.faults
    return call


class TestJoin:
    def test_any_order_of_files_gives_the_same_calls(self, tmp_path):
        files = [
            write(tmp_path / "in-1.jsonl", *map(request, range(5))),
            write(tmp_path / "in-2.jsonl.gz", *map(request, range(5, 9))),
            write(tmp_path / "out-1.jsonl", *map(answer, range(8, 2, -1))),
            write(tmp_path / "out-2.jsonl.gz", *map(answer, range(3)), request(9)),
            write(tmp_path / "late.jsonl", answer(9)),
        ]
        found = []
        for order in itertools.permutations(files):
            calls, reading = read(*order)
            assert not reading.faults
            found.append(sorted((call.id, call.usage, prompt_of(call.body).last_user_text) for call in calls))
        assert len(found[0]) == 10
        assert all(each == found[0] for each in found)

    def test_a_half_alone_is_used_for_what_it_has(self, tmp_path):
        calls, reading = read(write(tmp_path / "log.jsonl", request(1), answer(2)))
        asked, answered = sorted(calls, key=lambda call: call.id)
        assert (asked.model, asked.usage, asked.body is None) == ("", None, False)
        assert (answered.model, answered.usage, answered.body) == ("gpt-4o-mini-2024-07-18", USAGE, None)
        assert {fault: count.first for fault, count in reading.faults.items()} == {
            Fault.NO_ANSWER: Place(0, 1),
            Fault.NO_REQUEST: Place(0, 2),
        }

    def test_an_id_counts_once_and_the_second_line_names_the_first(self, tmp_path):
        calls, reading = read(
            write(tmp_path / "a.jsonl", payload(1), request(1), answer(1)),
            write(tmp_path / "b.jsonl", payload(1), request(1), answer(1), answer(1)),
        )
        assert len(calls) == 2
        twice = reading.faults[Fault.TWICE]
        assert (twice.count, twice.first, twice.detail) == (4, Place(1, 1), f"also in {tmp_path}/a.jsonl:1")

    def test_a_failed_answer_leaves_room_for_a_good_one(self, tmp_path):
        failed = answer(1, response={"status_code": 500, "body": {}})
        (call,), reading = read(write(tmp_path / "log.jsonl", failed, request(1), answer(1)))
        assert call.usage == USAGE
        assert list(reading.faults) == [Fault.FAILED]

    def test_what_waits_waits_on_disk(self):
        with Store() as store:
            text = "x" * 100_000
            tracemalloc.start()
            for number in range(2000):
                store.put(str(number), Place(0, number), {"text": text}, asked=True)
            assert tracemalloc.get_traced_memory()[1] < 8 * 1024 * 1024
            tracemalloc.stop()
            assert store.take("1234") == (Place(0, 1234), {"text": text})
            assert store.take("1234") is None
            assert [place.line for _, place, _ in store.rest()] == [*range(1234), *range(1235, 2000)]


class TestScores:
    @pytest.mark.parametrize(
        ("line", "quality"),
        [
            (payload(metadata={"score": 0.5}), 0.5),
            (payload(metadata={"quality": True}), 1.0),
            (payload(metadata=json.dumps({"requester_metadata": {"score": "0.25"}})), 0.25),
            (spend_row(metadata=json.dumps({"spend_logs_metadata": {"score": 0}})), 0.0),
            (payload(metadata={"score": None}), None),
            (payload(), None),
        ],
    )
    def test_are_found_where_they_use_to_stand(self, tmp_path, line, quality):
        assert one(tmp_path, line).quality == quality

    def test_of_a_batch_stand_in_either_half(self, tmp_path):
        scored = request(body=request()["body"] | {"metadata": {"score": "0.5"}})
        assert one_of(tmp_path, scored, answer()).quality == 0.5
        assert one_of(tmp_path, scored, result(metadata={"score": 0.75})).quality == 0.75

    def test_a_path_and_a_scale_can_be_given(self, tmp_path):
        line = payload(review={"stars": 4}, metadata={"score": 0.1})
        assert one(tmp_path, line, scores=Scores((("review", "stars"),), 1.0, 5.0)).quality == 0.75

    @pytest.mark.parametrize("score", [4, -0.1, "good", [1], {"a": 1}, "1" * 41, float("1e300")])
    def test_what_is_no_quality_is_said_and_the_call_still_counts(self, tmp_path, score):
        (call,), reading = read(write(tmp_path / "log.jsonl", payload(metadata={"score": score})))
        assert call.quality is None
        assert reading.faults[Fault.BAD_QUALITY].detail == "metadata.score is not within 0..1"


class TestFaults:
    @pytest.mark.parametrize(
        ("line", "fault"),
        [
            (b"{", Fault.NOT_JSON),
            (b"\0\0\0", Fault.NOT_JSON),
            (b"\xff\xfe{}", Fault.NOT_JSON),
            (b'{"model": "x", "spend": NaN}', Fault.NOT_JSON),
            (b'{"model": "\\ud800", "spend": 1}', Fault.NOT_JSON),
            (b'{"a":' * 5000 + b"1" + b"}" * 5000, Fault.NOT_JSON),
            (b'{"a":' + b"[" * 300 + b"]" * 300 + b"}", Fault.TOO_DEEP),
            (b"[1]", Fault.NO_OBJECT),
            (b'"text"', Fault.NO_OBJECT),
            ({"a": 1}, Fault.UNKNOWN),
            (payload(id=7), Fault.BAD_ID),
            (payload(id="x" * 257), Fault.BAD_ID),
            (request(custom_id=""), Fault.BAD_ID),
            (payload(model=None), Fault.BAD_MODEL),
            (payload(model=["x"]), Fault.BAD_MODEL),
            (answer(response={"status_code": 200, "body": {"usage": {}}}), Fault.BAD_MODEL),
            (payload(prompt_tokens=-5), Fault.BAD_TOKENS),
            (payload(prompt_tokens=10**15), Fault.BAD_TOKENS),
            (payload(completion_tokens=10**30), Fault.BAD_TOKENS),
            (payload(completion_tokens="many"), Fault.BAD_TOKENS),
            (answer(usage={"prompt_tokens": 1.5}), Fault.BAD_TOKENS),
            (payload(response_cost=-1), Fault.BAD_COST),
            (payload(response_cost="much"), Fault.BAD_COST),
            (payload(response_cost=1e9), Fault.BAD_COST),
            (result(cost_nano_usd=1.5), Fault.BAD_COST),
        ],
    )
    def test_a_line_that_cannot_be_is_refused_with_its_place_and_the_rest_goes_on(self, tmp_path, line, fault):
        calls, reading = read(write(tmp_path / "log.jsonl", payload(1), line, payload(2)))
        assert [call.id for call in calls] == ["chatcmpl-1", "chatcmpl-2"]
        assert {each: count.first for each, count in reading.faults.items()} == {fault: Place(0, 2)}
        assert fault.sort is Sort.REFUSED
        assert refused(reading.faults) == (1, 0)
        assert reading.read == 3

    @pytest.mark.parametrize(
        ("line", "fault"),
        [
            (payload(status="failure"), Fault.FAILED),
            (spend_row(status=None, metadata='{"status": "failure"}'), Fault.FAILED),
            (answer(error={"code": "x"}), Fault.FAILED),
            (answer(response=None), Fault.FAILED),
            (answer(response="text"), Fault.FAILED),
            (spend_row(cache_hit="True"), Fault.CACHED),
            (payload(call_type="aembedding"), Fault.OTHER_CALL),
            (payload(call_type={"a": 1}), Fault.OTHER_CALL),
            (request(url="/v1/embeddings"), Fault.OTHER_CALL),
            (answer(response={"body": {"object": "list", "data": []}}), Fault.OTHER_CALL),
        ],
    )
    def test_what_is_no_answer_of_a_model_is_left_out(self, tmp_path, line, fault):
        calls, reading = read(write(tmp_path / "log.jsonl", line))
        assert (calls, list(reading.faults)) == ([], [fault])
        assert refused(reading.faults) == (0, 1)

    def test_a_line_beyond_all_bounds_is_passed_over_without_being_held(self, tmp_path):
        path = tmp_path / "log.jsonl.gz"
        with gzip.open(path, "wb", 1) as file:
            file.write(json.dumps(payload(1)).encode() + b"\n")
            for _ in range(80):
                file.write(b"x" * 1024 * 1024)
            file.write(b"\n" + json.dumps(payload(2)).encode())
        tracemalloc.start()
        calls, reading = read(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert [call.id for call in calls] == ["chatcmpl-1", "chatcmpl-2"]
        assert reading.faults[Fault.TOO_LONG].first == Place(0, 2)
        assert reading.read == 3
        assert peak < 4 * MAX_LINE_BYTES

    def test_a_file_that_breaks_off_gives_what_was_before_and_the_next_one_is_read(self, tmp_path):
        whole = write(tmp_path / "whole.jsonl.gz", *map(payload, range(3000)))
        (tmp_path / "cut.jsonl.gz").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        (tmp_path / "no.jsonl.gz").write_text("no gzip")
        last = write(tmp_path / "last.jsonl", payload(9999))
        calls, reading = read(tmp_path / "cut.jsonl.gz", tmp_path / "no.jsonl.gz", last)
        assert 100 < len(calls) < 3000
        assert calls[-1].id == "chatcmpl-9999"
        assert reading.faults[Fault.BROKEN_FILE].count == 2
        assert refused(reading.faults) == (0, 0)

    def test_line_ends_of_windows_a_mark_of_byte_order_and_empty_lines_are_nothing(self, tmp_path):
        path = tmp_path / "log.jsonl"
        path.write_bytes(
            b"\xef\xbb\xbf" + json.dumps(payload(1)).encode() + b"\r\n\r\n \n" + json.dumps(payload(2)).encode()
        )
        calls, reading = read(path)
        assert (len(calls), reading.read, dict(reading.faults)) == (2, 2, {})

    @pytest.mark.parametrize(
        "messages",
        [
            [{"role": "user", "content": 123}],
            [{"role": "user", "content": [{"type": "text", "text": {"x": 1}}, 7, None, ["a"]]}],
            [{"role": "user", "content": "redacted-by-litellm"}],
            [None, 1, [1]],
            {"0": "x"},
            "{}",
            "",
            7,
            None,
        ],
    )
    def test_a_prompt_without_text_is_none(self, tmp_path, messages):
        assert prompt_of(one(tmp_path, payload(messages=messages)).body) is None

    def test_a_prompt_that_was_cut_is_told(self, tmp_path):
        cut = [{"role": "user", "content": "begin ... (litellm_truncated skipped 90 chars) ... end"}]
        assert list(faults_of(tmp_path, payload(messages=cut))) == [Fault.CUT_PROMPT]
        answered = payload(response={"text": "... (litellm_truncated skipped 90 chars) ..."})
        assert not faults_of(tmp_path, answered)

    @pytest.mark.parametrize("time", [None, "soon", 1e300, -1, True, "0001-01-01", [], "9" * 50])
    def test_a_time_that_cannot_be_is_none(self, tmp_path, time):
        assert one(tmp_path, payload(startTime=time)).at_ms is None

    def test_files_are_looked_at_before_any_is_read(self, tmp_path):
        here, link = write(tmp_path / "log.jsonl", payload()), tmp_path / "link.jsonl"
        link.symlink_to(here)
        for files, says in [
            ([here, tmp_path / "none"], "none: no such file"),
            ([tmp_path], "is a folder"),
            ([here, link], "link.jsonl: is named twice"),
            ([here, here], "log.jsonl: is named twice"),
        ]:
            with pytest.raises(ConfigError, match=says):
                check_files(files)

    def test_a_pipe_is_read_once_from_its_beginning(self, tmp_path):
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        text = "".join(json.dumps(each) + "\n" for each in (answer(1), request(1)))
        writer = threading.Thread(target=pipe.write_text, args=[text])
        writer.start()
        (call,), _ = read(pipe)
        writer.join()
        assert call.id == "r1"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
LINES = st.sampled_from([payload, spend_row, request, answer, result])
FIELDS = sorted(
    {name for make in (payload, spend_row, request, answer, result) for name in make()} | {"router", "metadata"}
)


@given(st.lists(st.tuples(LINES, st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=3)), max_size=4))
def test_whatever_stands_in_a_field_ends_no_run_and_counts_stay_possible(tmp_path_factory, changed):
    lines = [make() | values for make, values in changed]
    calls, reading = read(write(tmp_path_factory.mktemp("any") / "log.jsonl", *lines))
    assert reading.read == len(lines)
    for call in calls:
        prompt_of(call.body)
        assert call.usage is None or 0 <= call.usage.cached_tokens <= call.usage.prompt_tokens
        assert call.cost_nano_usd is None or call.cost_nano_usd >= 0
        assert call.quality is None or 0 <= call.quality <= 1


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_no_bytes_end_a_run(tmp_path_factory, lines):
    calls, _ = read(write(tmp_path_factory.mktemp("any") / "log.jsonl", *lines))
    assert calls == []


def test_names_of_a_log_find_the_configured_model():
    names = Names({"mini": "openai/gpt-4o-mini", "large": "gpt-4o", "own": "own"}, {"azure/deploy-7": "large"})
    assert {logged: names.of(logged) for logged in (
        "mini", "gpt-4o-mini", "openai/gpt-4o-mini", "azure/gpt-4o-mini", "gpt-4o-mini-2024-07-18", "openai/gpt-4o-2024-08-06",
        "azure/deploy-7", "own", "gpt-4", "gpt-4o-large", "",
    )} == {
        "mini": "mini", "gpt-4o-mini": "mini", "openai/gpt-4o-mini": "mini", "azure/gpt-4o-mini": "mini",
        "gpt-4o-mini-2024-07-18": "mini", "openai/gpt-4o-2024-08-06": "large", "azure/deploy-7": "large", "own": "own",
        "gpt-4": "", "gpt-4o-large": "", "": "",
    }  # fmt: skip


def test_an_alias_in_the_log_does_not_hide_which_model_it_was(tmp_path):
    call = one(tmp_path, payload(model_group="fast", model="openai/gpt-4o-mini"))
    assert (call.model, call.served_as) == ("fast", "openai/gpt-4o-mini")
