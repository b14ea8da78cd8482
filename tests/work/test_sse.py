"""Events out of bytes, however those are cut into pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.work.inflate import TooLarge
from router.work.sse import Events


def events_of(*pieces: bytes, limit=1000):
    events = Events(limit)
    return [found for piece in pieces for found in events.feed(piece)]


@pytest.mark.parametrize(
    ("text", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [(b"", b"a"), (b"", b"b")]),
        (b"data: a\r\n\r\ndata: b\r\rdata: c\n\n", [(b"", b"a"), (b"", b"b"), (b"", b"c")]),
        (b"data: a\ndata:b\ndata\n\n", [(b"", b"a\nb\n")]),
        (b"\xef\xbb\xbfdata: a\n\n", [(b"", b"a")]),
        (b"event: error\nid: 7\nretry: 3\ndata: a\n\n", [(b"error", b"a")]),
        (b": comment\n\n: another\n\n", []),
        (b"event: only a name\n\ndata: a\n\n", [(b"", b"a")]),
        (b"data: never ended\n", []),
        (b"data:  two blanks\n\n", [(b"", b" two blanks")]),
    ],
)
def test_an_event_is_its_data_lines_up_to_an_empty_one(text, events):
    assert events_of(text) == events


LINES = st.sampled_from(
    [b"data: a", b"data:", b"data: b:c", b": x", b"event: e", b"", b"", b"nonsense", b"data: \xff\xc3"]
)
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])


@given(st.lists(st.tuples(LINES, ENDS), max_size=30), st.lists(st.integers(0, 400), max_size=20))
def test_how_the_bytes_are_cut_changes_nothing(lines, cuts):
    text = b"".join(line + end for line, end in lines)
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    assert events_of(*(text[a:b] for a, b in pairwise(bounds))) == events_of(text)


@pytest.mark.parametrize("piece", [b"x" * 50, b"data: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n"])
def test_an_event_without_an_end_is_not_kept_for_ever(piece):
    with pytest.raises(TooLarge):
        events_of(*[piece] * 40)
