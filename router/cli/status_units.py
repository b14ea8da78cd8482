"""How ``status`` writes ages, counts, money and shares: short, and never more exact than they are."""

from __future__ import annotations

import math
from typing import Any


def age(seconds: float | None) -> str:
    """An age in its largest fitting unit.

    >>> age(0.42), age(12.3), age(200), age(7300), age(200_000), age(None)
    ('0.4 s', '12 s', '3 min', '2 h', '2 d', '?')
    """
    if seconds is None:
        return "?"
    for limit_s, unit_s, unit in ((10, 1, "s"), (120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit_s:
            return f"{seconds:.1f} s" if limit_s == 10 else f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def count(number: int) -> str:
    """With thousands apart.

    >>> count(1234567)
    '1,234,567'
    """
    return f"{number:,}"


def dollars(nano_usd: int) -> str:
    """Nano-dollars as dollars: cents from one dollar on, three digits that count below.

    >>> dollars(1_234_500_000_000), dollars(41_256_789), dollars(412_000), dollars(0), dollars(-5)
    ('$1,234.50', '$0.0413', '$0.000412', '$0', '-$0.000000005')
    """
    usd = abs(nano_usd) / 1e9
    if usd >= 1:
        text = f"{usd:,.2f}"
    else:
        places = min(9, 2 - math.floor(math.log10(usd))) if usd else 0
        text = f"{usd:.{places}f}"
    return f"{'-' if nano_usd < 0 else ''}${text}"


def percent(share: float) -> str:
    """A share of 0..1 in per cent.

    >>> percent(0.9961), percent(0.5)
    ('99.6 %', '50.0 %')
    """
    return f"{share * 100:.1f} %"


def printable(value: Any) -> Any:
    r"""The same JSON value with every character that could steer a terminal, or turn its text around, made visible.

    >>> printable({"why": "a\x1b[2Jb"})
    {'why': 'a?[2Jb'}
    """
    if isinstance(value, str):
        return value if value.isprintable() else "".join(one if one.isprintable() else "?" for one in value)
    if isinstance(value, list):
        return [printable(item) for item in value]
    if isinstance(value, dict):
        return {printable(key): printable(item) for key, item in value.items()}
    return value


def on_screen(text: str) -> str:
    r"""``printable`` of each line of a page: names, reasons and errors in it may come from outside.

    >>> on_screen("by eve\x1b[2J\nso")
    'by eve?[2J\nso'
    """
    return text if text.isprintable() else "\n".join(printable(line) for line in text.split("\n"))
