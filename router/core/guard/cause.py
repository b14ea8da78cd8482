"""Which model's answers are probably the bad ones, of a unit that alarms. It never alarms by itself.

The alarm compares whole cohorts, as assigned. Within a unit a policy gives different requests to different models, so the plain share of a model's bad
answers is that of *its* requests. Weighted by 1 / propensity of the choice it is what the share would be if the model had all of the pilot's
requests in the unit (Hajek). Of judged answers (reviews, labels) x in 0..1 with weights w:

    r = sum w x / sum w        variance = sum w^2 (x - r)^2 / (sum w)^2        effective number = (sum w)^2 / sum w^2

Named is, of the models that are clearly worse than the reference (by ``CLEARLY`` standard errors of the difference, at least ``LEAST_EFFECTIVE``
effective answers), the one to which most of the excess belongs, by its excess times its share of the judged answers. The moment was not chosen by this
comparison, and its interval is an ordinary one: read it as a pointer. Counted are answers of the model that was chosen first; what a fallback or the second
step of a cascade answered is nobody's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from router.core.guard.detector import DAY_MS

#: Signals whose values are shares of bad answers.
SIGNALS: Final = frozenset({"review", "label"})
DAYS_KEPT, MOST_MODELS = 14, 8
LEAST_EFFECTIVE: Final = 20.0
CLEARLY: Final = 1.96
#: A choice that was less likely counts as one of this probability, so that a single answer is not everything.
LEAST_PROPENSITY: Final = 0.01
#: Of one model and day: n, sums of w, w^2, w x, w^2 x, w^2 x^2.
_SUMS: Final = 6


@dataclass(frozen=True, slots=True)
class ModelShare:
    """Estimated share of bad answers, 0..1, with an ordinary 95 % interval; how many were judged, and how many evenly weighted ones that is worth."""

    model: str
    bad: float
    error: float
    judged: int
    effective: float

    def as_evidence(self) -> dict[str, float]:
        """JSON values."""
        return {
            "bad": round(self.bad, 4),
            "low": round(max(0.0, self.bad - CLEARLY * self.error), 4),
            "high": round(min(1.0, self.bad + CLEARLY * self.error), 4),
            "judged": self.judged,
            "effective": round(self.effective, 1),
        }


@dataclass(frozen=True, slots=True)
class Cause:
    """``model``: ``None`` if it is not known; ``why`` says in words what speaks for it, or why it is not known."""

    model: str | None
    why: str
    shares: tuple[ModelShare, ...]


class Causes:
    """Daily sums of a unit's judged pilot answers by model."""

    __slots__ = ("_days",)

    def __init__(self) -> None:
        self._days: dict[int, dict[str, list[float]]] = {}

    def add(self, model: str, propensity: float, bad: float, at_ms: int) -> None:
        """An answer of ``model``, chosen with ``propensity`` in (0, 1], judged ``bad`` in 0..1. A further model than ``MOST_MODELS`` a day is not counted."""
        day = at_ms // DAY_MS
        models = self._days.get(day)
        if models is None:
            models = self._days[day] = {}
            for old in [one for one in self._days if one <= max(self._days) - DAYS_KEPT]:
                del self._days[old]
        if model not in models and len(models) >= MOST_MODELS:
            return
        sums, w = models.setdefault(model, [0.0] * _SUMS), 1.0 / min(1.0, max(LEAST_PROPENSITY, propensity))
        for at, value in enumerate((1.0, w, w * w, w * bad, w * w * bad, w * w * bad * bad)):
            sums[at] += value

    def cause(self, since_ms: int, reference_n: float, reference_bad: float) -> Cause:
        """Of what was judged since a day, beside ``reference_n`` judged answers of the reference, ``reference_bad`` of them bad."""
        shares = self.shares(since_ms)
        enough = [one for one in shares if one.effective >= LEAST_EFFECTIVE]
        if reference_n < LEAST_EFFECTIVE or not enough:
            who = "no model has" if not enough else "the reference has not"
            return Cause(None, f"not known: {who} {LEAST_EFFECTIVE:.0f} judged answers since then", shares)
        usual = reference_bad / reference_n
        error = math.sqrt((usual * (1.0 - usual) + 0.5 / reference_n) / reference_n)
        worse = [one for one in enough if one.bad - usual > CLEARLY * math.hypot(one.error, error)]
        if not worse:
            return Cause(None, "not known: no model's judged answers are clearly worse than the reference's", shares)
        first, *others = sorted(worse, key=lambda one: (usual - one.bad) * one.judged)
        also = f"; so are those of {', '.join(one.model for one in others)}" if others else ""
        why = (
            f"{100 * first.bad:.0f} % of the answers of {first.model} are bad ({first.judged:,} judged, weighted by 1 / propensity,"
            f" worth {first.effective:,.0f}), {100 * usual:.0f} % of the reference's{also}"
        )
        return Cause(first.model, why, shares)

    def shares(self, since_ms: int) -> tuple[ModelShare, ...]:
        """Of each model since a day, by name."""
        totals: dict[str, list[float]] = {}
        for day, models in self._days.items():
            if day >= since_ms // DAY_MS:
                for model, sums in models.items():
                    total = totals.setdefault(model, [0.0] * _SUMS)
                    for at, value in enumerate(sums):
                        total[at] += value
        return tuple(_share(model, total) for model, total in sorted(totals.items()))

    def dump(self) -> list[Any]:
        """JSON values, exactly."""
        return [[day, models] for day, models in self._days.items()]

    def load(self, found: list[Any]) -> None:
        """The inverse of ``dump``."""
        self._days = {day: {model: list(sums) for model, sums in models.items()} for day, models in found}


def _share(model: str, sums: list[float]) -> ModelShare:
    n, w, w2, wx, w2x, w2xx = sums
    bad = wx / w
    spread = max(w2xx - 2.0 * bad * w2x + bad * bad * w2, 0.0)
    effective = w * w / w2
    # Half a bad answer more, so that it is never nothing.
    error = math.sqrt(spread / (w * w) + 0.5 / (effective * effective))
    return ModelShare(model, bad, error, round(n), effective)
