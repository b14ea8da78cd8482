"""Slices: borders are drawn once, hostile values make neither a crash nor a flood."""

from __future__ import annotations

import math

import orjson
import pytest

from router.core.guard.slices import (
    LATER_COUNT,
    LEARN_FROM,
    MOST_CHARACTERS,
    MOST_DIMENSIONS,
    MOST_VALUES,
    PREFIX,
    Slicer,
)


def learned(features=lambda number: {"language": ("en", "de")[number % 2], "length": number % 100}, tenant=None):
    slicer = Slicer()
    for number in range(LEARN_FROM):
        assert slicer.of(features(number), tenant) == ()
    return slicer


def test_names_have_a_slice_a_value_and_numbers_a_slice_a_quarter():
    slicer = learned()
    assert slicer.of({"language": "de", "length": 3}, None) == ("slice/language=de", "slice/length=lowest")
    assert slicer.of({"length": 99}, None) == ("slice/length=highest",)
    assert len(slicer.names()) == 6


def test_the_quarters_have_about_the_same_number_of_requests():
    slicer = learned()
    found = [slicer.of({"length": number}, None)[0] for number in range(100)]
    assert [found.count(f"slice/length={name}") for name in ("lowest", "low", "high", "highest")] == [25] * 4


def test_borders_stay_where_they_were_drawn():
    slicer = learned()
    before = slicer.of({"length": 60}, None)
    for _ in range(3 * LEARN_FROM):
        slicer.of({"length": 10_000}, None)
    assert slicer.of({"length": 60}, None) == before


def test_tenants_are_a_dimension():
    slicer = Slicer()
    for number in range(LEARN_FROM):
        slicer.of({}, ("acme", "globex")[number % 2])
    assert slicer.of({}, "acme") == ("slice/tenant=acme",)
    assert slicer.of({}, None) == ()


def test_what_is_the_same_for_all_makes_no_slice():
    slicer = learned(lambda _: {"language": "en", "length": 5})
    assert slicer.of({"language": "en", "length": 5}, None) == ()


def test_rare_values_have_none_and_a_later_one_gets_one_when_it_is_frequent():
    slicer = learned(lambda number: {"language": "sw" if number == 7 else ("en", "de")[number % 2]})
    assert slicer.of({"language": "sw"}, None) == ()
    for _ in range(LATER_COUNT):
        slicer.of({"language": "pt"}, None)
    assert slicer.of({"language": "pt"}, None) == ("slice/language=pt",)


def test_a_flood_of_values_and_dimensions_is_bounded():
    slicer = learned(lambda number: {f"d{number % 50}": "ab"[number // 50 % 2], "id": str(number)})
    for number in range(20_000):
        slicer.of({"d0": f"v{number % 30}", "x": number}, None)
    assert len(slicer.names()) <= 2 * MOST_VALUES * MOST_DIMENSIONS
    assert len(orjson.dumps(slicer.dump())) < 20_000


@pytest.mark.parametrize(
    "value", [None, [], {}, b"x", math.nan, math.inf, -math.inf, 2**63, "", "x" * 10_000, "a/b", True, object()]
)
def test_hostile_values_are_named_safely_or_not_at_all(value):
    slicer = Slicer()
    for number in range(LEARN_FROM):
        odd = number % 2
        slicer.of({"language": ("en", "de")[odd], "length": number, "odd": "x" if odd else value}, None)
    for one in slicer.of({"language": value, "length": value, "odd": value}, None):
        assert one.startswith(PREFIX)
        assert one.count("/") == 1
        assert len(one) <= len(PREFIX) + 2 * MOST_CHARACTERS + 1


def test_a_value_cannot_pose_as_another_dimension():
    slicer = learned(lambda number: {"a/b": ("x", "y/z")[number % 2]})
    assert slicer.of({"a/b": "y/z"}, None) == ("slice/a_b=y_z",)


@pytest.mark.parametrize("cut", [100, LEARN_FROM, LEARN_FROM + 300])
def test_it_continues_exactly_where_it_was_dumped(cut):
    def features(number):
        return {"language": ("en", "de", "ja")[number % 3] if number < 2100 else "pt", "length": number * 7 % 501}

    whole, first = Slicer(), Slicer()
    wholly = [whole.of(features(number), "acme") for number in range(3000)]
    found = [first.of(features(number), "acme") for number in range(cut)]
    again = Slicer.load(orjson.loads(orjson.dumps(first.dump())))
    assert found + [again.of(features(number), "acme") for number in range(cut, 3000)] == wholly
    assert again.dump() == whole.dump()
