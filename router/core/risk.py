"""Calibrates the threshold of a cascade to a target risk, from labelled answers of the cheap model.

**Risk** of a threshold t: the share of the cascade's requests that get a bad answer that was let through,

    R(t) = E[(1 - q) 1{c >= t}]            c: confidence, q: quality 0..1 as labelled

**Sample**: drawn uniformly from *all* answers of the cheap model, escalated ones included, each with a known inclusion probability
pi; it counts with w = 1 / pi. Answers that somebody picked for another reason do not count.

**Choice** (Learn-then-Test, fixed sequence: Angelopoulos, Bates, Candes, Jordan and Lei 2021): thresholds of a fixed grid are
tested from the strictest down, and the last is taken before the first that is not shown to have R(t) <= ``target``. The test is
an e-process by betting (Waudby-Smith and Ramdas 2023), a mixture over bets of

    E(t) = prod_i (1 - nu w_i / w_max (L_i - target)),        L_i = (1 - q_i) 1{c_i >= t},      shown when E >= 1 / delta

Since R falls with t, a threshold above the target risk is taken only if the strictest such one is ever shown wrongly: probability
<= ``delta``, however often one looks while labels come in (Ville). It holds for answers like those of the sample, hence

**Later data**: each label also says which threshold was in force (``held``), so losses under the calibrated thresholds that were
really used are known. A CUSUM of e-values (Shin, Ramdas and Rinaldo 2022) watches them: once in ``ALARM`` labels at most it cries without
reason. What is done then is in ``core/labels``; each calibration on the labels that are left has a ``delta`` of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from router.core.cascade import too_low

Floats = npt.NDArray[np.float64]

#: Thresholds that are tested: equal steps in log-odds, for models are seldom unsure of their words; and 1.
GRID: Final[Floats] = np.append(np.round(1.0 / (1.0 + np.exp(-np.linspace(-4.0, 7.0, 89))), 4), 1.0)
#: Bets are the best ones if the risk were this part of the target; two fifths of the stake are on none at all.
_PARTS: Final = np.array([0.001, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9])
_STAKES: Final = np.array([0.4] + [0.6 / (len(_PARTS) - 1)] * (len(_PARTS) - 1))
#: Later losses are bet on to be this many times the target.
_WORSE: Final = np.array([1.3, 1.6, 2.0, 3.0, 5.0])
#: Labels between two false cries of the watch, on average at least.
ALARM: Final = 2000.0


class Label(NamedTuple):
    """One labelled answer of the cheap model.

    ``confidence``, ``quality`` 0..1; ``weight`` 1 / pi; ``at_ms``: of the answer; ``served_model``; ``held``: the threshold then, ``None`` if nothing
    was to escalate; ``promised``: it was calibrated; ``number``: a hash of its request, by which labels of one time have an order.
    """

    confidence: float
    quality: float
    weight: float
    at_ms: int
    served_model: str
    held: float | None = None
    promised: bool = False
    number: int = 0

    @property
    def escalated(self) -> bool:
        """Whether it was not given out."""
        return too_low(self.confidence, self.held)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Of one served model.

    ``threshold``: ``None`` if none could be shown. At it, or else at the strictest: ``risk`` as seen, ``bound`` that it seems to be below
    (for a threshold named beforehand with probability 1 - delta), ``escalates`` the share of answers below it.
    """

    threshold: float | None
    labels: int
    risk: float
    bound: float
    escalates: float


@dataclass(frozen=True, slots=True)
class Later:
    """Losses under calibrated thresholds that were in force.

    ``risk`` as seen over ``labels``; ``since``: index of the first label after the change, if the watch has cried.
    """

    labels: int
    risk: float
    since: int | None = None


