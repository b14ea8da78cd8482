"""What an attempt costs: tokens x price, in whole nano-dollars, so that nothing ever rounds.

A price is a whole number of nano-dollars a token (0.001 USD a million tokens). Of the prompt tokens, those read from the
provider's cache cost the cached price and those written to it the cache-write price; the rest the input price. Reasoning
tokens are part of the completion. No usage means no tokens. Without a known price there is no cost: ``None``, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

#: A provider that reports more tokens than this has miscounted; keeps every cost and sum inside 64 bits.
MAX_TOKENS = 1_000_000_000


class UsageLike(Protocol):
    """Token counts of one attempt; ``contract.records.Usage`` is one."""

    @property
    def prompt_tokens(self) -> int: ...
    @property
    def completion_tokens(self) -> int: ...
    @property
    def cached_tokens(self) -> int: ...
    @property
    def cache_write_tokens(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Price of one model, each part in nano-dollars a token.

    ``cached_input_nano_usd_per_token`` and ``cache_write_nano_usd_per_token`` are ``None`` where the list names none:
    the input price then holds. ``unpriced``: nobody knows what the model costs.
    """

    input_nano_usd_per_token: int = 0
    output_nano_usd_per_token: int = 0
    cached_input_nano_usd_per_token: int | None = None
    cache_write_nano_usd_per_token: int | None = None
    version: str | None = None
    unpriced: bool = False

    def canonical(self) -> dict[str, Any]:
        """As plain JSON values, all parts spelled out."""
        return {
            "input": self.input_nano_usd_per_token,
            "output": self.output_nano_usd_per_token,
            "cached_input": self.cached_input_nano_usd_per_token,
            "cache_write": self.cache_write_nano_usd_per_token,
            "version": self.version,
            "unpriced": self.unpriced,
        }

    @classmethod
    def from_canonical(cls, value: dict[str, Any]) -> Price:
        """The inverse of ``canonical``. ``KeyError`` where a part is missing."""
        return cls(
            input_nano_usd_per_token=value["input"],
            output_nano_usd_per_token=value["output"],
            cached_input_nano_usd_per_token=value["cached_input"],
            cache_write_nano_usd_per_token=value["cache_write"],
            version=value["version"],
            unpriced=value["unpriced"],
        )


UNPRICED = Price(unpriced=True)


def cost_nano_usd(price: Price, usage: UsageLike | None) -> int | None:
    """Exact cost of one attempt; ``None`` where the model has no price.

    Numbers that contradict each other are cut to what can be: cached and written tokens never exceed the prompt.

    >>> from router.contract.records import Usage
    >>> price = Price(input_nano_usd_per_token=100, output_nano_usd_per_token=400, cached_input_nano_usd_per_token=10)
    >>> cost_nano_usd(price, Usage(prompt_tokens=50, completion_tokens=5, cached_tokens=40))
    3400
    """
    if price.unpriced:
        return None
    if usage is None:
        return 0
    prompt = _within(usage.prompt_tokens, MAX_TOKENS)
    cached = _within(usage.cached_tokens, prompt)
    written = _within(usage.cache_write_tokens, prompt - cached)
    plain_price = price.input_nano_usd_per_token
    cached_price = price.cached_input_nano_usd_per_token
    write_price = price.cache_write_nano_usd_per_token
    return (
        (prompt - cached - written) * plain_price
        + cached * (plain_price if cached_price is None else cached_price)
        + written * (plain_price if write_price is None else write_price)
        + _within(usage.completion_tokens, MAX_TOKENS) * price.output_nano_usd_per_token
    )


def expected_cost_nano_usd(
    price: Price, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0
) -> int | None:
    """Cost that a call is expected to have, ``cached_tokens`` of the prompt cached; ``None`` where the model has no price."""
    if price.unpriced:
        return None
    cost = prompt_tokens * price.input_nano_usd_per_token + completion_tokens * price.output_nano_usd_per_token
    if cached_tokens and price.cached_input_nano_usd_per_token is not None:
        cost -= cached_tokens * (price.input_nano_usd_per_token - price.cached_input_nano_usd_per_token)
    return cost


def _within(value: int, most: int) -> int:
    return 0 if value < 0 else min(value, most)
