"""The guard of a pool: which unit it names, what it does not hear, and what its fences do."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import orjson
import pytest

from router.core.guard.detector import DAY_MS
from router.core.guard.monitor import FOCUS_SHARE, MOST_BURST, MOST_SLICES, MOST_STRATA, Guard, Opinion, Place, Settings
from router.core.guard.slices import PREFIX
from router.core.guard.unit import HOUR_MS

STRATA = ("chat/easy", "code/hard", "math/hard")


def guard(strata=STRATA, **settings):
    return Guard(Settings(**settings), strata, 0)


def reviewed(one, place, arm, bad, count, now_ms):  # noqa: PLR0917
    for number in range(count):
        value = 0.0 if number < bad else 1.0
        said = Opinion(
            signal="review", value=value, arm=arm, place=place, asked_ms=now_ms, model="small", propensity=0.5
        )
        one.opinion(said, now_ms)


def days(one, number, bad, first=0, place=Place):
    """Days on which each stratum is reviewed, 20 answers of each arm; ``bad``: those of the pilot, by stratum. What is named first each day."""
    found = []
    for day in range(first, first + number):
        now_ms = day * DAY_MS
        for stratum in STRATA:
            reviewed(one, place(stratum), "reference", 1, 20, now_ms)
            reviewed(one, place(stratum), "pilot", bad.get(stratum, 1), 20, now_ms)
        found += one.step(now_ms + HOUR_MS)[:1]
    return found


def test_the_stratum_that_gets_worse_is_named_and_no_other():
    found = days(guard(), 15, {"code/hard": 7})
    assert {one.unit for one in found} == {"code/hard"}
    first = found[0]
    assert first.severity == "page"
    assert first.evidence >= first.threshold
    assert first.effect.low <= 0.3 <= first.effect.high
    assert first.since_ms <= first.at_ms
    assert not first.is_slice


def test_nothing_is_found_where_nothing_is_wrong():
    assert days(guard(), 60, {}) == []


def test_of_a_bad_slice_and_the_strata_that_it_crosses_the_slice_is_named_first():
    def place(stratum):
        return Place(stratum, ("slice/language=ja",))

    one = guard()
    found = []
    for day in range(20):
        now_ms = day * DAY_MS
        for stratum in STRATA:
            for slices, bad in ((("slice/language=ja",), 5), (("slice/language=en",), 1)):
                reviewed(one, Place(stratum, slices), "reference", 1, 10, now_ms)
                reviewed(one, Place(stratum, slices), "pilot", bad, 10, now_ms)
        found = found or one.step(now_ms + HOUR_MS)
    assert found[0].unit == "slice/language=ja"
    assert found[0].is_slice


def test_the_shares_of_the_pools_false_alarms_sum_to_less_than_one():
    one = guard()
    for number in range(2 * MOST_STRATA):
        one.requests(Place(f"new/{number}", tuple(f"{PREFIX}t={number + k}" for k in range(2))), "pilot", 1, 0)
    assert len(one.units) == MOST_STRATA + MOST_SLICES
    shares = [one.settings.arl_days / math.exp(one.threshold(name)) for name in one.units]
    assert sum(shares) <= 1.0 + 1e-9


def test_a_flood_of_stratum_names_is_bounded_and_those_there_are_still_heard():
    one = guard()
    for number in range(5 * MOST_STRATA):
        one.requests(Place(f"flood/{number}"), "pilot", 1, 0)
    assert sum(not name.startswith(PREFIX) for name in one.units) == MOST_STRATA
    assert {one.unit for one in days(one, 15, {"code/hard": 9})} == {"code/hard"}


def test_a_stratum_that_nobody_knew_is_tested_too():
    one = guard()
    found = []
    for day in range(15):
        now_ms = day * DAY_MS
        reviewed(one, Place("vision/any"), "reference", 1, 20, now_ms)
        reviewed(one, Place("vision/any"), "pilot", 9, 20, now_ms)
        found += one.step(now_ms + HOUR_MS)[:1]
    assert {one.unit for one in found} == {"vision/any"}


@pytest.mark.parametrize("signal", ["", "nonsense", "judge", "REVIEW"])
def test_a_signal_that_is_none_of_feedback_is_ignored(signal):
    one = guard()
    before = orjson.dumps(one.dump())
    one.opinion(Opinion(signal=signal, value=0.0, arm="pilot", place=Place("code/hard"), asked_ms=0), 0)
    assert orjson.dumps(one.dump()) == before


def test_a_retry_is_bad_when_it_happened_and_a_thumb_when_it_is_down():
    one = guard()
    for arm in ("pilot", "reference"):
        one.requests(Place("code/hard"), arm, 100, 0)
    said = (("retry", 1.0), ("retry", 0.0), ("thumbs", 0.0), ("thumbs", 1.0))
    for signal, value in said:
        one.opinion(Opinion(signal=signal, value=value, arm="pilot", place=Place("code/hard"), asked_ms=0), 1)
    unit = one.units["code/hard"]
    assert [unit.since(signal, 0)[1].bad for signal in ("retry", "thumbs")] == [1, 1]


def test_opinions_of_one_conversation_are_bounded():
    one = guard()
    for number in range(10):
        said = Opinion(
            signal="review", value=0.0, arm="pilot", place=Place("code/hard"), asked_ms=0, session=f"s{number % 2}"
        )
        one.opinion(said, HOUR_MS)
    assert one.units["code/hard"].since("review", 0)[1].n == 4


def thumbs(one, hours, *, reviews_bad=None, first=0):
    """Users put thumbs down on the pilot twice as often; reviews, where there are any, see ``reviews_bad`` of 60."""
    place, found = Place("code/hard"), []
    for hour in range(first, first + hours):
        now_ms = hour * HOUR_MS
        for arm in ("pilot", "reference"):
            one.requests(place, arm, 1000, now_ms)
        for number in range(12):
            arm = "reference" if number % 3 == 0 else "pilot"
            one.opinion(Opinion(signal="thumbs", value=0.0, arm=arm, place=place, asked_ms=now_ms), now_ms + 1)
        if reviews_bad is not None and hour % 6 == 0:
            for arm in ("pilot", "reference"):
                reviewed(one, place, arm, reviews_bad, 60, now_ms)
        found += one.step(now_ms + HOUR_MS)
    return found


def test_thumbs_alone_page_where_nobody_reviews():
    assert {one.severity for one in thumbs(guard(), 24)} == {"page"}


def test_thumbs_that_reviews_contradict_are_watched():
    found = thumbs(guard(), 24, reviews_bad=3)
    assert found
    assert {one.severity for one in found} == {"watch"}


def test_a_watch_hides_no_page_of_another_stratum():
    """Thumbs that reviews contradict in one stratum, and not long after it bad answers in another."""
    one = guard()
    for hour in range(48):
        for arm, bad in (("reference", 1), ("pilot", 6)) if hour >= 24 else ():
            reviewed(one, Place("chat/easy"), arm, bad, 20, hour * HOUR_MS)
        found = thumbs(one, 1, reviews_bad=3, first=hour)
        if any(each.unit == "chat/easy" and each.evidence >= each.threshold for each in found):
            break
    first, *others = found
    assert (first.unit, first.severity) == ("chat/easy", "page")
    (watched,) = [each for each in others if each.unit == "code/hard"]
    assert watched.severity == "watch"
    assert watched.evidence > first.evidence


def test_a_fence_takes_its_unit_out_of_all_tests():
    one = guard()
    days(one, 10, {"code/hard": 7})
    one.fence("code/hard", 10 * DAY_MS)
    assert one.fence_of(Place("code/hard")) == "code/hard"
    assert one.fence_of(Place("chat/easy")) is None
    before = one.units["code/hard"].dump()["days"]
    assert days(one, 15, {"code/hard": 20}, first=10) == []
    assert one.units["code/hard"].dump()["days"] == before
    assert "code/hard" not in one.attention()


def test_the_fence_of_a_slice_covers_its_requests_in_every_stratum():
    one = guard()
    one.requests(Place("chat/easy", ("slice/language=ja",)), "pilot", 5, 0)
    one.fence("slice/language=ja", 0)
    inside = Place("chat/easy", ("slice/length=long", "slice/language=ja"))
    assert one.fence_of(inside) == "slice/language=ja"
    one.requests(inside, "pilot", 7, HOUR_MS)
    one.pair(inside, 1.0, HOUR_MS)
    one.happened("refused", "pilot", inside, HOUR_MS)
    assert one.units["chat/easy"].since("requests", 0)[1].n == 5
    assert "slice/length=long" not in one.units
    one.requests(Place("chat/easy", ("slice/language=en",)), "pilot", 7, HOUR_MS)
    assert one.units["chat/easy"].since("requests", 0)[1].n == 12


def test_what_overlaps_with_a_fence_begins_anew_and_other_strata_do_not():
    def place(stratum):
        return Place(stratum, ("slice/language=en",))

    one = guard()
    days(one, 8, {"code/hard": 6, "math/hard": 3}, place=place)
    evidence = one.units["math/hard"].evidence
    one.fence("code/hard", 8 * DAY_MS)
    assert one.units["slice/language=en"].evidence < -100
    assert one.units["math/hard"].evidence == evidence


def test_after_its_release_a_unit_is_tested_from_nothing():
    one = guard()
    days(one, 10, {"code/hard": 7})
    one.fence("code/hard", 10 * DAY_MS)
    one.release("code/hard", 11 * DAY_MS)
    one.release("never/fenced", 11 * DAY_MS)
    assert one.fence_of(Place("code/hard")) is None
    assert one.units["code/hard"].evidence < -100
    assert {one.unit for one in days(one, 15, {"code/hard": 7}, first=11)} == {"code/hard"}


def test_attention_is_even_at_first_and_goes_where_a_test_is_under_way():
    one = guard()
    one.step(DAY_MS)
    calm = one.attention()
    assert calm.keys() == set(STRATA)
    assert all(share == pytest.approx(1 / 3) for share, _ in calm.values())
    days(one, 4, {"code/hard": 7}, first=1)
    hot = one.attention()
    assert hot["code/hard"][0] > 0.8
    assert sum(share for share, _ in hot.values()) == pytest.approx(1.0)
    assert hot["chat/easy"][0] >= (1 - FOCUS_SHARE) / 3 - 1e-9
    pairs = sum(share for _, share in hot.values())
    assert sum(share for _, share in calm.values()) < pairs <= MOST_BURST


def test_there_is_nothing_to_look_at_when_everything_is_fenced():
    one = guard()
    for name in STRATA:
        one.fence(name, 0)
    assert one.attention() == {}
    assert one.step(HOUR_MS) == []


def test_a_judge_whose_taste_is_the_same_everywhere_finds_nothing():
    random = np.random.default_rng(3)
    one = guard()
    found = []
    for hour in range(20 * 24):
        for stratum in STRATA:
            for verdict in random.choice([-1.0, 0.0, 1.0], 3, p=[0.1, 0.6, 0.3]):
                one.pair(Place(stratum), float(verdict), hour * HOUR_MS)
        found += one.step((hour + 1) * HOUR_MS)
    assert one.judge_bias == pytest.approx(0.2, abs=0.05)
    assert not [one for one in found if one.at_ms > 5 * DAY_MS]


def busy(one, first, last):
    found: Counter[str] = Counter()
    for hour in range(first, last):
        at_ms = hour * HOUR_MS
        for number, stratum in enumerate((*STRATA, "late/comer")):
            features = {"language": ("en", "de")[hour % 2], "prompt_tokens": 10 * hour % 97}
            place = Place(stratum, one.slices_of(features, "acme"), "acme")
            one.requests(place, "pilot", 50, at_ms)
            one.requests(place, "reference", 20 + number, at_ms)
            said = Opinion(signal="thumbs", value=0.0, arm="pilot", place=place, asked_ms=at_ms, session=str(hour // 2))
            one.opinion(said, at_ms + 1)
            reviewed(one, place, "pilot" if hour % 2 else "reference", hour % 2, 3, at_ms)
            one.pair(place, (hour + number) % 3 - 1, at_ms)
        if hour == 70:
            one.fence("math/hard", at_ms)
        found.update(finding.unit for finding in one.step(at_ms + HOUR_MS))
    return found


@pytest.mark.parametrize("cut", [20, 75])
def test_it_continues_exactly_where_it_was_dumped(cut):
    whole, first = guard(), guard()
    wholly = busy(whole, 0, 120)
    before = busy(first, 0, cut)
    again = Guard.load(first.settings, orjson.loads(orjson.dumps(first.dump())))
    assert before + busy(again, cut, 120) == wholly
    assert orjson.dumps(again.dump()) == orjson.dumps(whole.dump())
    assert again.attention() == whole.attention()
    assert [again.threshold(name) for name in again.units] == [whole.threshold(name) for name in whole.units]
