"""The status document for a person at three in the morning: the verdict first, then what to do, then the figures.

Colour and redrawing on a terminal only. A narrow terminal gets fewer columns, never broken ones. What is not known is
said to be not known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from router.cli.status_parts import line, table, title
from router.cli.status_tenants import tenants
from router.cli.status_units import age, count, dollars, percent, printable
from router.contract.orders import ROLLOUT

Json = dict[str, Any]

STYLES = {"ok": "bold green", "degraded": "bold yellow", "failing": "bold red", "unknown": "bold magenta"}
MARKS = {"failing": "!", "degraded": "~", "note": "-"}
#: Columns that tell less are left out below this width.
WIDE = 90
#: Lines of a pipe are not broken by the width of a terminal that is not there.
PIPE_WIDTH = 160
MAX_CHANGES = 8
MAX_PARTITIONS = 8
STILL_S = 30.0
UNKNOWN = "?"


class Page:
    """Prints documents on standard output."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, emoji=False, markup=False)
        if not self._console.is_terminal:
            self._console.width = PIPE_WIDTH

    @property
    def interactive(self) -> bool:
        return self._console.is_terminal

    def print(self, document: Json) -> None:
        self._console.print(self._page(document))

    @contextmanager
    def live(self) -> Iterator[Callable[[Json], None]]:
        """Redraws in place; what does not fit below the bottom is cut."""
        with Live(console=self._console, screen=True, auto_refresh=False) as screen:
            yield lambda document: screen.update(self._page(document), refresh=True)

    def _page(self, document: Json) -> RenderableType:
        document = printable(document)
        wide = self._console.width >= WIDE
        parts = [
            _head(document),
            *_changes(document),
            *_orders(document),
            *_traffic(document),
            *_cost(document),
            *_quality(document, wide),
            *_models(document, wide),
            *_stages(document, wide),
            *_requests(document),
            *_weights(document, wide),
            *tenants(document, wide),
            *_alerts(document),
            *_processes(document),
            *_foot(document),
        ]
        return Group(*parts)


def _head(document: Json) -> RenderableType:
    found = document["verdict"]
    state = found["state"]
    seen = "nothing seen yet" if found["age_s"] is None else f"age {age(found['age_s'])}"
    heading = Text.assemble(
        (state.upper(), STYLES.get(state, "bold")), f"  ({seen})", (f"  {document['source']}", "dim")
    )
    lines: list[RenderableType] = [heading]
    lines.extend(line(f"{MARKS[one['severity']]} {one['what']}") for one in found["reasons"])
    if document["next_action"]:
        lines.append(line(Text.assemble("next: ", (document["next_action"], "bold"))))
    elif state == "ok":
        lines.append(line("nothing to do"))
    return Group(*lines)


def _changes(document: Json) -> Iterator[RenderableType]:
    yield Text.assemble("\n", ("Last changes", "bold"))
    if not document["changes"]:
        yield line("none")
        return
    rows = [
        (f"{age(one['ago_s'])} ago", one["what"], f"{one['who']}: {one['why']}")
        for one in document["changes"][:MAX_CHANGES]
    ]
    yield from table((">when", "~what", "~who: why"), rows, wide=True)


def _orders(document: Json) -> Iterator[RenderableType]:
    if document["orders"]:
        yield Text.assemble("\n", ("Orders in force", "bold"))
    yield from _rollouts([one for one in document["orders"] if one["by"] == ROLLOUT])
    for one in document["orders"]:
        if one["by"] == ROLLOUT:
            continue
        args = "".join(f" {value}" for value in one["args"].values())
        until = f", until {one['expires_at']}" if one["expires_at"] else ""
        why = f"{one['by']}, {age(one['age_s'])} ago{until}: {one['reason']}"
        yield line(f"{one['action']} {one['scope']}{args}  by {why}")


