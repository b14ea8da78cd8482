"""A split is found where models differ, and none where they do not."""

import numpy as np
import pytest

from router.core.split import LEAST, Sample, suggest


def log_of(seed, count=1500, *, broken_at=None, sessions=None):
    """Small is 3 points worse everywhere; above ``broken_at`` tokens 40 points."""
    draw = np.random.default_rng(seed)
    found = []
    for number in range(count):
        tokens = float(draw.integers(20, 1000))
        cheap = draw.random() < 0.4
        good = 0.92 - 0.03 * cheap - (0.37 if cheap and broken_at is not None and tokens > broken_at else 0.0)
        session = f"s{number if sessions is None else number % sessions}"
        features = {"prompt_tokens": tokens, "needs": float(draw.integers(2))}
        found.append(
            Sample(
                session,
                "math/easy",
                "small" if cheap else "large",
                float(draw.random() < good),
                1.0,
                0.4 if cheap else 0.6,
                features,
            )
        )
    return found


def test_the_side_where_a_model_falls_off_is_found_with_its_size():
    (split,) = suggest(log_of(1, broken_at=500), "large")
    assert (split.stratum, split.model, split.feature) == ("math/easy", "small", "prompt_tokens")
    assert split.edge == pytest.approx(500, abs=60)
    assert split.left.low < 0.03 < split.left.high
    assert split.right.low < 0.40 < split.right.high
    assert split.difference.low > 0.2


def test_where_models_differ_alike_on_all_sides_nothing_is_suggested():
    alarms = sum(bool(suggest(log_of(seed), "large")) for seed in range(100))
    assert alarms <= 8  # 5 % are allowed; with 100 logs more than 8 happen to one honest test in twenty


def test_the_same_few_conversations_are_no_evidence():
    few = [sample._replace(session=f"s{number % 6}") for number, sample in enumerate(log_of(2, broken_at=500))]
    sure, unsure = suggest(log_of(2, broken_at=500), "large"), suggest(few, "large")
    assert sure
    assert not unsure or unsure[0].difference.high - unsure[0].difference.low > 0.0


def test_too_few_judgements_are_no_evidence():
    assert suggest(log_of(3, LEAST * 3, broken_at=500), "large") == []
    assert suggest([], "large") == []


def test_weights_that_were_drawn_unevenly_are_corrected():
    """Of small mostly bad answers were judged; the judgement's weight says so."""
    samples = [
        sample._replace(weight=1.0 if sample.reward < 0.5 else 4.0)
        for number, sample in enumerate(log_of(4, 6000, broken_at=500))
        if sample.reward < 0.5 or number % 4 == 0
    ]
    (split,) = suggest(samples, "large")
    assert split.right.low < 0.40 < split.right.high
