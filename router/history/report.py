"""What was saved, and at which quality: from the archive's sums to rows of estimates with intervals.

For the pilot's answers of a row (a stratum in a week, a stratum, a pool in a week, a pool)

    baseline = (prompt part x tokens + length part x lengths) x (1 - repeats)

where both parts are what its answers would have cost on the baseline by their own tokens, and the three factors come from comparing
the pilot with the reference, weighted to the pilot's mix: ``tokens``, how many tokens the baseline's provider counts in a prompt of the same
length; ``lengths``, how much longer (and so dearer) the baseline's answers are; ``repeats``, how many more of the pilot's requests were asked again.
Each row is estimated by itself, a pool not as the sum of its strata: what is too little for a stratum may be enough for all of them together. A week
with less than ``LEAST_REFERENCE`` units of reference takes the ratio of all weeks. Where the baseline answered the pilot's requests as a
shadow, their paired ratio is a second estimate, and the two are weighted by their units.

    saving = baseline + what holdout and control cost - everything that was spent: answers, retries, escalations, judges, shadows

A failed request is worth nothing on the baseline either. Pinned and direct requests stand on both sides: they are no saving of the router.
A saving is told only beside a quality with an interval, and never where a cost is not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from router.core.saving import Factor, Moments, Uncertain, factor, paired_factor
from router.history.report_data import LEVELS, QUALITIES, Arms, Cell, Key, Sums
from router.history.report_rows import (
    LEAST_COMPARED,
    LEAST_JUDGED,
    LEAST_PAIRS,
    LEAST_QUIET,
    LEAST_REFERENCE,
    LEAST_THUMBS,
    MOST_UNPRICED,
    Quality,
    Report,
    Row,
)

Lengths = Literal["itself", "all weeks", "pairs"]
ONE = Factor(1.0, 0.0, float("inf"))


def report(sums: Sums) -> Report:
    """Rows of all levels."""
    rows: list[Row] = []
    for level in LEVELS[:-1]:
        groups: dict[Key, list[Cell]] = {}
        for key, cell in sums.cells.items():
            wanted = Key(*(value if name in level else None for name, value in zip(Key._fields, key, strict=True)))
            groups.setdefault(wanted, []).append(cell)
        rows += [_row(key, _added(groups[key]), sums) for key in sorted(groups, key=_sortable)]
    pools = [row for row in rows if (row.key.stratum, row.key.week) == (None, None)]
    if pools:
        rows.append(_total(pools, sums))
    return Report(tuple(rows), sums.outside, sums.first_ms, sums.last_ms)


def _sortable(key: Key) -> tuple[str, ...]:
    return tuple(value or "" for value in key)


@dataclass(frozen=True, slots=True)
class _Estimate:
    baseline: Uncertain
    repeats: Uncertain
    ratio: Factor
    lengths_from: frozenset[str]


def _estimate(key: Key, cell: Cell, sums: Sums) -> _Estimate | None:
    """Of what the pilot's requests would have cost; ``None`` where nothing says how long the baseline's answers are."""
    if not cell.pilot_answered:
        return _Estimate(Uncertain(), Uncertain(), ONE, frozenset())
    if not cell.others:  # the baseline itself answered everything
        return _Estimate(Uncertain(float(cell.prompt + cell.length)), Uncertain(), ONE, frozenset())
    found = _length(key, cell, sums)
    if found is None:
        return None
    length, ratio, lengths_from = found
    source, tokens = _tokens(key, sums)
    baseline = Uncertain(float(cell.prompt)).grown(source, tokens) + length
    repeats = _repeats(key, baseline, sums)
    return _Estimate(baseline + repeats, repeats, ratio, frozenset(lengths_from))


def _length(key: Key, cell: Cell, sums: Sums) -> tuple[Uncertain, Factor, set[str]] | None:
    """What the answers' length would have cost, by the reference and by pairs."""
    found: list[tuple[float, Uncertain, str]] = []
    for level, name in _levels(key):
        own = sums.lengths.get(key, {}).get("pilot")
        scatter = [own.moments] if own is not None and level != key else []
        by_reference = _compared(arms := sums.lengths.get(level, {}), LEAST_REFERENCE, *scatter)
        if by_reference is not None:
            whole = Uncertain(float(cell.length)).grown(("lengths", level), by_reference)
            found.append((arms["reference"].moments.effective, whole, name))
            break
    for level, _ in _levels(key):
        pairs = sums.pairs.get(level)
        if (
            pairs is not None
            and pairs.moments.effective >= LEAST_PAIRS
            and (by := paired_factor(pairs.moments)) is not None
        ):
            others = Uncertain(float(cell.length - cell.length_own)).grown(("pairs", level), by)
            found.append((pairs.moments.effective, others + Uncertain(float(cell.length_own)), "pairs"))
            break
    if not found:
        return None
    units = sum(one[0] for one in found)
    length = Uncertain()
    for weight, one, _ in found:
        length += one.times(weight / units)
    grown = Factor(length.value / cell.length, length.deviation / cell.length, length.freedom) if cell.length else ONE
    return length, grown, {name for _, _, name in found}


def _levels(key: Key) -> list[tuple[Key, Lengths]]:
    """Where a row's lengths are looked for: itself, then all weeks of the same. Never another stratum: their lengths differ."""
    whole = key._replace(week=None)
    return [(key, "itself")] if whole == key else [(key, "itself"), (whole, "all weeks")]


def _compared(arms: Arms, least: int, *others: Moments) -> Factor | None:
    """The reference's ratio over the pilot's; ``None`` where one of them has too few units, or counts as fewer."""
    if {"pilot", "reference"} - arms.keys():
        return None
    pilot, reference = arms["pilot"].moments, arms["reference"].moments
    if min(pilot.effective, reference.effective) < least:
        return None
    return factor(reference, pilot, *others)