def _rollouts(orders: Sequence[Json]) -> Iterator[RenderableType]:
    """One line a pool: where most strata are, and how many are elsewhere."""
    shares: dict[str, Counter[float]] = {}
    first = {
        one["scope"].partition(":")[2]: one["args"]["percent"] for one in orders if one["scope"].startswith("pool:")
    }
    for one in orders:
        kind, _, name = one["scope"].partition(":")
        if kind == "stratum":
            shares.setdefault(name.partition("/")[0], Counter())[one["args"]["percent"]] += 1
    for pool in sorted(first.keys() | shares.keys()):
        said = [f"{number} strata at {share:g} %" for share, number in sorted(shares.get(pool, Counter()).items())]
        rest = f"{'others' if said else 'all strata'} at {first[pool]:g} %" if pool in first else ""
        yield line(
            f"rollout of {pool}: {', '.join([*said, rest]).rstrip(', ')}; why: pointsman journal --scope pool:{pool}"
        )


def _clock(text: str) -> str:
    return datetime.fromisoformat(text).astimezone().strftime("%H:%M:%S")


def _span(window: Json | None) -> str:
    return f"windows {_clock(window['from'])} to {_clock(window['to'])}" if window else "no window yet"


def _traffic(document: Json) -> Iterator[RenderableType]:
    traffic = document["traffic"]
    yield title(f"Traffic, {_span(traffic['window'])}", traffic["age_s"])
    requests, ok = traffic["requests"]["value"], traffic["ok"]["value"]
    failed = ", ".join(f"{code} {count(one['value'])}" for code, one in traffic["errors"].items())
    share = f" ({percent(ok / requests)})" if requests else ""
    yield line(f"{count(requests)} results, {count(ok)} ok{share}" + (f"; failed: {failed}" if failed else ""))
    names = ("attempts", "retries", "fallbacks")
    calls, retries, fallbacks = (count(traffic[name]["value"]) for name in names)
    on = traffic["escalations"]["value"]
    escalations = f", {count(on)} of cascades" if on else ""
    yield line(f"{calls} calls, {retries} retries, {fallbacks} fallbacks{escalations}")
    if shadows := traffic["shadows"]["value"]:
        in_time = percent(traffic["shadows_ok"]["value"] / shadows)
        beside = dollars(document["cost"]["beside_nano_usd"]["value"])
        yield line(f"{count(shadows)} answered a second time, unseen ({in_time} in time); with judging {beside}")
    if surveys := traffic["surveys"]["value"]:
        yield line(f"{count(surveys)} results asked their user: `pointsman surveys rates`")
    final = count(traffic["requests"]["final"])
    if traffic["window"]:
        yield line(f"final up to {_clock(traffic['window']['final_to'])}: {final} results", "dim")


def _cost(document: Json) -> Iterator[RenderableType]:
    cost = document["cost"]
    yield title("Money, same windows", cost["age_s"])
    hourly = cost["per_hour_nano_usd"]
    if hourly is None:
        yield line("nothing spent yet")
        return
    spent, baseline = cost["spent_nano_usd"]["value"], cost["baseline_nano_usd"]["value"]
    saved = f", {percent(1 - spent / baseline)} saved" if baseline else ""
    yield line(
        f"{dollars(hourly['spent'])} an hour; the baseline would cost {dollars(hourly['baseline'])} (estimate){saved}"
    )
    unknown = cost["calls_of_unknown_cost"]["value"]
    yield line(f"{dollars(spent)} in these windows; calls of unknown cost: {count(unknown)}")


def _quality(document: Json, wide: bool) -> Iterator[RenderableType]:
    quality = document["quality"]
    yield title("Quality by slice: mean feedback beside the baseline's, same windows", quality["age_s"])
    rated = [one for one in quality["slices"] if one["kind"]]
    if not rated:
        yield line("no feedback yet" if quality["slices"] else "no traffic yet")
        yield from _blind(quality)
        return
    rows = [
        (
            f"{one['pool']}/{one['stratum']}",
            one["model"],
            one["kind"],
            f"{one['mean']:.3f}",
            count(one["n"]),
            _against(one),
            UNKNOWN if one["difference"] is None else "" if one["is_baseline"] else f"{one['difference']:+.3f}",
        )
        for one in rated
    ]
    yield from table(("~slice", "model", "kind", ">mean", ">n", "*reference", ">difference"), rows, wide)
    if silent := len(quality["slices"]) - len(rated):
        yield line(f"slices and models without feedback: {silent}", "dim")
    yield from _blind(quality)


