"""Packed ids behave like a dict, and stay small."""

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router.core.packed import SHARDS, PackedIds

MIB = 1024 * 1024


def id_of(number: int) -> bytes:
    return hashlib.md5(number.to_bytes(8)).digest()


class Against(RuleBasedStateMachine):
    """A ``dict`` is the model; ids crowd into two shards and few home slots."""

    ids = st.builds(
        lambda shard, home, rest: bytes([0, shard, *rest.to_bytes(6)]) + home.to_bytes(8, "little"),
        st.sampled_from([0, 64]),
        st.integers(0, 12),
        st.integers(0, 60),
    )

    def __init__(self):
        super().__init__()
        self.packed = PackedIds()
        self.model: dict[bytes, tuple[int, int]] = {}

    @rule(new=st.lists(st.tuples(ids, st.integers(0, 2**32 - 1), st.integers(1, 100)), max_size=40))
    def put(self, new):
        for id16, payload, expires_s in new:
            assert self.packed.put(id16, payload, expires_s) == self.model.get(id16)
            self.model[id16] = payload, expires_s

    @rule(id16=ids)
    def get(self, id16):
        assert self.packed.get(id16) == self.model.get(id16)

    @rule(now_s=st.integers(0, 110))
    def sweep(self, now_s):
        before = len(self.model)
        self.model = {id16: value for id16, value in self.model.items() if value[1] > now_s}
        assert sum(self.packed.sweep(now_s) for _ in range(SHARDS)) == before - len(self.model)

    @invariant()
    def holds_the_same(self):
        assert len(self.packed) == len(self.model)
        assert {id16: (payload, expires_s) for id16, payload, expires_s in self.packed.items()} == self.model


TestAgainstDict = Against.TestCase
TestAgainstDict.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)


def test_an_id_takes_at_most_64_bytes_at_any_number_of_ids():
    packed = PackedIds()
    for number in range(200_000):
        packed.put(id_of(number), number, 1)
        if number >= 20_000 and number % 9_973 == 0:
            assert packed.bytes_used * 1_000_000 / len(packed) <= 64 * MIB
    assert all(packed.get(id_of(number)) == (number, 1) for number in range(0, 200_000, 97))


def test_memory_returns_when_ids_expire():
    packed = PackedIds()
    for number in range(100_000):
        packed.put(id_of(number), 0, 10)
    full = packed.bytes_used
    for _ in range(SHARDS):
        packed.sweep(10)
    assert len(packed) == 0
    assert packed.bytes_used < full / 4


@given(st.binary(min_size=16, max_size=16))
def test_empty_knows_no_id(id16):
    assert PackedIds().get(id16) is None
