"""Sums that forget by half-lives and yet add up exactly: forward decay on whole numbers.

Instead of shrinking what is old, what is new counts for more: an observation at time t adds ``w 2^((t - L) / h)`` with a
fixed landmark L and half-life h; dividing by ``2^((now - L) / h)`` gives the decayed sum at any time. In whole numbers of
any length nothing rounds when things are added, so a sum depends neither on order nor on batches, and a late observation
counts exactly as if it had come in time. Each observation is rounded once, to 2^-30 of itself. The numbers grow by one bit
a half-life. Source: Cormode, Shkapenyuk, Srivastava, Xu: Forward Decay (ICDE 2009).
"""

from __future__ import annotations

from math import exp2

#: 2026-01-01, the landmark. What claims to be older counts as this old.
LANDMARK_MS = 1_767_225_600_000
_FRACTION_BITS = 30


def scaled(amount: float, at_ms: int, half_life_ms: int) -> int:
    """``amount`` >= 0 observed at ``at_ms`` as a whole number that can be added to others of the same half-life."""
    whole, part = divmod(max(0, at_ms - LANDMARK_MS), half_life_ms)
    return round(amount * exp2(part / half_life_ms + _FRACTION_BITS)) << whole


def amount_at(total: int, now_ms: int, half_life_ms: int) -> float:
    """What is left at ``now_ms`` of a sum of ``scaled`` numbers.

    >>> day = 86_400_000
    >>> amount_at(scaled(8.0, LANDMARK_MS, day), LANDMARK_MS + 3 * day, day)
    1.0
    """
    whole, part = divmod(max(0, now_ms - LANDMARK_MS), half_life_ms)
    return total / (1 << (whole + _FRACTION_BITS)) / exp2(part / half_life_ms)
