"""How much more often than usual answers are looked at, unit by unit: what ``Guard.attention`` wants, as factors that routers can use.

| unit | factor |
|---|---|
| a stratum | its share over an even one, plus the share of ``slice/all``: 1 is as usual |
| a slice | its share over its part of the pool's traffic; *added* to the stratum's factor for requests that are in both: 0 is as usual |

A pool's reviews a day stay what they are (``core.review_sample``): what one unit gets more, others get less. A slice of little traffic gets at most
``MOST`` times what is usual.
"""

from __future__ import annotations

from typing import Final

from router.core.guard.detector import DAY_MS
from router.core.guard.monitor import Guard
from router.core.guard.slices import ALL, PREFIX

MOST: Final = 50.0
#: Of a stratum, and of a slice, without a word of the guard.
USUAL, NO_FACTORS = (1.0, 1.0), (0.0, 0.0)
#: A slice's factor below this is as good as none.
_LEAST: Final = 0.1
#: Days whose traffic says how large a slice is.
_DAYS: Final = 7


def factors(guard: Guard, now_ms: int) -> dict[str, tuple[float, float]]:
    """By unit, of reviews and of shadow pairs; strata all, slices where more is wanted than usual."""
    attention = guard.attention()
    strata = [name for name in attention if not name.startswith(PREFIX)]
    over_all = attention.pop(ALL, (0.0, 0.0))
    found = {
        name: (len(strata) * attention[name][0] + over_all[0], len(strata) * attention[name][1] + over_all[1])
        for name in strata
    }
    whole = sum(_requests(guard, name, now_ms) for name in guard.units if not name.startswith(PREFIX))
    for name in attention.keys() - found.keys():
        part = _requests(guard, name, now_ms) / max(1.0, whole)
        reviews, pairs = (min(MOST, share / max(part, 1.0 / MOST)) for share in attention[name])
        if max(reviews, pairs) >= _LEAST:
            found[name] = (reviews, pairs)
    return found


def _requests(guard: Guard, name: str, now_ms: int) -> float:
    reference, pilot = guard.units[name].since("requests", now_ms - _DAYS * DAY_MS)
    return reference.n + pilot.n
