"""The report as one JSON document and as Markdown, which is also what the terminal shows. Money is whole nano-dollars in the document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from router.contract.times import to_rfc3339
from router.core.saving import CONFIDENCE, Interval
from router.history.report_rows import LEAST_REFERENCE, Quality, Report, Row
from router.history.report_targets import Verdict

#: Parts of the cost, as they are called for people, in order.
PARTS = {
    "pilot": "pilot's first attempts",
    "reference": "holdout and control",
    "pinned": "pinned",
    "retries": "retries and fallbacks",
    "escalations": "escalations",
    "judge": "judges",
    "shadow": "shadows",
}
KINDS = {
    "reviewed": "reviews and labels, weighted by 1 / inclusion probability",
    "judged": "a judge's reviews and labels, weighted by 1 / inclusion probability",
    "rated": "ratings and surveys",
    "thumbs": "answers without a thumbs-down",
}
#: What a number rests on; the page and Markdown end with it, docs/history.md has the reasons.
NOTES = (
    "Intervals are 95 %, each by itself: of twenty lines one may miss. Conversations are the units; cohorts are drawn by a hash, holdout and control are the reference.",
    "Saving = what everything would have cost on the baseline - everything that was spent: answers, retries, escalations, judges, shadows.",
    (
        "What the pilot's requests would have cost is estimated: their prompts at the baseline's price, the length of its answers from the "
        f"reference (and shadows) of the same stratum and week, or of all weeks where that has less than {LEAST_REFERENCE} conversations."
    ),
    (
        "Quality is the pilot as assigned less the reference, in the pilot's mix of strata and weeks; its kind and number stand beside it. Where it is "
        "unknown no saving is told."
    ),
    (
        "Whoever is judged by chance or by a known probability speaks for the rest. Thumbs are what people cared to say: they compare cohorts, "
        "they are no rate of good answers."
    ),
)


def document(report: Report, verdicts: Sequence[Verdict] | None = None) -> dict[str, Any]:
    """One JSON value; intervals as ``{"value", "low", "high"}``, what is not known is null."""
    found: dict[str, Any] = {
        "from": None if report.first_ms is None else to_rfc3339(report.first_ms),
        "to": None if report.last_ms is None else to_rfc3339(report.last_ms),
        "confidence": CONFIDENCE,
        "total": next((_row(row) for row in report.of(pool=False, stratum=False, week=False)), None),
        "pools": [_row(row) for row in report.of(pool=True, stratum=False, week=False)],
        "pools_by_week": [_row(row) for row in report.of(pool=True, stratum=False, week=True)],
        "strata": [_row(row) for row in report.of(pool=True, stratum=True, week=False)],
        "strata_by_week": [_row(row) for row in report.of(pool=True, stratum=True, week=True)],
        "outside_of_pools": dict(report.outside),
        "notes": list(NOTES),
    }
    if verdicts is not None:
        found["targets"] = {
            "met": all(one.met for one in verdicts),
            "verdicts": [
                {"met": one.met, "where": one.where, "asked": one.what, "found": one.found} for one in verdicts
            ],
        }
    return found


def _row(row: Row) -> dict[str, Any]:
    cell, saving = row.cell, row.saving()
    return {
        "pool": row.key.pool,
        "stratum": row.key.stratum,
        "week": row.key.week,
        "requests": cell.requests,
        "answered": cell.answered,
        "pilot_answered": cell.pilot_answered,
        "reference_answered": cell.reference_answered,
        "attempts": cell.attempts,
        "cost_nano_usd": row.cost,
        "cost_by_part_nano_usd": dict(cell.parts),
        "cost_unknown": cell.unknown,
        "baseline_cost_nano_usd": _money(row.baseline()) if row.known else None,
        "repeated_nano_usd": round(-row.repeats.value),
        "lengths": {
            "from": sorted(row.lengths_from),
            "ratio": None if row.ratio is None else row.ratio.interval()._asdict(),
            "reference_units": row.reference_units,
            "pairs": row.pairs,
        },
        "quality": None if row.quality is None else _quality(row.quality),
        "qualities": [_quality(one) for one in row.qualities],
        "saving_nano_usd": _money(saving),
        "saving_share": None if (share := row.saving_share()) is None else share._asdict(),
        "no_saving_because": list(row.why),
    }


def _money(found: Interval | None) -> dict[str, int] | None:
    return None if found is None else {name: round(value) for name, value in found._asdict().items()}


def _quality(one: Quality) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "n": {"pilot": one.n_pilot, "reference": one.n_reference},
        "pilot": one.arms()[0]._asdict(),
        "reference": one.arms()[1]._asdict(),
        "change": one.change()._asdict(),
    }


def markdown(report: Report, verdicts: Sequence[Verdict] | None = None) -> str:
    """For a ticket, a chat or a terminal."""
    parts = [f"# What was saved\n\n{span(report)}"]
    if verdicts is not None:
        parts.append("## Targets\n\n" + "\n".join(f"- {verdict_line(one)}" for one in verdicts))
    for title, rows, first in (
        ("Pools", [*report.of(pool=True, stratum=False, week=False), *_total(report)], "pool"),
        ("Weeks", report.of(pool=True, stratum=False, week=True), "week"),
        ("Strata", report.of(pool=True, stratum=True, week=False), "stratum"),
        ("Strata by week", report.of(pool=True, stratum=True, week=True), "stratum, week"),
    ):
        if rows:
            lines = [[name(row), *cells(row)] for row in rows]
            parts.append(f"## {title}\n\n" + _table([[first, *HEAD], *lines]))
    parts.append("## What was spent\n\n" + _table(_spent(report)))
    parts.append("## What this rests on\n\n" + "\n".join(f"- {note}" for note in NOTES))
    return "\n\n".join(parts) + "\n"


HEAD = ("saved", "quality: pilot - reference", "by (pilot - reference)", "spent", "on the baseline", "requests")


def span(report: Report) -> str:
    if report.first_ms is None or report.last_ms is None:
        return "There is no request in this span."
    requests = sum(row.cell.requests for row in report.of(pool=True, stratum=False, week=False))
    return f"{requests:,} requests, {to_rfc3339(report.first_ms)[:10]} to {to_rfc3339(report.last_ms)[:10]} (UTC)"


def _total(report: Report) -> list[Row]:
    rows = report.of(pool=False, stratum=False, week=False)
    return rows if len(report.of(pool=True, stratum=False, week=False)) > 1 else []


def name(row: Row) -> str:
    """Of a row among those of its level."""
    pool, stratum, week = row.key
    if pool is None:
        return "all pools"
    return visible(", ".join(part for part in (f"{pool}: {stratum}" if stratum else pool, week) if part))


def visible(text: str) -> str:
    """Without characters that steer a terminal or turn text around."""
    return "".join(one if one.isprintable() else "?" for one in text)


def cells(row: Row) -> list[str]:
    """Texts under ``HEAD``; a saving only with its quality."""
    share, saving, baseline, quality = row.saving_share(), row.saving(), row.baseline(), told_quality(row)
    about = ["quality unknown", "-"]
    if quality is not None:
        about = [signed(quality.change()), f"{quality.kind} {quality.n_pilot:,} - {quality.n_reference:,}"]
    if saving is None or baseline is None:
        return [f"not told: {'; '.join(row.why)}", *about, dollars(row.cost), "-", f"{row.cell.requests:,}"]
    saved = percents(share) if share is not None else dollars(saving.value)
    by = f"{dollars(baseline.value)} [{dollars(baseline.low)}, {dollars(baseline.high)}]"
    return [saved, *about, dollars(row.cost), by, f"{row.cell.requests:,}"]


def told_quality(row: Row) -> Quality | None:
    """The quality to show, if there is enough of it."""
    return None if any(one.startswith("quality unknown") for one in row.why) else row.quality


def _spent(report: Report) -> list[list[str]]:
    rows = report.of(pool=True, stratum=False, week=False)
    lines = [["", *(name(row) for row in rows)]]
    for part, called in PARTS.items():
        lines.append([called, *(dollars(row.cell.parts.get(part, 0)) for row in rows)])
    lines.append(["all", *(dollars(row.cost) for row in rows)])
    if report.outside.get("cost_nano_usd"):
        lines[0].append("no pool")
        lines = [
            lines[0],
            *([*line, ""] for line in lines[1:-1]),
            [*lines[-1], dollars(report.outside["cost_nano_usd"])],
        ]
    return lines


def verdict_line(one: Verdict) -> str:
    return f"{'met' if one.met else 'MISSED'}: {_plain(one.where)}: {one.what}: {one.found}"


def dollars(nano_usd: float) -> str:
    """With cents from a dollar on, else with three digits that count.

    >>> dollars(1_234_500_000_000), dollars(-41_256_789), dollars(0)
    ('$1,234.50', '-$0.0413', '$0')
    """
    usd = abs(nano_usd) / 1e9
    text = f"{usd:,.2f}" if usd >= 1 else _small(usd)
    return f"{'-' if nano_usd < 0 and usd else ''}${text}"


def _small(usd: float) -> str:
    if not usd:
        return "0"
    places = 0
    while usd * 10**places < 100 and places < 9:
        places += 1
    return f"{usd:.{places}f}"


def percents(found: Interval) -> str:
    return f"{100 * found.value:.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def signed(found: Interval) -> str:
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def _table(rows: Iterable[Sequence[str]]) -> str:
    """Markdown, columns as wide as their widest cell; the first to the left."""
    plain = [[_plain(cell) for cell in row] for row in rows]
    widths = [max(3, *(len(row[at]) for row in plain)) for at in range(len(plain[0]))]
    sides = ["<", *(">" for _ in widths[1:])]
    lines = [
        "| " + " | ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)) + " |"
        for row in plain
    ]
    rule = (
        "|"
        + "|".join("-" * (width + 1) + ("-" if side == "<" else ":") for side, width in zip(sides, widths, strict=True))
        + "|"
    )
    return "\n".join([lines[0], rule, *lines[1:]])


def _plain(text: str) -> str:
    """Without what could steer a terminal, end a cell, or be markup."""
    text = visible(text)
    for mark in "\\`*_<>|":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("](", "]\\(")