def _tokens(key: Key, sums: Sums) -> tuple[tuple[str, Key], Factor]:
    """A ratio that hardly varies, so a few do; 1 where nothing is known."""
    for level, _ in _levels(key):
        found = _compared(sums.tokens.get(level, {}), 5)
        if found is not None:
            return ("tokens", level), found
    return ("tokens", key), ONE


def _repeats(key: Key, baseline: Uncertain, sums: Sums) -> Uncertain:
    """What the baseline would have cost less since fewer would have asked again; of the pool, where anybody tells of repeats."""
    level = key._replace(stratum=None, week=None)
    arms = sums.repeats.get(level, {})
    if {"pilot", "reference"} - arms.keys() or not any(each.moments.y for each in arms.values()):
        return Uncertain()
    pilot, reference = arms["pilot"].moments, arms["reference"].moments
    if pilot.ratio is None or reference.ratio is None or pilot.variance is None or reference.variance is None:
        return Uncertain()
    more = Factor(
        pilot.ratio - reference.ratio,
        (pilot.variance + reference.variance) ** 0.5,
        min(pilot.freedom, reference.freedom),
    )
    moved = baseline.value * more.deviation
    return Uncertain(-baseline.value * more.value, {("repeats", level): (moved, more.freedom)})


def _row(key: Key, cell: Cell, sums: Sums) -> Row:
    found, qualities, arms = _estimate(key, cell, sums), _qualities(key, sums), sums.lengths.get(key, {})
    row = Row(
        key=key,
        cell=cell,
        counterfactual=None if found is None else found.baseline,
        lengths_from=set() if found is None else set(found.lengths_from),
        ratio=None if found is None else found.ratio,
        repeats=Uncertain() if found is None else found.repeats,
        reference_units=_units(arms),
        pairs=sums.pairs[key].n if key in sums.pairs else 0,
        quality=qualities[0] if qualities else None,
        qualities=qualities,
    )
    row.why = list(_why(row, sums))
    return row


def _units(arms: Arms) -> int:
    return round(arms["reference"].moments.effective) if "reference" in arms else 0


def _total(pools: Sequence[Row], sums: Sums) -> Row:
    """Of all pools: the sum of what each of them is."""
    key = Key()
    qualities = _qualities(key, sums)
    known = [row.counterfactual for row in pools if row.counterfactual is not None]
    row = Row(
        key=key,
        cell=_added(row.cell for row in pools),
        counterfactual=sum(known, Uncertain()) if len(known) == len(pools) else None,
        lengths_from={name for row in pools for name in row.lengths_from},
        ratio=pools[0].ratio if len(pools) == 1 else None,
        repeats=sum((row.repeats for row in pools), Uncertain()),
        reference_units=sum(row.reference_units for row in pools),
        pairs=sum(row.pairs for row in pools),
        quality=qualities[0] if qualities else None,
        qualities=qualities,
    )
    row.why = list(_why(row, sums))
    return row


def _why(row: Row, sums: Sums) -> Iterable[str]:
    """Why no saving is told."""
    cell = row.cell
    if not cell.pilot_answered:
        yield "no answer of the pilot"
        return
    if cell.unknown:
        yield f"{cell.unknown:,} attempts have no known price"
    if cell.unpriced > MOST_UNPRICED * cell.pilot_answered:
        yield f"of {cell.unpriced:,} answers it is not known what they would have cost on the baseline"
    if row.counterfactual is None:
        yield f"how long the baseline's answers are: {row.reference_units} conversations of reference, {LEAST_REFERENCE} are wanted"
    compared = sums.compared.get(row.key, 0)
    if compared < LEAST_COMPARED * cell.pilot_answered:
        yield f"quality unknown: {compared / cell.pilot_answered:.0%} of the pilot has a reference in its stratum and week"
    elif row.quality is None:
        yield f"quality unknown: {_too_few(row.key, sums)}"


def _too_few(key: Key, sums: Sums) -> str:
    for kind in QUALITIES:
        arms = sums.quality.get(kind, {}).get(key, {})
        if kind != "thumbs" and arms:
            pilot, reference = (arms[name].n if name in arms else 0 for name in ("pilot", "reference"))
            return f"{pilot} {kind} of the pilot, {reference} of the reference"
    thumbs = sums.thumbs.get(key, 0)
    return f"{thumbs} thumbs" if thumbs else "nobody judged"


def _qualities(key: Key, sums: Sums) -> tuple[Quality, ...]:
    """By kind, the most telling first."""
    found = []
    for kind in QUALITIES:
        arms = sums.quality.get(kind, {}).get(key, {})
        if {"pilot", "reference"} - arms.keys():
            continue
        pilot, reference = arms["pilot"], arms["reference"]
        least = LEAST_QUIET if kind == "thumbs" else LEAST_JUDGED
        if min(pilot.moments.effective, reference.moments.effective) < least:
            continue
        if kind == "thumbs" and sums.thumbs.get(key, 0) < LEAST_THUMBS:
            continue
        found.append(Quality(kind, pilot.n, reference.n, pilot.moments, reference.moments))
    return tuple(found)


def _added(cells: Iterable[Cell]) -> Cell:
    total = Cell()
    for cell in cells:
        for name in Cell.__slots__:
            mine, theirs = getattr(total, name), getattr(cell, name)
            if isinstance(theirs, dict):
                mine = {part: mine.get(part, 0) + cost for part, cost in theirs.items()}
            else:
                mine += theirs
            setattr(total, name, mine)
    return total
