"""Quantiles of many small sketches that merge exactly: counts in buckets whose bounds grow geometrically.

A value x > 0 lies in bucket ``i = ceil(log_g(x))`` with ``g = (1 + a) / (1 - a)``, so that the bucket's value
``2 g^i / (g + 1)`` is off by at most the share ``a`` = 1 %. Zero has a bucket of its own. Merging adds counts: in
whatever order and grouping, the same values give the same sketch. From one millisecond to a day there are 914 buckets,
which bounds the memory; what lies above ``MAX_VALUE`` counts there.

Source: Masson, Rim, Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees",
VLDB 2019 (without collapsing: the range of latencies is bounded).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

RELATIVE_ERROR = 0.01
#: Ten days in milliseconds: no attempt, no request lasts as long.
MAX_VALUE = 864_000_000

_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_PER_LOG = 1 / math.log(_GAMMA)
#: Bucket of zero; positive integers start at bucket 0.
_ZERO = -1

#: Bucket number -> how many values.
Sketch = dict[int, int]


def bucket_of(value: int) -> int:
    """The bucket of a value; below zero counts as zero, above ``MAX_VALUE`` as that."""
    if value <= 0:
        return _ZERO
    return math.ceil(math.log(min(value, MAX_VALUE)) * _PER_LOG)


def add(sketch: Sketch, value: int) -> None:
    """Count one value."""
    bucket = bucket_of(value)
    sketch[bucket] = sketch.get(bucket, 0) + 1


def merge(into: Sketch, other: Mapping[int, int]) -> None:
    """Add the counts of ``other``."""
    for bucket, count in other.items():
        into[bucket] = into.get(bucket, 0) + count


def quantile(sketch: Mapping[int, int], q: float) -> float | None:
    """The value below which the share ``q`` (0..1) lies, within 1 % of the exact lower quantile; ``None`` when empty.

    >>> sketch: Sketch = {}
    >>> for value in range(1, 1001):
    ...     add(sketch, value)
    >>> round(quantile(sketch, 0.5))
    497
    """
    return quantiles(sketch, (q,))[0]


def quantiles(sketch: Mapping[int, int], qs: Iterable[float]) -> list[float | None]:
    """One walk for several shares; ``qs`` must rise. Rank of q among n values: ``floor(q (n - 1))``."""
    n = sum(sketch.values())
    if n == 0:
        return [None for _ in qs]
    found: list[float | None] = []
    buckets = iter(sorted(sketch.items()))
    seen, bucket = 0, _ZERO
    for q in qs:
        rank = math.floor(q * (n - 1))
        while seen <= rank:
            bucket, count = next(buckets)
            seen += count
        found.append(_value_of(bucket))
    return found


def mean(sketch: Mapping[int, int]) -> float | None:
    """The mean value, within 1 %; ``None`` when empty."""
    n = sum(sketch.values())
    return sum(count * _value_of(bucket) for bucket, count in sketch.items()) / n if n else None


def to_json(sketch: Mapping[int, int]) -> list[int]:
    """Flat and in order: bucket, count, bucket, count, ..."""
    return [number for item in sorted(sketch.items()) for number in item]


def from_json(numbers: list[int]) -> Sketch:
    """The inverse of ``to_json``."""
    return dict(zip(numbers[::2], numbers[1::2], strict=True))


def _value_of(bucket: int) -> float:
    return 0.0 if bucket == _ZERO else 2 * _GAMMA**bucket / (_GAMMA + 1)
