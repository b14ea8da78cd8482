"""Whatever is read from outside gives a value or its documented error; a long run of the same targets: ``python -m tests.fuzz``."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.hostile import LARGE, TOKENS, damaged
from tests.fuzz.targets import TARGETS

EXAMPLES = 60


@pytest.mark.parametrize("name", TARGETS)
def test_valid_input_is_taken(name):
    target = TARGETS[name]
    assert all(map(target, target.seeds)), "a seed that is refused shows nothing"


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.data())
def test_damaged_input_gives_a_value_or_the_documented_error(name, data):
    target = TARGETS[name]
    target(data.draw(damaged(target.seeds)))


@pytest.mark.parametrize("name", TARGETS)
def test_large_and_deep_input_too(name):
    for value in (*LARGE.values(), *TOKENS):
        TARGETS[name](value)
