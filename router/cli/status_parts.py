"""What the pages of ``status`` are put together from: titles with an age, indented lines, tables that fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from router.cli.status_units import age

#: Longer tables are cut: the rest is for ``--json``.
MAX_ROWS = 24


def title(text: str, age_s: float | None) -> Text:
    """A section's first line, with the age of all that stands in it."""
    return Text.assemble("\n", (text, "bold"), (f"  (age {age(age_s)})", "dim"))


def line(text: str | Text, style: str = "") -> RenderableType:
    """One statement; where it must be broken it stays indented."""
    return Padding(Text(text, style=style) if isinstance(text, str) else text, (0, 0, 0, 2), expand=False)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], wide: bool) -> Iterator[RenderableType]:
    """``*`` before a title: on wide terminals only; ``>``: numbers, to the right; ``~``: text that may be broken."""
    shown = [at for at, name in enumerate(columns) if wide or not name.startswith("*")]
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    grid.add_column("")
    for at in shown:
        name = columns[at].lstrip("*")
        justify: Literal["left", "right"] = "right" if name.startswith(">") else "left"
        grid.add_column(name.lstrip(">~"), justify=justify, overflow="fold", no_wrap=not name.startswith("~"))
    for row in rows[:MAX_ROWS]:
        grid.add_row("", *(Text(row[at]) for at in shown))
    yield grid
    if len(rows) > MAX_ROWS:
        yield line(f"and {len(rows) - MAX_ROWS} more: --json has all", "dim")
