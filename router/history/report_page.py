"""The report as one HTML page: nothing is loaded from anywhere, all that comes from data is escaped, light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from router.history.report_plots import costs, strata, weeks
from router.history.report_rows import Report, Row
from router.history.report_targets import Verdict
from router.history.report_text import (
    HEAD,
    KINDS,
    NOTES,
    PARTS,
    cells,
    dollars,
    name,
    percents,
    signed,
    span,
    told_quality,
    visible,
)

_STYLE = """
:root { color-scheme: light dark; --back: #fbfbfa; --card: #ffffff; --ink: #1d2329; --pale: #68727c; --grid: #e4e6e8; --gain: #1f5fa8;
  --loss: #b3541a; --good: #24743a; --bad: #b3261e; --part-pilot: #1f5fa8; --part-reference: #7f8a94; --part-pinned: #b8bfc6;
  --part-retries: #c2571a; --part-escalations: #8a5fb0; --part-judge: #3a8a4d; --part-shadow: #c9a227; }
@media (prefers-color-scheme: dark) { :root { --back: #14181c; --card: #1c2227; --ink: #e6e9ec; --pale: #98a3ad; --grid: #333b42;
  --gain: #6aa7ec; --loss: #f0955a; --good: #6cc585; --bad: #ff8a80; --part-pilot: #5b9be0; --part-reference: #8b96a0;
  --part-pinned: #59636c; --part-retries: #f0955a; --part-escalations: #b794d8; --part-judge: #6cc585; --part-shadow: #e0c058; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 24px 16px 48px; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.1rem; margin: 32px 0 10px; } h3 { font-size: .95rem; margin: 0 0 6px; }
p { margin: 4px 0; } .pale { color: var(--pale); } small { color: var(--pale); }
.cards, .plots { display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); margin-top: 16px; }
.plots { grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); align-items: start; }
.card, figure { background: var(--card); border: 1px solid var(--grid); border-radius: 10px; padding: 14px 16px; margin: 0; }
.card b.big { display: block; font-size: 1.7rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.card dl { display: grid; grid-template-columns: auto 1fr; gap: 2px 12px; margin: 8px 0 0; } dt { color: var(--pale); }
dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums; }
figure svg { width: 100%; height: auto; display: block; } figcaption { color: var(--pale); font-size: .85rem; }
.wide { overflow-x: auto; border: 1px solid var(--grid); border-radius: 10px; background: var(--card); }
table { border-collapse: collapse; width: 100%; font-size: .87rem; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 12px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--grid); }
th:first-child, td:first-child { text-align: left; max-width: 22rem; overflow: hidden; text-overflow: ellipsis; }
td.told { white-space: normal; min-width: 24rem; font-size: .8rem; line-height: 1.35; color: var(--pale); }
tr:last-child td { border-bottom: 0; } th { color: var(--pale); font-weight: 500; } details summary { cursor: pointer; margin: 24px 0 8px; }
ul { padding-left: 1.2rem; } .met { color: var(--good); } .missed { color: var(--bad); } ul.verdicts { list-style: none; padding: 0; } ul.verdicts li { margin: 3px 0; }
"""


def page(report: Report, verdicts: Sequence[Verdict] | None = None) -> str:
    """The whole file."""
    pools = report.of(pool=True, stratum=False, week=False)
    by_week = report.of(pool=True, stratum=False, week=True)
    by_stratum = report.of(pool=True, stratum=True, week=False)
    parts = [f"<h1>What was saved</h1><p class=pale>{escape(span(report))}</p>"]
    if verdicts is not None:
        parts.append(_verdicts(verdicts))
    if pools:
        parts.append('<div class="cards">' + "".join(map(_card, pools)) + "</div>")
        parts.append('<div class="plots">' + "".join(_plots(pools, by_week, by_stratum)) + "</div>")
    if by_stratum:
        parts.append("<h2>Strata</h2>" + _table(["stratum", *HEAD], by_stratum))
    if by_week:
        parts.append("<h2>Weeks</h2>" + _table(["week", *HEAD], by_week))
    if cells_by_week := report.of(pool=True, stratum=True, week=True):
        parts.append(
            "<details><summary>Strata, week by week</summary>"
            + _table(["stratum, week", *HEAD], cells_by_week)
            + "</details>"
        )
    if pools:
        parts.append("<h2>What was spent</h2>" + _spent(report, pools))
    parts.append("<h2>What this rests on</h2><ul>" + "".join(f"<li>{escape(note)}</li>" for note in NOTES) + "</ul>")
    body = "\n".join(parts)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="referrer" content="no-referrer"><title>pointsman: what was saved</title><style>{_STYLE}</style></head>
<body><main>
{body}
</main></body></html>
"""


