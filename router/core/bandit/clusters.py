"""Opinions of one conversation are no independent observations: together they count for so much and no more.

With ``CORRELATION`` rho between opinions of a cluster, k of them are worth

    e(k) = k / (1 + (k - 1) rho)                 (Kish 1965: the design effect of cluster samples)

single ones, at most 1 / rho. The k-th counts e(k) - e(k - 1): 1, 1/3, 1/6, 1/10 ... for rho = 1/2, 2 in all.
"""

from __future__ import annotations

from typing import Final

CORRELATION: Final = 0.5


def share_of(number: int) -> float:
    """What the ``number``-th (1, 2, ...) opinion of a cluster counts, 0..1.

    >>> [round(share_of(number), 3) for number in (1, 2, 3)]
    [1.0, 0.333, 0.167]
    """
    return _worth(number) - _worth(number - 1)


def _worth(count: int) -> float:
    return count / (1.0 + (count - 1) * CORRELATION) if count > 0 else 0.0
