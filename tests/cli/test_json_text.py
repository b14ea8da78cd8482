"""What ``--json`` prints."""

import json
from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from router.cli.json_text import json_text

#: What can be read as JSON has no lone surrogates.
texts = st.text(st.characters(codec="utf-8"))


@given(st.dictionaries(texts, texts | st.integers(-(2**53), 2**53) | st.lists(texts)))
def test_the_same_document_in_printable_ascii(document):
    said = json_text(document)
    assert json.loads(said) == document
    assert all(" " <= one <= "~" or one == "\n" for one in said)


def test_what_steers_a_terminal_is_an_escape():
    assert json_text("\x9b2J\x1b]0;x\x07\x7f\u202e", indent=False) == r'"\u009b2J\u001b]0;x\u0007\u007f\u202e"'


def test_what_programs_hold_is_written():
    @dataclass
    class Found:
        share: float

    assert json_text({1: Found(np.float64(0.5))}, indent=False) == '{"1": {"share": 0.5}}'
