"""Prices as people write them (USD a million tokens) and as the product counts them (whole nano-dollars a token).

A nano-dollar a token is 0.001 USD a million tokens. A price that is no whole number of them is refused, so that
tokens x price is exact and no sum ever rounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

#: USD a million tokens -> nano-dollars a token: x 10^9 / 10^6.
NANO_USD_PER_TOKEN_IN_USD_PER_MTOK = 1000
#: A call of 10^9 tokens each way then still costs less than 2^53 nano-dollars: a dearer price is a slip of the pen.
MAX_USD_PER_MTOK = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPrice:
    """Price of one model, in nano-dollars a token.

    ``cached_input_...`` and ``cache_write_...`` are ``None`` where the list names none: the input price then holds.
    ``unpriced``: nobody knows what the model costs; the cost of its answers is unknown, never 0.
    """

    input_nano_usd_per_token: int
    output_nano_usd_per_token: int
    cached_input_nano_usd_per_token: int | None = None
    cache_write_nano_usd_per_token: int | None = None
    price_version: str | None = None
    unpriced: bool = False


def nano_usd_per_token(usd_per_mtok: Decimal) -> int:
    """Whole nano-dollars a token. ``ValueError`` if it is no whole number of them, negative or absurdly large.

    >>> nano_usd_per_token(Decimal("0.15"))
    150
    """
    if not 0 <= usd_per_mtok <= MAX_USD_PER_MTOK:
        raise ValueError(f"must be between 0 and {MAX_USD_PER_MTOK:,} USD a million tokens, not {usd_per_mtok}")
    nano = usd_per_mtok * NANO_USD_PER_TOKEN_IN_USD_PER_MTOK
    # Compared at the given scale: the product of a price of 10^-999999 would be rounded to 0.
    if Decimal(int(nano)) / NANO_USD_PER_TOKEN_IN_USD_PER_MTOK != usd_per_mtok:
        raise ValueError(
            f"{usd_per_mtok} USD a million tokens is {nano.normalize()} nano-dollars a token; "
            "it must be a whole number (a multiple of 0.001 USD)"
        )
    return int(nano)


def nano_usd(usd: Decimal) -> int:
    """A budget in whole nano-dollars. ``ValueError`` if it is finer than that or negative.

    >>> nano_usd(Decimal("0.02"))
    20000000
    """
    if not 0 <= usd <= 1_000_000_000:
        raise ValueError(f"must be between 0 and 1,000,000,000 USD, not {usd}")
    nano = usd * 1_000_000_000
    if Decimal(int(nano)) / 1_000_000_000 != usd:
        raise ValueError(f"{usd} USD is finer than a nano-dollar (10^-9 USD)")
    return int(nano)