def _blind(quality: Json) -> Iterator[RenderableType]:
    """Strata where the guard would not notice a drop of the margin within a week."""
    for pool in quality.get("sight", ()):  # absent in a document of before
        if pool["strata"] is None:
            yield line(f"{pool['pool']}: the guard has not said yet what it can see", "dim")
            continue
        for one in pool["strata"]:
            if one["blind"]:
                when = "never" if one["days"] is None else f"in {one['days']:.0f} days"
                ways = [
                    f"{count(one[f'{what}_for_one_day'])} {what} a day"
                    for what in ("reviews", "pairs")
                    if one[f"{what}_for_one_day"] is not None
                ]
                yield line(
                    f"BLIND  {pool['pool']}/{one['stratum']}: a drop of {pool['margin']:.0%} would be seen {when};"
                    f" within a day by {' or '.join(ways) or 'nothing'}",
                    "yellow",
                )


def _against(one: Json) -> str:
    if one["is_baseline"]:
        return "is the baseline"
    reference = one["reference"]
    return f"{reference['model']} {reference['mean']:.3f}, n {count(reference['n'])}" if reference else "none yet"


def _models(document: Json, wide: bool) -> Iterator[RenderableType]:
    models = document["models"]
    yield title("Models", models[0]["age_s"] if models else None)
    rows = [
        (
            one["model"],
            one["state"] + "".join(f", {action}" for action in one["orders"]),
            UNKNOWN if one["for_s"] is None else age(one["for_s"]),
            UNKNOWN if one["error_rate"] is None else percent(one["error_rate"]),
            UNKNOWN if one["p95_ms"] is None else f"{one['p95_ms']:,.0f} ms",
            count(one["attempts"]["value"]),
            dollars(one["cost_nano_usd"]["value"]),
            one["reason"],
        )
        for one in models
    ]
    yield from table(("model", "state", ">for", ">errors", ">p95", "*>calls", "*>cost", "*~why"), rows, wide)


def _stages(document: Json, wide: bool) -> Iterator[RenderableType]:
    stages = document["stages"]
    yield title("Stages", stages[0]["lag"]["age_s"] if stages else None)
    if not stages:
        yield line("not known yet")
        return
    rows = [
        (
            f"worker {one['model']}" if one["model"] else one["stage"],
            one["lane"],
            count(one["lag"]["value"]),
            UNKNOWN if one["lag"]["value"] and one["oldest_waiting_s"] is None else _or_none(one["oldest_waiting_s"]),
            _slowest(one["partitions"]),
            _by_partition(one["partitions"]),
        )
        for one in stages
    ]
    columns = ("stage", "lane", ">lag", ">oldest", ">commit", "*~last commit by partition")
    yield from table(columns, rows, wide)
    yield line("lag and oldest: of what is not read yet; !: waits and does not move", "dim")


def _or_none(age_s: float | None) -> str:
    return "-" if age_s is None else age(age_s)


def _by_number(partitions: Sequence[Json]) -> list[list[Json]]:
    """What belongs to each partition number, on all of the stage's topics."""
    found: dict[int, list[Json]] = {}
    for one in partitions:
        found.setdefault(one["partition"], []).append(one)
    return [found[number] for number in sorted(found)]


def _commit(held: Sequence[Json]) -> str:
    ages_s = [one["last_commit_s"] for one in held if one["last_commit_s"] is not None]
    mark = "!" if any(one["lag"] and one["still_s"] >= STILL_S for one in held) else ""
    if ages_s:
        return age(min(ages_s)) + mark
    if all(one["committed"] is None for one in held):
        return "none ever" + mark
    return f"> {age(max(one['still_s'] for one in held))}{mark}"


def _slowest(partitions: Sequence[Json]) -> str:
    """The partition that waits the longest; where none waits, the latest commit of all."""
    behind = [held for held in _by_number(partitions) if any(one["lag"] for one in held)]
    return _commit(max(behind, key=lambda held: min(one["still_s"] for one in held)) if behind else partitions)


