"""The estimates cover the truth of a world in which it is known."""

from bisect import bisect

import numpy as np
import pytest

from router.core.ope import LEAST, EvaluationError, Judged, evaluate, unsupported

MODELS = ("small", "mid", "large")
STRATA = ("easy", "hard")
#: Chance of a good answer.
GOOD = {"easy": (0.9, 0.92, 0.95), "hard": (0.4, 0.7, 0.9)}
TARGET = {"easy": (0.8, 0.1, 0.1), "hard": (0.05, 0.15, 0.8)}


def log_of(seed, sessions=1500, *, judged=0.15, uneven=1.0, sticky=True):
    """Judged decisions of a world with sessions, weights that drift, and opinions that are rare, and rarer of good answers."""
    draw = np.random.default_rng(seed)
    found = []
    for number in range(sessions):
        stratum = STRATA[int(draw.random() < 0.4)]
        drift = number / sessions
        small = 0.1 + 0.6 * drift if stratum == "easy" else 0.5 - 0.35 * drift
        logged = dict(zip(MODELS, (small, 0.2, 0.8 - small), strict=True))
        taste = draw.normal(0.0, 0.08)
        model = None
        for _ in range(1 + draw.poisson(1.5)):
            if model is None or not sticky:
                model = bisect((small, small + 0.2), draw.random())  # numpy's own choice takes fifty times as long
            chance = min(max(GOOD[stratum][model] + taste, 0.0), 1.0)
            reward = float(draw.random() < chance)
            if draw.random() < judged * (uneven if reward else 1.0):
                target = dict(zip(MODELS, TARGET[stratum], strict=True))
                found.append(Judged(f"s{number}", stratum, MODELS[model], logged, target, reward))
    return found


def truth(uneven=1.0):
    """Mean reward of those who would judge, under the target; the taste of a session is nought in the mean, and clipped."""
    draw = np.random.default_rng(0)
    good = total = 0.0
    for stratum, share in (("easy", 0.6), ("hard", 0.4)):
        taste = draw.normal(0.0, 0.08, 200_000)
        for at, mass in enumerate(TARGET[stratum]):
            chance = np.clip(GOOD[stratum][at] + taste, 0.0, 1.0).mean()
            good += share * mass * chance * uneven
            total += share * mass * (chance * uneven + 1.0 - chance)
    return good / total


@pytest.mark.parametrize("sticky", [True, False], ids=["sessions", "requests"])
def test_intervals_cover_the_truth(sticky):
    """187 judgements that count as 76; more in ``benchmarks/ope.py``."""
    known, covered = truth(), []
    for seed in range(300):
        found = evaluate(log_of(seed, sessions=500, sticky=sticky))
        covered.append([one.low <= known <= one.high for one in (found.snips, found.dr)])
    assert (np.mean(covered, axis=0) >= 0.925).all()
    assert (np.mean(covered, axis=0) <= 0.99).all()


def test_where_good_answers_are_judged_less_often_snips_is_right_about_those_who_judge():
    known = truth(uneven=0.5)
    covered = [
        one.low <= known <= one.high for one in (evaluate(log_of(seed, uneven=0.5)).snips for seed in range(150))
    ]
    assert np.mean(covered) >= 0.92


def test_the_range_for_uneven_judging_holds_the_mean_of_all():
    everyone = truth()
    for seed in range(10):
        low, high = evaluate(log_of(seed, sessions=6000, uneven=0.5)).if_judged_unevenly
        assert low < everyone < high


def test_sessions_that_say_the_same_thing_many_times_are_one_voice():
    few = [
        Judged(f"s{n % 40}", "easy", "small", {"small": 0.5, "large": 0.5}, {"small": 1.0}, float(n % 40 < 30))
        for n in range(4000)
    ]
    many = [one._replace(session=f"s{n}") for n, one in enumerate(few)]
    wide, narrow = evaluate(few), evaluate(many)
    assert wide.snips.value == pytest.approx(narrow.snips.value)
    assert wide.effective == pytest.approx(40)
    assert wide.snips.high - wide.snips.low > 5 * (narrow.snips.high - narrow.snips.low)


def test_the_policy_that_ran_is_worth_what_it_was():
    same = [one._replace(target=one.logged) for one in log_of(1)]
    found = evaluate(same)
    assert found.snips.value == pytest.approx(found.logged.value)
    assert found.gain.low < 0.0 < found.gain.high


def test_what_cannot_be_estimated_is_said():
    with pytest.raises(EvaluationError, match="judgements"):
        evaluate(log_of(1)[: LEAST - 1])
    elsewhere = [one._replace(target={"other": 1.0}) for one in log_of(1)]
    with pytest.raises(EvaluationError, match="no judged decision"):
        evaluate(elsewhere)


def test_mass_where_the_log_had_none_is_unsupported():
    logged = {"small": 0.0, "large": 1.0}
    assert unsupported([(logged, {"small": 0.25, "large": 0.75})] * 4) == 0.25
    assert unsupported([]) == 0.0
