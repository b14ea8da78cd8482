"""Targets for a scheduled job: what a pool or a stratum must save, and how much quality it may lose, each with its confidence.

    [[target]]
    pool = "auto"                  # absent: every pool by itself
    stratum = "math/hard"          # absent: the pool as a whole; "*": every stratum by itself
    weeks = 1                      # absent: all of the report as one; N: each of the last N whole weeks
    min_saving_percent = 20.0      # of what the baseline would have cost
    max_quality_loss = 0.02        # of the reference's quality less the pilot's, 0..1
    confidence = 0.95              # that each of the two holds, one-sided: 0.5 takes the estimate itself
    min_requests = 1000
    min_judged = 50                # observations in the arm that has fewer

A target that cannot be judged is missed: a job that sees nothing must not be green.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from math import isfinite
from pathlib import Path
from typing import Any

from router.config.toml import read_toml
from router.contract.errors import ConfigError
from router.history.archive_folder import day_of
from router.history.report_rows import Report, Row

EACH = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One ``[[target]]``."""

    pool: str | None = None
    stratum: str | None = None
    weeks: int | None = None
    min_saving_percent: float | None = None
    max_quality_loss: float | None = None
    confidence: float = 0.95
    min_requests: int = 1
    min_judged: int = 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one target on one row: ``what`` was asked of ``where``, what was ``found``."""

    met: bool
    where: str
    what: str
    found: str


#: Key -> type, least, most.
_KEYS: Mapping[str, tuple[type, float, float]] = {
    "weeks": (int, 1, 520),
    "min_saving_percent": (float, -1000, 100),
    "max_quality_loss": (float, -1, 1),
    "confidence": (float, 0.5, 0.9999),
    "min_requests": (int, 1, 2**53),
    "min_judged": (int, 1, 2**53),
}


def targets_of(file: Path) -> list[Target]:
    """Read a file of targets.

    Raises:
        ConfigError: it cannot be read, or a key is wrong; the message names it.
    """
    try:
        found = read_toml(file.read_text("utf-8"), str(file))
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: {error}") from None
    if unknown := sorted(found.keys() - {"target"}):
        raise ConfigError(f"{file}: {unknown[0]}: only [[target]] is known")
    targets = found.get("target")
    if not isinstance(targets, list) or not targets or not all(isinstance(one, dict) for one in targets):
        raise ConfigError(f"{file}: target: one or several tables [[target]] are wanted")
    return [_target(f"{file}: target {number}", one) for number, one in enumerate(targets, 1)]


def _target(where: str, found: dict[str, Any]) -> Target:
    if unknown := sorted(found.keys() - _KEYS.keys() - {"pool", "stratum"}):
        raise ConfigError(f"{where}: {unknown[0]}: there is no such key; known: pool, stratum, {', '.join(_KEYS)}")
    for name in ("pool", "stratum"):
        if name in found and (not isinstance(found[name], str) or not found[name]):
            raise ConfigError(f"{where}: {name}: a name is wanted, not {found[name]!r}")
    for name, (of, least, most) in _KEYS.items():
        if name not in found:
            continue
        value = found[name]
        right = isinstance(value, int if of is int else int | float) and not isinstance(value, bool)
        if not right or not isfinite(value) or not least <= value <= most:
            kind = "a whole number" if of is int else "a number"
            raise ConfigError(f"{where}: {name}: {kind} from {least:g} to {most:g} is wanted, not {value!r}")
    if not {"min_saving_percent", "max_quality_loss"} & found.keys():
        raise ConfigError(f"{where}: min_saving_percent: neither it nor max_quality_loss is given: nothing is asked")
    return Target(**found)


def assess(report: Report, targets: Sequence[Target], now_ms: int) -> list[Verdict]:
    """One or two verdicts for each row that a target is about; one where there is no such row. ``now_ms``: whole weeks end before it."""
    return [verdict for target in targets for verdict in _assessed(report, target, now_ms)]


def _assessed(report: Report, target: Target, now_ms: int) -> Iterator[Verdict]:
    rows = _rows(report, target)
    if target.weeks is None:
        yield from _verdicts(rows, target, target.pool or "every pool")
        return
    today = date.fromisoformat(day_of(now_ms))
    monday = today - timedelta(days=today.weekday())  # of the week that is not over
    for back in range(target.weeks, 0, -1):
        week = (monday - timedelta(weeks=back)).isoformat()
        where = f"{target.pool or 'every pool'} week of {week}"
        yield from _verdicts([row for row in rows if row.key.week == week], target, where)


def _verdicts(rows: Sequence[Row], target: Target, everywhere: str) -> Iterator[Verdict]:
    if not rows:
        where = everywhere if target.stratum is None else f"{everywhere} {target.stratum}"
        yield Verdict(met=False, where=where, what="traffic", found="there is none in the archive")
    for row in rows:
        where = " ".join(
            part for part in (row.key.pool, row.key.stratum, row.key.week and f"week of {row.key.week}") if part
        )
        if row.cell.requests < target.min_requests:
            what, found = f"{target.min_requests:,} requests at least", f"{row.cell.requests:,} requests"
            yield Verdict(met=False, where=where, what=what, found=found)
            continue
        if target.min_saving_percent is not None:
            yield _saving(row, where, target, target.min_saving_percent)
        if target.max_quality_loss is not None:
            yield _quality(row, where, target, target.max_quality_loss)


def _rows(report: Report, target: Target) -> list[Row]:
    rows = report.of(pool=True, stratum=target.stratum is not None, week=target.weeks is not None)
    if target.pool is not None:
        rows = [row for row in rows if row.key.pool == target.pool]
    if target.stratum not in {None, EACH}:
        rows = [row for row in rows if row.key.stratum == target.stratum]
    return rows


def _saving(row: Row, where: str, target: Target, least: float) -> Verdict:
    what = f"saving of {least:g} % at least{_sure(target)}"
    found = row.saving_share(_two_sided(target.confidence))
    if found is None:
        return Verdict(
            met=False, where=where, what=what, found=f"not told: {'; '.join(row.why) or 'no cost of the baseline'}"
        )
    low = found.value if target.confidence == 0.5 else found.low
    said = f"{100 * found.value:.1f} %" + ("" if target.confidence == 0.5 else f", at least {100 * low:.1f} %")
    return Verdict(met=100 * low >= least, where=where, what=what, found=said)


def _quality(row: Row, where: str, target: Target, most: float) -> Verdict:
    what = f"quality loss of {most:g} at most{_sure(target)}"
    quality = row.quality
    if quality is None or any(one.startswith("quality unknown") for one in row.why):
        unknown = [one for one in row.why if one.startswith("quality unknown")]
        return Verdict(met=False, where=where, what=what, found="; ".join(unknown) or "quality unknown")
    judged = min(quality.n_pilot, quality.n_reference)
    if judged < target.min_judged:
        return Verdict(
            met=False, where=where, what=what, found=f"{judged} {quality.kind}, {target.min_judged} are wanted"
        )
    change = quality.change(_two_sided(target.confidence))
    loss = -change.value if target.confidence == 0.5 else -change.low
    said = (
        f"{-change.value:+.3f}" + ("" if target.confidence == 0.5 else f", at most {loss:+.3f}") + f" ({quality.kind})"
    )
    return Verdict(met=loss <= most, where=where, what=what, found=said)


def _sure(target: Target) -> str:
    return "" if target.confidence == 0.5 else f", {100 * target.confidence:g} % sure"


def _two_sided(one_sided: float) -> float:
    """The confidence of the interval that has this on one side."""
    return 2 * one_sided - 1
