"""Marks narrow down what a process died of, and forget it once it is behind."""

from aiokafka import ConsumerRecord
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from router.kafka.marks import DEATHS, Marks
from router.kafka.transport import Batch

TOPIC = TP("in", 0)


def batch(offsets):
    records = [ConsumerRecord("in", 0, offset, 0, 0, b"", b"", None, 0, 0, ()) for offset in offsets]
    return Batch(TOPIC, records, records[-1].offset + 1)


def die(path, *ranges, topic="in"):
    for first, after in ranges:
        Marks(path, 2).of(1).enter(topic, first, after)
    return Marks(path, 2).of(1)


def shape(mark, offsets):
    return [([r.offset for r in part.batch.records], part.alone, part.culprit) for part in mark.parts(batch(offsets))]


def test_an_orderly_end_leaves_no_suspect(tmp_path):
    mark = Marks(tmp_path / "m", 2).of(1)
    mark.enter("in", 0, 9)
    mark.leave()
    assert not Marks(tmp_path / "m", 2).of(1).suspicious


def test_overlapping_deaths_narrow_to_what_they_share_then_records_run_alone(tmp_path):
    mark = die(tmp_path / "m", (0, 10), (4, 20), (2, 6))
    assert shape(mark, range(8)) == [
        ([0, 1, 2, 3], False, False),
        ([4], True, False),
        ([5], True, False),
        ([6, 7], False, False),
    ]


def test_one_that_dies_alone_is_the_culprit(tmp_path):
    mark = die(tmp_path / "m", (0, 10), (0, 10), (0, 10), (7, 8))
    assert shape(mark, range(9)) == [([*range(7)], False, False), ([7], True, True), ([8], False, False)]


def test_deaths_elsewhere_count_anew(tmp_path):
    mark = die(tmp_path / "m", (0, 10), (0, 10), (50, 60))
    assert shape(mark, range(3)) == [([0, 1, 2], False, False)]
    assert die(tmp_path / "m", (50, 60), topic="other").suspicious


def test_a_commit_behind_the_range_clears_it(tmp_path):
    mark = die(tmp_path / "m", (0, 10), (0, 10), (0, 10))
    mark.committed("other", 99)
    mark.committed("in", 9)
    assert mark.suspicious
    mark.committed("in", 10)
    assert not mark.suspicious
    assert not Marks(tmp_path / "m", 2).of(1).suspicious


@given(st.lists(st.integers(0, 200), min_size=1, unique=True), st.integers(0, 200), st.integers(1, 60))
def test_parts_are_the_batch_whatever_is_suspected(tmp_path_factory, offsets, first, length):
    path = tmp_path_factory.mktemp("marks") / "m"
    mark = die(path, *[(first, first + length)] * DEATHS)
    parts, whole = mark.parts(batch(sorted(offsets))), batch(sorted(offsets))
    assert [record for part in parts for record in part.batch.records] == whole.records
    assert parts[-1].batch.next_offset == whole.next_offset
    for part in parts:
        inside = [first <= record.offset < first + length for record in part.batch.records]
        assert part.alone == any(inside)
        assert not part.alone or len(inside) == 1
