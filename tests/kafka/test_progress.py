"""What is done of a partition survives any death."""

import random

import pytest

from router.kafka.calls import MOST_CONCURRENCY
from router.kafka.progress import Progress


@pytest.mark.parametrize("seed", range(100))
def test_whatever_finishes_in_whatever_order_a_successor_makes_the_unfinished_calls_and_no_other(seed):
    dice, done, progress = random.Random(seed), set(), Progress(0)
    in_hand = []
    while len(done) < 200:
        if dice.random() < 0.02:
            mark = progress.mark()
            progress, in_hand = Progress(mark.offset, mark.metadata), []
        offset = progress.wanted
        if len(in_hand) < 8 and offset < 200 and progress.start(offset):
            assert offset not in done
            in_hand.append(offset)
        elif in_hand:
            offset = in_hand.pop(dice.choice([-1, 0]) if dice.random() < 0.8 else dice.randrange(len(in_hand)))
            progress.finish(offset)
            done.add(offset)
    assert progress.mark() == (200, "")
    assert done == set(range(200))


def test_the_metadata_fits_kafka_whatever_one_slow_call_holds_back():
    progress = Progress(10**9)
    for offset in range(10**9, 10**9 + 1_000_000):
        progress.start(offset)
        if offset > 10**9 and offset % 2500:
            progress.finish(offset)
    assert len(progress._open) >= MOST_CONCURRENCY
    assert len(progress.mark().metadata) <= 4096
