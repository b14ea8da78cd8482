"""``[pools.X.rollout]``: what a pilot has to show, declared before it begins."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from router.config.kinds import Percent, Share, Whole, no_bool
from router.config.section import Section

_Days = Annotated[float, BeforeValidator(no_bool), Field(gt=0, le=3650, allow_inf_nan=False)]


def _or_off(value: object) -> object:
    """``false`` asks for nothing."""
    return None if value is False else no_bool(value)


def _ascending(stages: tuple[float, ...]) -> tuple[float, ...]:
    if any(later <= earlier for earlier, later in pairwise(stages)) or stages[-1] != 100:
        raise ValueError("must ascend, and the last must be 100")
    return stages


class RolloutConfig(Section):
    """Each stratum climbs the stages by itself: to the next one when every metric is within its bound, to none when one is beyond it, or the guard pages.

    What is compared: the pilot with holdout and control, as assigned. Every step is written down: ``pointsman journal``. How long it will
    take: ``pointsman rollout plan``.
    """

    stages: Annotated[tuple[Percent, ...], Field(min_length=2, max_length=20), AfterValidator(_ascending)] = (
        5,
        10,
        25,
        50,
        100,
    )
    """Percentages of what the holdout leaves, ascending to 100. A first stage of 0 touches no user: only shadow pairs speak then
    (``shadow_percent``, ``judge``)."""
    min_days: _Days = 3
    """The least time at each stage."""
    deadline_days: _Days = 90
    """After so many days nothing goes further by itself."""
    quality_margin: Annotated[Share, Field(gt=0)] | None = None
    """How much larger the pilot's share of bad answers may be, by reviews and judged pairs. Not set: the pool's ``margin``."""
    min_saving: Annotated[
        Annotated[float, Field(gt=-1, lt=1, allow_inf_nan=False)] | None, BeforeValidator(_or_off)
    ] = 0.0
    """How much less a request of the pilot has to cost, as a share; ``false`` asks for nothing, here and below."""
    latency_ratio: Annotated[
        Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] | None, BeforeValidator(_or_off)
    ] = 1.5
    """How much longer the pilot's 95th percentile may be: 1.5 is half as long again."""
    error_increase: Annotated[
        Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None, BeforeValidator(_or_off)
    ] = 0.02
    """How much larger the share of requests without an answer may be."""
    alpha: Annotated[Share, Field(gt=0, le=0.2)] = 0.05
    """Probability with which a metric that is beyond its bound passes all the same; and with which one that is within fails, in any stratum."""
    n_min: Annotated[Whole, Field(ge=10, le=100_000)] = 50
    """Reviews of pilot and of reference each, or twice as many pairs, before a stratum's quality is judged. What has fewer stays at the first stage."""
