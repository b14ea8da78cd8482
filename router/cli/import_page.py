"""The report of ``import`` for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from router.cli.status_units import count, dollars, printable

UNKNOWN = "quality unknown"
NO_P_OK = """quality unknown: the classifier has no p_ok of this pool's models, so nothing says which calls a cheaper
    model answers as well. The bound is no promise. `pointsman train` on scored rows, then `import --model M.npz`"""
#: Of a model, to be fitted to (``train.fit.LEAST_ROWS``).
LEAST_SCORED = 100


def page(found: dict[str, Any]) -> str:
    """Of the document that ``import --json`` prints."""
    found = printable(found)
    if not found["calls"]:
        return f"{_lines(found)}\n\nNothing that can be used."
    parts = [_lines(found), _models(found), _costs(found), _strata(found), _quality(found), _out(found)]
    return "\n\n".join(part for part in parts if part)


def _lines(found: dict[str, Any]) -> str:
    lines, files = found["lines"], found["files"]
    head = f"{_of(len(files), 'file')}, {_of(lines['read'], 'line')}: {_of(found['calls'], 'call')}"
    head += f"; {count(lines['refused'])} lines refused, {count(lines['left_out'])} left out"
    rows = [
        [
            one["sort"],
            count(one["count"]),
            one["what"],
            f"first: {one['first']}" + (f" ({one['detail']})" if one["detail"] else ""),
        ]
        for one in found["faults"]
    ]
    return "\n".join([head, *_table(rows, "<><<")])


def _models(found: dict[str, Any]) -> str:
    if not found["models"]:
        return ""
    span = f"{found['from'][:10]} to {found['to'][:10]}" if found["from"] else "No times in the log"
    rows = [["model in the log", "configured as", "calls", "tokens in", "tokens out", "logged cost", "by your prices"]]
    for one in found["models"]:
        logged, priced = one["logged_nano_usd"], one["by_price_nano_usd"]
        rows.append(
            [
                one["logged_as"],
                one["model"] or "-",
                count(one["calls"]),
                count(one["prompt_tokens"]),
                count(one["completion_tokens"]),
                "-" if logged is None else dollars(logged),
                "-" if priced is None else dollars(priced),
            ]
        )
    lines = [f"{span}; your prices: {found['config']}", *_table(rows, "<<>>>>>")]
    if strangers := [one["logged_as"] for one in found["models"] if one["model"] is None]:
        lines.append(f"  not configured: say which model each is with --as '{strangers[0]}=MODEL' to price them")
    return "\n".join(lines)


def _costs(found: dict[str, Any]) -> str:
    whole, baseline = found["all"], found["baseline"]
    if not whole["counted"]:
        return "No call has token counts: nothing can be priced."
    if not whole["on"]:
        return f"{baseline}, the baseline of pool {found['pool']}, has no price: no saving can be told."
    rows = [["", "cost", f"less than all on {baseline}", "expected quality"]]
    for name, what in (("as_logged", "as logged"), ("by_price", "as logged, by your prices")):
        if (one := found[name]) is not None:
            share = _share(one["baseline_nano_usd"] - one["nano_usd"], one["baseline_nano_usd"])
            of = "" if one["calls"] == whole["counted"] else f", {count(one['calls'])} of the calls"
            rows.append([what + of, dollars(one["nano_usd"]), share, "as it was"])
    for name, plan in whole["on"].items():
        share = "" if name == baseline else _percent(plan["saved_share"])
        quality = "the reference" if name == baseline else _change(plan)
        rows.append([f"all on {name}", dollars(plan["nano_usd"]), share, quality])
    for plan in whole["plans"]:
        what = f"moved where p_ok says {_lost(plan)}"
        rows.append([what, dollars(plan["nano_usd"]), _percent(plan["saved_share"]), _change(plan)])
    bound = whole["bound"]
    rows.append(
        [
            "upper bound: each on the cheapest able",
            dollars(bound["nano_usd"]),
            _percent(bound["saved_share"]),
            _change(bound),
        ]
    )
    return "\n".join(
        [f"{_of(whole['counted'], 'call')} with token counts, pool {found['pool']}", *_table(rows, "<>><")]
    )


def _strata(found: dict[str, Any]) -> str:
    known = found["quality"]["known"]
    head = ["stratum", "calls", "in: p50", "p95", "out: p50", "p95", f"on {found['baseline']}"]
    head += [f"{_lost(plan)}: saved, quality" for plan in found["all"]["plans"]] if known else ["saves at most"]
    rows = [head]
    for one in found["strata"]:
        asked, said = one["prompt_tokens"], one["completion_tokens"]
        base = one["on"].get(found["baseline"])
        cells = [one["stratum"] or "(no prompt)", count(one["calls"])]
        cells += (
            ["-"] * 4 if asked is None else [count(n) for n in (asked["p50"], asked["p95"], said["p50"], said["p95"])]
        )
        cells.append("-" if base is None else dollars(base["nano_usd"]))
        if base is None:
            cells += ["-"] * (len(head) - len(cells))
        elif known:
            cells += [f"{_percent(plan['saved_share'])}, {_change(plan)}" for plan in one["plans"]]
        else:
            cells.append(f"{_percent(one['bound']['saved_share'])}, {UNKNOWN}")
        rows.append(cells)
    return "\n".join([f"Strata by {found['quality']['classifier']}", *_table(rows, "<" + ">" * (len(head) - 1))])


def _quality(found: dict[str, Any]) -> str:
    about = found["quality"]
    rests = ["tokens as logged: another model's answers are longer or shorter, and nobody knows by how much"]
    if found["all"]["on"]:
        holdout = f"{about['holdout_percent']:g} % stay on {found['baseline']}"
        rests.append(f"nothing is taken off for the holdout ({holdout}), for exploring and retries")
    rests.append(_on_p_ok(about) if about["known"] else NO_P_OK)
    rests += [f"scores in the log: {name} {_judged(one)}" for name, one in about["judged"].items()]
    return "\n".join(["What this rests on", *(f"  - {one}" for one in rests)])


def _on_p_ok(about: dict[str, Any]) -> str:
    fitted = f", fitted to {count(about['fitted_rows'])} rows" if isinstance(about["fitted_rows"], int) else ""
    errors = ", ".join(f"{name} {value:.3f}" for name, value in about["calibration_error"].items())
    return (
        f"quality is what p_ok says ({about['classifier']}{fitted}); no answer of another model was seen here\n"
        f"    calibration error when it was fitted: {errors or 'not told'}; on other traffic it is larger, and where p_ok errs\n"
        "    it moves what it should not: take the expected quality for rather too good"
    )


def _judged(one: dict[str, Any]) -> str:
    known = one["with_p_ok"]
    text = f"{one['quality']:.3f} in {_of(one['calls'], 'call')}"
    if not known:
        return text
    if known == one["calls"]:
        return f"{text}; p_ok said {one['p_ok']:.3f} of them"
    return f"{text}; p_ok said {one['p_ok']:.3f} of {count(known)} of them, which have {one['quality_there']:.3f}"


def _out(found: dict[str, Any]) -> str:
    out = found.get("out")
    if out is None:
        return ""
    if not out["rows"]:
        return f"{out['file']}: not written, no call has a prompt"
    text = f"{out['file']}: {_of(out['rows'], 'row')}, {count(out['scored'])} with a score"
    if not out["scored"]:
        return f"{text}: to be scored by a classifier or by people, not to train on"
    there = {name: one["calls"] for name, one in found["quality"]["judged"].items()}
    if sum(calls >= LEAST_SCORED for calls in there.values()) < 2:
        names = ", ".join(f"{name} {count(calls)}" for name, calls in there.items())
        return f"{text}; `pointsman train` wants {LEAST_SCORED} of each of two models, there are: {names}"
    return f"{text}; next: pointsman train {out['file']} --out model.npz"


def _change(plan: dict[str, Any]) -> str:
    change = plan["quality_change"]
    return "unknown" if change is None else f"{change:+.3f}"


def _lost(plan: dict[str, Any]) -> str:
    return f"at most {plan['margin']:g} lost" if plan["margin"] else "nothing lost"


def _share(saved: int, of: int) -> str:
    return _percent(saved / of) if of else "-"


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _of(number: int, what: str) -> str:
    return f"{count(number)} {what}" + ("" if number == 1 else "s")


def _table(rows: Sequence[Sequence[str]], sides: str) -> list[str]:
    """Columns as wide as their widest cell; ``sides``: ``<`` or ``>`` for each."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(sides))] if rows else []
    return [
        "  " + "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)).rstrip()
        for row in rows
    ]
