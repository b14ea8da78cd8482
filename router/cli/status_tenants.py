"""Tenants against their limits, for ``status``: those nearest to one first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from router.cli.status_parts import table
from router.cli.status_units import age, count, dollars, percent

Json = dict[str, Any]

_WHAT = {
    "requests": "requests a minute",
    "tokens": "tokens a minute",
    "day": "spent today",
    "month": "spent this month",
}


def tenants(document: Json, wide: bool) -> Iterator[RenderableType]:
    """Nothing where no tenant has limits."""
    found = document.get("tenants")  # absent in a document of before
    if not found:
        return
    yield Text.assemble("\n", ("Tenants", "bold"), ("  (UTC; with what calls that are out may cost)", "dim"))
    rows = [
        (
            one["tenant"],
            _WHAT[one["kind"]],
            _amount(one, "used"),
            "none" if one["limit"] is None else _amount(one, "limit"),
            percent(one["used"] / one["limit"]) if one["limit"] else "-",
            "-" if one["soft"] is None else _amount(one, "soft") + (" reached" if one["used"] >= one["soft"] else ""),
            age(one["age_s"]),
        )
        for one in sorted(
            found, key=lambda one: (-(one["used"] / one["limit"] if one["limit"] else 0.0), one["tenant"])
        )
    ]
    yield from table(("~tenant", "what", ">used", ">limit", ">share", "*>alert from", "*>age"), rows, wide)


def _amount(one: Json, name: str) -> str:
    return dollars(one[name]) if one["kind"] in {"day", "month"} else count(one[name])