def _verdicts(verdicts: Sequence[Verdict]) -> str:
    missed = sum(not one.met for one in verdicts)
    head = f'<b class="missed">{missed} of {len(verdicts)} missed</b>' if missed else '<b class="met">all met</b>'
    lines = "".join(
        f'<li><b class="{"met" if one.met else "missed"}">{"met" if one.met else "missed"}</b> '
        f"{escape(visible(one.where))}: {escape(one.what)} <small>{escape(one.found)}</small></li>"
        for one in sorted(verdicts, key=lambda one: one.met)
    )
    return f'<h2>Targets: {head}</h2><ul class="verdicts">{lines}</ul>'


def _card(row: Row) -> str:
    saving, share, quality = row.saving(), row.saving_share(), row.quality
    if saving is None or share is None or quality is None:
        head = f'<b class="big">not told</b><p class=pale>{escape("; ".join(row.why) or "no cost of the baseline")}</p>'
        facts = []
    else:
        head = (
            f'<b class="big">{100 * share.value:.1f} % saved</b><p class=pale>{escape(percents(share)[percents(share).index("[") :])} %, '
            f"{escape(dollars(saving.value))} [{escape(dollars(saving.low))}, {escape(dollars(saving.high))}]</p>"
        )
        facts = [
            ("quality, pilot - reference", signed(quality.change())),
            (f"by {quality.kind}", f"{quality.n_pilot:,} - {quality.n_reference:,}"),
        ]
    facts += [("spent", dollars(row.cost)), ("requests", f"{row.cell.requests:,}")]
    if row.ratio is not None and row.known:
        facts.append(("baseline's answers longer", f"{row.ratio.value:.2f} times"))
    told = "".join(f"<dt>{escape(what)}</dt><dd>{escape(value)}</dd>" for what, value in facts)
    kind = f"<small>{escape(KINDS[quality.kind])}</small>" if quality is not None and row.known else ""
    return f'<section class="card"><h3>{escape(name(row))}</h3>{head}<dl>{told}</dl>{kind}</section>'


def _plots(pools: Sequence[Row], by_week: Sequence[Row], by_stratum: Sequence[Row]) -> Iterable[str]:
    for pool in pools:
        mine = [row for row in by_stratum if row.key.pool == pool.key.pool]
        yield _figure(strata(mine), f"{name(pool)}: by stratum, 95 % intervals")
        mine = [row for row in by_week if row.key.pool == pool.key.pool]
        if len(mine) > 1:
            yield _figure(weeks(mine), f"{name(pool)}: by week, 95 % intervals")
    yield _figure(costs(pools), "What was spent, and what the baseline would have cost")


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def _table(head: Sequence[str], rows: Sequence[Row]) -> str:
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    for row in rows:
        quality = told_quality(row)
        worse = ' class="missed"' if quality is not None and quality.change().high < 0 else ""
        saved, change, *others = map(escape, cells(row))
        told = [f"<td{' class=told' if not row.known else ''}>{saved}</td>", f"<td{worse}>{change}</td>"]
        told += [f"<td>{cell}</td>" for cell in others]
        label = escape(name(row))
        lines.append(f'<tr><td title="{label}">{label}</td>{"".join(told)}</tr>')
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def _spent(report: Report, pools: Sequence[Row]) -> str:
    lines = ["<tr><th></th>" + "".join(f"<th>{escape(name(row))}</th>" for row in pools) + "</tr>"]
    for part, called in PARTS.items():
        costs_of = "".join(f"<td>{escape(dollars(row.cell.parts.get(part, 0)))}</td>" for row in pools)
        lines.append(f"<tr><td>{escape(called)}</td>{costs_of}</tr>")
    lines.append(
        "<tr><td><b>all</b></td>" + "".join(f"<td><b>{escape(dollars(row.cost))}</b></td>" for row in pools) + "</tr>"
    )
    outside = report.outside.get("cost_nano_usd", 0)
    beside = (
        f"<p class=pale>Outside of pools, by requests that name a model: {escape(dollars(outside))}</p>"
        if outside
        else ""
    )
    return f'<div class="wide"><table>{"".join(lines)}</table></div>{beside}'
