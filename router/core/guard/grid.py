"""What the guard listens to, and the alternatives it bets on.

| signal | what is bad | test |
|---|---|---|
| thumbs | a thumb down (a thumb up counts as silence) | ``events`` |
| retry, abandon | it happened | ``events`` |
| refused, truncated, escalated | the answer was | ``events`` |
| review, label | 1 - value | ``means`` |
| rating, survey | 1 - value | ``means`` |
| judge | the judge's verdict on a pair | ``pairs`` |
| past | a review or label, beside the pilot's own of a week ago and more | ``past`` |

An alternative says by how much each signal would be worse: an *excess* of the share of bad answers for ``means`` and ``pairs`` (0: it says
nothing of the signal), a *ratio* of rates for ``events`` (1: nothing). ``quality`` bets on reviews, judge and thumbs together, for a bad
answer shows in all of them; ``answers`` without the thumbs; each signal has alternatives of its own, for what shows nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Test = Literal["events", "means", "pairs", "past"]

TESTS: Final[dict[str, Test]] = {
    "thumbs": "events",
    "retry": "events",
    "abandon": "events",
    "refused": "events",
    "truncated": "events",
    "escalated": "events",
    "review": "means",
    "label": "means",
    "rating": "means",
    "survey": "means",
    "judge": "pairs",
    "past": "past",
}
#: Feedback of these kinds says that something bad happened by 1, the others by 0.
HAPPENED: Final = frozenset({"retry", "abandon"})

#: Alternatives: name, prior, and the signals that would show it.
_GROUPS: Final[tuple[tuple[str, float, tuple[str, ...]], ...]] = (
    ("quality", 0.30, ("review", "label", "judge", "thumbs")),
    ("answers", 0.18, ("review", "label", "judge")),
    ("review", 0.12, ("review", "label")),
    ("judge", 0.12, ("judge",)),
    ("thumbs", 0.10, ("thumbs",)),
    ("past", 0.06, ("past",)),
    ("survey", 0.04, ("survey", "rating")),
    ("retry", 0.03, ("retry", "abandon")),
    ("refused", 0.03, ("refused", "truncated")),
    ("escalated", 0.02, ("escalated",)),
)
#: Sizes of the excess, in margins, and of the ratio where events stand alone.
_SIZES: Final = (0.5, 1.0, 2.0)
_RATIOS: Final = (1.4, 2.0, 4.0)
#: By how much the rate of thumbs down grows with the excess, where they are one sign among others.
_THUMBS_PER_EXCESS: Final = 4.0


@dataclass(frozen=True, slots=True)
class Grid:
    """The alternatives for a margin. ``prior``, ``group`` by alternative; ``sizes``: signal -> excess or ratio by alternative."""

    margin: float
    prior: Array
    group: tuple[str, ...]
    sizes: dict[str, Array]

    @classmethod
    def of(cls, margin: float) -> Grid:
        """For a margin in (0, 1]."""
        alternatives = [(name, prior / 3, signals, i) for name, prior, signals in _GROUPS for i in range(3)]
        sizes = {
            signal: np.array([_size(signal, signals, i, margin) for _, _, signals, i in alternatives])
            for signal in TESTS
        }
        prior = np.array([one[1] for one in alternatives])
        return cls(margin, prior / prior.sum(), tuple(one[0] for one in alternatives), sizes)

    def signals_of(self, group: str) -> tuple[str, ...]:
        """The signals that a group of alternatives listens to."""
        return next(signals for name, _, signals in _GROUPS if name == group)


def _size(signal: str, signals: tuple[str, ...], i: int, margin: float) -> float:
    nothing = 1.0 if TESTS[signal] == "events" else 0.0
    if signal not in signals:
        return nothing
    if TESTS[signal] != "events":
        return min(0.9, _SIZES[i] * margin)
    return 1.0 + _THUMBS_PER_EXCESS * _SIZES[i] * margin if len(signals) > 2 else _RATIOS[i]
