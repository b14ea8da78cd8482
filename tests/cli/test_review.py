"""What a reviewer sees, and what a file may say."""

import json
from dataclasses import replace

import click
import pytest

from router.cli.review import _Part, card, export_name, read
from router.contract.errors import ConfigError
from router.contract.records import ReviewItem
from router.core.reviewing import Shard, Shown

ITEM = ReviewItem(
    request_id="0" * 32,
    pool="auto",
    stratum="math/hard",
    model_hidden="x",
    inclusion_probability=0.1,
    due_at="2026-01-01T00:00:00Z",
    attempt=1,
    feedback_token="small.pilot",
)


def test_a_card_shows_both_texts_and_nothing_of_who_answered():
    shown = card(Shown(ITEM, "user: What?\nAnd why?", "Because."), 2, 7)
    assert "2 of 7" in shown
    assert "  user: What?\n  And why?\n" in shown
    assert "  Because.\n" in shown
    assert "small" not in shown


@pytest.mark.parametrize(
    "text", ["\x1b[2J\x1b]0;owned\x07", "a\rb", "\x9b31m", "\u202eevil", "\u2066x", "\x00\x08", "a\x0bb\x1cc", "\x85"]
)
def test_no_character_that_steers_a_terminal_reaches_it(text):
    shown = card(Shown(ITEM, text, text), 1, 1)
    assert all(one == "\n" or one.isprintable() for one in shown)


def lines(tmp_path, *found):
    file = tmp_path / "answers.jsonl"
    file.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in found))
    return file


def test_a_file_says_what_it_says(tmp_path):
    one = {"id": "a1", "value": 1, "comment": "fine", "prompt": "?"}
    file = lines(tmp_path, one, one | {"id": "b2", "value": 0.25, "comment": None}, one | {"value": None}, "")
    assert read(file) == ({"a1": (1.0, "fine"), "b2": (0.25, None)}, 1)


def test_an_answer_in_a_file_is_called_so_that_nobody_finds_out_whose_it_is():
    one = ReviewItem(
        request_id="0" * 32,
        pool="auto",
        stratum="math/hard",
        model_hidden="A",
        inclusion_probability=0.5,
        due_at="2026-11-28T00:00:00Z",
        attempt=1,
        feedback_token="signed",
    )
    other = replace(one, attempt=101, feedback_token="also signed")
    names = {export_name(one), export_name(other), export_name(replace(one, feedback_token=None))}
    assert len(names) == 3
    assert all(len(name) == 16 and "101" not in name for name in names)
    assert export_name(replace(one, weight=2.0)) == export_name(one)


@pytest.mark.parametrize(
    "bad", ["{", "[1]", '{"value": 1}', '{"id": 0, "value": 1}', '{"id": "0", "value": 2}', '{"id": "0", "value": true}']
)  # fmt: skip
def test_a_line_that_is_none_is_named(tmp_path, bad):
    with pytest.raises(ConfigError, match="line 1"):
        read(lines(tmp_path, bad))


def test_a_part_of_the_queue():
    assert _Part().convert("2/5", None, None) == Shard(2, 5)
    for wrong in ("0/5", "6/5", "x", "1/0", "1"):
        with pytest.raises(click.BadParameter):
            _Part().convert(wrong, None, None)