def calibrate(labels: Sequence[Label], target: float, delta: float) -> Calibration:
    """See the module's text. ``target``, ``delta`` in (0, 1). Takes 5 ms for 1,000 labels.

    >>> sure = [Label(0.9, 1.0, 1.0, 0, "s")] * 100 + [Label(0.2, 0.0, 1.0, 0, "s")] * 50
    >>> found = calibrate(sure, 0.05, 0.1)
    >>> 0.2 < found.threshold < 0.9, round(found.escalates, 2), found.risk
    (True, 0.33, 0.0)
    """
    if not labels:
        return Calibration(None, 0, 0.0, 1.0, 1.0)
    confidence, loss, share, scale = _arrays(labels)
    shown = _e_values(confidence, loss, scale, target) >= 1.0 / delta
    taken = len(GRID) - int(np.argmin(shown[::-1])) if not shown.all() else 0
    threshold = float(GRID[min(taken, len(GRID) - 1)])
    passed = loss * (confidence >= threshold)
    return Calibration(
        threshold if taken < len(GRID) else None,
        len(labels),
        float(share @ passed),
        _bound(passed, scale, float(share @ passed), delta),
        float(share @ (confidence < threshold)),
    )


def later(labels: Sequence[Label], target: float) -> Later:
    """What came of the calibrated thresholds that were in force; labels in the order of time."""
    numbers = [at for at, one in enumerate(labels) if one.promised]
    if not numbers:
        return Later(0, 0.0)
    watched = [labels[at] for at in numbers]
    _, loss, share, scale = _arrays(watched)
    passed = loss * np.array([not one.escalated for one in watched])
    worse = np.minimum(target * _WORSE, (1.0 + target) / 2.0)
    bets = (worse - target) / (target * (1.0 - target))
    steps = 1.0 + bets * (scale * (passed - target))[:, None]
    wealth, began = np.ones(len(bets)), np.zeros(len(bets), dtype=np.int64)
    for at, step in enumerate(steps):
        fresh = wealth < 1.0
        began[fresh] = at
        wealth = np.where(fresh, 1.0, wealth) * step
        if wealth.mean() >= ALARM:
            return Later(len(watched), float(share @ passed), numbers[int(began[wealth.argmax()])])
    return Later(len(watched), float(share @ passed))


def _arrays(labels: Sequence[Label]) -> tuple[Floats, Floats, Floats, Floats]:
    """Confidence, loss, share of the weight, weight over the largest; each (n,)."""
    weight = np.array([one.weight for one in labels])
    confidence = np.array([one.confidence for one in labels])
    loss = 1.0 - np.array([one.quality for one in labels])
    return confidence, loss, weight / weight.sum(), weight / weight.max()


def _e_values(confidence: Floats, loss: Floats, scale: Floats, target: float) -> Floats:
    """E of the module's text at each threshold of the grid, (len(GRID),): sums over the labels from the surest down."""
    order = np.argsort(-confidence, kind="stable")
    bets = ((1.0 - _PARTS) / (1.0 - target))[:, None]
    stopped = np.log1p(bets * scale * target)  # what is not let through is no loss
    passed = np.log1p(-bets * (scale * (loss - target)))
    more = np.concatenate([np.zeros((len(bets), 1)), np.cumsum((passed - stopped)[:, order], axis=1)], axis=1)
    let_through = len(order) - np.searchsorted(np.sort(confidence), GRID, side="left")
    log_wealth = stopped.sum(axis=1)[:, None] + more[:, let_through]
    found: Floats = _STAKES @ np.exp(np.minimum(log_wealth, 700.0))
    return found


def _e_value(loss: Floats, scale: Floats, target: float) -> float:
    """E of the module's text."""
    bets = (1.0 - _PARTS) / (1.0 - target)
    log_wealth = np.log1p(-bets[:, None] * (scale * (loss - target))[None, :]).sum(axis=1)
    return float(_STAKES @ np.exp(np.minimum(log_wealth, 700.0)))


def _bound(loss: Floats, scale: Floats, risk: float, delta: float) -> float:
    """The least target that the losses would show; 1 if none."""
    low, high = risk, 1.0 - 1e-6
    if _e_value(loss, scale, high) < 1.0 / delta:
        return 1.0
    for _ in range(20):
        middle = (low + high) / 2.0
        low, high = (low, middle) if _e_value(loss, scale, middle) >= 1.0 / delta else (middle, high)
    return high
