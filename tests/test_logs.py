"""Nothing that is logged steers a terminal, forges a line, or fills the log."""

import io
import logging

import pytest

from router import logs
from tests.fuzz.hostile import TRICKS


@pytest.fixture
def log():
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logs.Formatter())
    found = logging.getLogger("router.x")
    found.addHandler(handler)
    yield found, out
    found.removeHandler(handler)


@pytest.mark.parametrize("text", TRICKS.values(), ids=TRICKS)
def test_a_message_is_one_line_of_printable_characters(log, text):
    found, out = log
    found.warning("model %s", text)
    line = out.getvalue()
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    found.warning("%r", ValueError(text))
    assert out.getvalue().count("\n") == 2


def test_a_traceback_keeps_its_lines_and_none_looks_like_another_record(log):
    found, out = log
    forged = ValueError("\x1b[2J2026-11-01 I router.x\n2026-11-01 12:00:00,000 I router.x  forged")
    forged.add_note("and\x07 a note")
    found.error("failed", exc_info=forged)
    first, *others = out.getvalue().splitlines()
    assert "failed" in first
    assert len(others) >= 2
    assert all(line.startswith("  ") and line.isprintable() for line in others)


def test_a_text_without_end_is_cut(log):
    found, out = log
    found.warning("%s", "x" * 1_000_000)
    assert len(out.getvalue()) < 2 * logs.MOST_CHARACTERS
