"""Rows are read as they are documented, and what is wrong is said with its place."""

import gzip
import json

import pytest

from router.contract.errors import ConfigError
from router.train.rows import enough, read_rows

ROW = {"id": "a", "prompt": "hello", "arms": {"small": {"quality": 0.5}}}


def read(tmp_path, *rows, **how):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join(row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows))
    return read_rows([path], **how)


def test_a_prompt_and_messages_are_read_alike(tmp_path):
    messages = [{"role": "system", "content": "be short"}, {"role": "user", "content": "hello"}]
    one, other = read(tmp_path, ROW, {"id": "b", "messages": messages, "arms": ROW["arms"]})
    assert one.prompt.last_user_text == other.prompt.last_user_text == "hello"
    assert other.arms["small"].quality == 0.5


def test_gzip_and_empty_lines_and_further_fields(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n" + json.dumps(ROW | {"flags": ["x"], "domain": "d", "class": "c"}).encode()))
    (row,) = read_rows([path])
    assert (row.task_class, row.domain) == ("c", "d")


def test_rows_without_arms_can_be_scored_and_nothing_else(tmp_path):
    assert read(tmp_path, {"id": "a", "prompt": "hello"}, scored=False)[0].arms == {}
    with pytest.raises(ConfigError, match=r"line 1: arms"):
        read(tmp_path, {"id": "a", "prompt": "hello"})


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (b"{", "line 2: no JSON"),
        (b"[]", "line 2: a JSON object"),
        ({}, "line 2: id"),
        (ROW, "line 2: id 'a' is also in .*line 1"),
        ({"id": "b", "arms": ROW["arms"]}, "line 2: prompt or messages"),
        (ROW | {"id": "b", "messages": []}, "line 2: prompt or messages"),
        (ROW | {"id": "b", "prompt": 7}, "line 2: prompt: a string"),
        (
            ROW | {"id": "b", "arms": {"small": {"quality": 1.5}}},
            r"line 2: arms.small.quality: a number 0..1 is wanted, not 1.5",
        ),
        (ROW | {"id": "b", "arms": {"small": {"quality": True}}}, "quality"),
        (ROW | {"id": "b", "arms": {"small": {"quality": 1, "cost_usd": -1}}}, "cost_usd"),
        (ROW | {"id": "b", "class": 7}, "line 2: class"),
        (ROW | {"id": "b", "class": "slice"}, "line 2: class: none may be called 'slice'"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path, row, says):
    with pytest.raises(ConfigError, match=says):
        read(tmp_path, ROW, row)


def test_a_file_that_is_not_there_or_no_gzip_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"absent.jsonl: No such file"):
        read_rows([tmp_path / "absent.jsonl"])
    (tmp_path / "bad.gz").write_text("no gzip")
    with pytest.raises(ConfigError, match=r"bad.gz"):
        read_rows([tmp_path / "bad.gz"])
    (tmp_path / "empty").write_text("")
    with pytest.raises(ConfigError, match="no rows"):
        read_rows([tmp_path / "empty"])


def test_a_row_may_say_that_nobody_judged_it(tmp_path):
    assert read(tmp_path, ROW | {"arms": {}})[0].arms == {}


def test_models_with_few_answers_are_left_out_with_their_number(tmp_path):
    good = {"quality": 1}
    arms = [{"a": good, "b": good}, {"a": good}, {"b": good, "c": good}, {"c": good}, {"rare": good}, {}]
    found, rare = enough(read(tmp_path, *(ROW | {"id": str(at), "arms": each} for at, each in enumerate(arms))), 2)
    assert rare == {"rare": 1}
    assert [sorted(row.arms) for row in found] == [["a", "b"], ["a"], ["b", "c"], ["c"]]