def _by_partition(partitions: Sequence[Json]) -> str:
    each = [_commit(held) for held in _by_number(partitions)]
    if len(set(each)) == 1:
        return f"all {each[0]}"
    more = f", and {len(each) - MAX_PARTITIONS} more" if len(each) > MAX_PARTITIONS else ""
    return ", ".join(each[:MAX_PARTITIONS]) + more


def _requests(document: Json) -> Iterator[RenderableType]:
    requests, dead = document["requests"], document["dead_letters"]
    yield title("Requests", requests["age_s"])
    if requests["lost"] is None:
        yield line("unfinished, lost, doubled: not known, settle has said nothing yet")
    else:
        for lane, one in requests["unfinished"].items():
            oldest = "" if one["oldest_s"] is None else f", the oldest {age(one['oldest_s'])} old"
            yield line(f"{lane}: {count(one['open'])} unfinished{oldest}")
        ids = requests["settled_ids"]
        doubled = "not known" if requests["doubled"] is None else count(requests["doubled"])
        yield line(f"lost {count(requests['lost'])}, doubled {doubled}")
        bound = f"{age(ids['window_s'])}" if ids["bound_by"] == "time" else f"the newest {count(ids['max'])}"
        yield line(f"{count(ids['kept'])} settled ids kept against duplicates: {bound}", "dim")
    reasons = ", ".join(f"{one['stage']} {one['code']} {count(one['n'])}" for one in dead["reasons"])
    yield line(f"dead letters of the last hour: {count(dead['value'])}" + (f" ({reasons})" if reasons else ""))


def _weights(document: Json, wide: bool) -> Iterator[RenderableType]:
    yield Text.assemble("\n", ("Weights", "bold"))
    if not document["weights"]:
        yield line("none published yet")
        return
    rows = [
        (
            f"{one['pool']}/{one['stratum']}",
            "  ".join(f"{model} {share:.2f}" for model, share in one["weights"].items()),
            "  ".join(f"{model} {n:,.0f}" for model, n in one["evidence"].items()),
            one["policy_version"],
            age(one["age_s"]),
        )
        for one in document["weights"]
    ]
    yield from table(("~slice", "~share of each model", "*~evidence", "*policy", ">age"), rows, wide)
    cascades = [
        (f"{one['pool']}/{one['stratum']}", one["cascade"]) for one in document["weights"] if one.get("cascade")
    ]
    for name, cascade in cascades:
        how = "calibrated" if cascade["calibrated"] else "as configured, too few labels"
        labels = sum(one["labels"] for one in cascade["served"].values())
        yield line(
            f"{name}: answers go on to {cascade['to']} below a confidence of {cascade['threshold']:.3f} ({how}: {count(labels)}"
            f" labels), {cascade['escalates']:.0%} of them"
        )


def _alerts(document: Json) -> Iterator[RenderableType]:
    yield Text.assemble("\n", ("Alerts", "bold"))
    if not document["alerts"]:
        yield line("none open")
    for one in document["alerts"]:
        where = "/".join(part for part in (one["pool"], one["stratum"], one["model"]) if part) or "all"
        yield line(f"{one['severity']}: {one['signal']} on {where}, {one['state']}, {age(one['age_s'])} ago")
        if summary := one["evidence"].get("summary"):
            yield line(f"  {summary}")
        action = one["action"]
        if what := action["taken"] or action["proposed"]:
            yield line(f"  {'done' if action['taken'] else 'proposed'}: {what}")


def _processes(document: Json) -> Iterator[RenderableType]:
    yield Text.assemble("\n", ("Processes on this machine", "bold"))
    if not document["processes"]:
        yield line("none")
        return
    rows = [(one["name"], str(one["pid"]), one["address"], age(one["uptime_s"])) for one in document["processes"]]
    yield from table(("name", ">pid", "~serves healthz, readyz, metrics", ">up for"), rows, wide=True)


def _foot(document: Json) -> Iterator[RenderableType]:
    yield Text("\nNot there yet: " + "; ".join(document["not_there_yet"].values()), style="dim")
