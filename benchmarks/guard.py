"""How soon the guard sees what is wrong, how often it cries for nothing, and what other detectors would have seen.

    python benchmarks/guard.py [--seeds 20] [--other-seeds 20] [--compared-on 20 4] [--worlds main step calm] [--folder FOLDER] [--picture FOLDER] [--page FILE] [--json]

Every shipped world is played through the guard once a seed (``pointsman simulate``), and once more for other detectors, which hear the same requests
and thumbs, and reviews and shadow pairs that are spread evenly over all strata, for they ask for none. They get as many reviews as the guard
and ``PAIRS`` times the pairs of the world, about what the guard buys. Their one knob each is tuned on the calm world with seeds of its own to
one false alarm of the pool in ``arl_days``, with and without strata.

All runs take about an hour and a half of one core. ``--folder`` (or ``POINTSMAN_BENCH_GUARD_RUNS``) keeps them: what is there, and made by
the code as it is, is not run again. ``--picture`` draws ``guard.png`` and ``guard_main.png`` there.
``--page docs/guard.md`` writes the tables there.
"""

from __future__ import annotations

import os
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from scipy.stats import chi2

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.guard_parts import checks, others, page, runs
from benchmarks.guard_parts.outcome import oracle, outcome
from benchmarks.report import Report, finish, options
from router.core.guard.effect import ALPHA
from router.core.guard.monitor import Settings
from router.simulation import world as worlds
from router.simulation.score import summary

FOLDER = "POINTSMAN_BENCH_GUARD_RUNS"
#: Calm worlds on which the others are tuned: seeds that no other run has.
TUNED_FROM, TUNED_ON = 1000, 20
#: What the main world and ``step`` are to show: median, 90th percentile of days to the alarm.
GOALS = {"main": (1.0, 3.0), "step": (1.5, 3.0)}
SAVING_KEPT = 0.75
REQUIRED = frozenset({*GOALS, "calm"})
#: Worlds where judges or users lie, which no interval knows, and signals whose effect is a share of bad answers.
LIARS = frozenset({"judge", "judge-trap", "poison", "storm"})
JUDGED = frozenset({"quality", "answers", "review", "judge", "past"})
CAVEATS = [
    "a simulated world: what is true of it is written in router/data/worlds; days are days, whatever the machine",
    "other detectors get evenly spread reviews and pairs; an alarm that names any unit with a true excess counts as found by them",
    f"their pairs are {runs.PAIRS:g} times the world's, about what the guard buys on a calm day",
]

Json = dict[str, Any]


def measure(asked: Namespace) -> Report:
    report = Report("guard", caveats=list(CAVEATS))
    folder = asked.folder
    counts = {name: asked.seeds if name in REQUIRED else asked.other_seeds or asked.seeds for name in asked.worlds}
    seeds = {name: range(asked.first_seed, asked.first_seed + count) for name, count in counts.items()}
    found = {name: _each(asked.workers, partial(runs.guarded, folder, name), seeds[name]) for name in asked.worlds}
    knobs = _knobs(asked, folder)
    most = asked.compared_on or (None, None)
    heard = {name: each[: most[name not in REQUIRED]] for name, each in seeds.items()}
    compared = {
        name: _each(asked.workers, partial(_compare, folder, name, knobs), heard[name]) for name in asked.worlds
    }
    for name in asked.worlds:
        _world(report, name, found[name], compared[name])
    _false_alarms(report, found, compared)
    _others(report, found, compared)
    _coverage(report, found)
    _alone(report)
    report.details |= {
        "seeds": counts,
        "compared": {name: len(each) for name, each in compared.items()},
        "knobs": knobs,
        "runs": _short(found),
        "others": _days_of(compared),
    }
    if asked.page is not None:
        page.write(asked.page, report.fields, report.details)
    if asked.picture is not None:
        from benchmarks.guard_parts import pictures  # noqa: PLC0415 - only to draw

        pictures.delays(asked.picture / "guard.png", found, compared)
        if "main" in found:
            pictures.main_world(asked.picture / "guard_main.png", folder, asked.first_seed)
    return report


def _short(found: dict[str, list[Json]]) -> Json:
    fields = (
        "seed",
        "days_to_alarm",
        "right_stratum",
        "saving_kept",
        "requests_harmed",
        "first_alarm",
        "pages",
        "watches",
    )
    return {name: [{field: one[field] for field in fields} for one in each] for name, each in found.items()}


def _days_of(compared: dict[str, list[Json]]) -> Json:
    """World -> detector -> days to its alarm, by run."""
    return {
        name: {called: [one[called]["days_to_alarm"] for one in each] for called in each[0] if called != "oracle"}
        for name, each in compared.items()
    }


def _each(workers: int, work: Callable[[int], Json], seeds: Sequence[int]) -> list[Json]:
    if workers == 1:
        return [work(seed) for seed in seeds]
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(work, seeds))


def _knobs(asked: Namespace, folder: Path) -> dict[str, float]:
    """Of each detector, with and without strata."""
    calm, settings = worlds.read("calm"), Settings()
    seeds = range(TUNED_FROM, TUNED_FROM + asked.tuned_on)
    heard = _each(asked.workers, partial(runs.heard, folder, "calm"), seeds)  # type: ignore[arg-type]
    days = calm.days * len(seeds)
    return {
        _called(kind, strata=strata): others.tuned(
            kind,
            heard,  # type: ignore[arg-type]
            days,
            settings.arl_days,
            calm.margin,
            strata=strata,
        )
        for kind in others.KINDS
        for strata in (True, False)
    }


def _compare(folder: Path, name: str, knobs: dict[str, float], seed: int) -> Json:
    """Detector -> its outcome, and what an oracle keeps."""
    world, heard = worlds.read(name), runs.heard(folder, name, seed)
    found: Json = {"oracle": oracle(world, seed, heard)}
    for kind in others.KINDS:
        for strata in (True, False):
            called = _called(kind, strata=strata)
            alarms = others.alarms(kind, heard, knobs[called], world.margin, strata=strata)
            found[called] = outcome(world, seed, heard, alarms, pairs=0.0 if kind == "dashboard" else runs.PAIRS)
    return found


def _called(kind: str, *, strata: bool) -> str:
    return f"{kind}, {'strata' if strata else 'the whole pool'}"


def _world(report: Report, name: str, found: list[Json], compared: list[Json]) -> None:
    total, n = summary(found), len(found)
    alarm, kept = total["days_to_alarm"], total["saving_kept"]
    if any(one["truth"] for one in found):
        cusum = _days([one["cusum, strata"] for one in compared])
        median, p90 = GOALS.get(name, (None, None))
        met = None if median is None else _within(alarm["median"], median) and _within(alarm["p90"], p90)
        report.add(
            f"{name}: days to alarm, median",
            alarm["median"],
            f"days (p90 {_number(alarm['p90'])}; {total['missed']} of {n} missed; right place in {_percent(total['right_stratum']['share'])})",
            reference=cusum["median"],
            reference_is="CUSUM by stratum",
            goal="" if median is None else f"median <= {median:g}, p90 <= {p90:g}",
            met=met,
        )
        told = [one["oracle"] for one in compared if one["oracle"] is not None]
        report.add(
            f"{name}: saving kept, median",
            kept["median"],
            f"(harmed: {total['requests_harmed']['median']:,.0f} of {_median([one['requests_harmed_unguarded'] for one in found]):,.0f} requests)",
            reference=round(_median(told), 3) if told else None,
            reference_is="oracle",
            goal=f">= {SAVING_KEPT:g}" if name in GOALS else "",
            met=kept["median"] is not None and kept["median"] >= SAVING_KEPT if name in GOALS else None,
        )
        for field, value in (("median", alarm["median"]), ("p90", alarm["p90"])):
            report.fields.setdefault(f"guard_days_to_alarm_{field}", {})[name] = value
        report.fields.setdefault("guard_missed", {})[name] = total["missed"]
        report.fields.setdefault("guard_right_stratum", {})[name] = total["right_stratum"]["share"]
    report.fields.setdefault("guard_saving_kept", {})[name] = kept["median"]
    report.fields.setdefault("guard_requests_harmed", {})[name] = total["requests_harmed"]["median"]
    report.fields.setdefault("guard_pairs_per_day", {})[name] = round(_median([one["pairs_per_day"] for one in found]))


def _false_alarms(report: Report, found: dict[str, list[Json]], compared: dict[str, list[Json]]) -> None:
    for name, each in found.items():
        length = worlds.read(name).days
        days = length * len(each)
        false = round(sum(one["false_alarms_per_100_days"] for one in each) * length / 100)
        low, high = poisson(false)
        quiet = name == "calm"
        cusum = sum(one["cusum, strata"]["false"] for one in compared[name])
        report.add(
            f"{name}: false alarms",
            round(100 * false / days, 3),
            f"per 100 days ({false} in {days:,.0f}; 95 %: {100 * low / days:.2f} to {100 * high / days:.2f})",
            reference=round(100 * cusum / (length * len(compared[name])), 3),
            reference_is="CUSUM by stratum",
            goal="<= 1" if quiet else "",
            met=100 * false / days <= 1 if quiet else None,
        )
        report.fields.setdefault("guard_false_alarms_per_100_days", {})[name] = round(100 * false / days, 3)
        report.fields.setdefault("guard_false_alarms_at_most", {})[name] = round(100 * high / days, 3)


def _others(report: Report, found: dict[str, list[Json]], compared: dict[str, list[Json]]) -> None:
    """Every detector in the worlds that have goals, and everywhere among the fields."""
    for name, each in compared.items():
        if not any(one["truth"] for one in found[name]):
            continue
        for called in (key for key in each[0] if key != "oracle"):
            mine = [one[called] for one in each]
            days, right = _days(mine), sum(one["right_stratum"] for one in mine) / len(mine)
            report.fields.setdefault("others_days_to_alarm_median", {})[f"{name}: {called}"] = days["median"]
            report.fields.setdefault("others_days_to_alarm_p90", {})[f"{name}: {called}"] = days["p90"]
            if name in GOALS:
                missed = sum(one["days_to_alarm"] is None for one in mine)
                kept = _median([one["saving_kept"] for one in mine])
                report.add(
                    f"{name}, {called}: days to alarm, median",
                    days["median"],
                    f"days (p90 {_number(days['p90'])}; {missed} of {len(mine)} missed; right place in {right:.0%}; saving kept {kept:.0%})",
                )


def _coverage(report: Report, found: dict[str, list[Json]]) -> None:
    effects = [one for name, each in found.items() if name not in LIARS for one in _judged(each)]
    inside = sum(one["low"] <= one["truth"] <= one["high"] for one in effects)
    share = inside / len(effects) if effects else None
    report.add(
        "the effect's interval at the alarm holds the truth",
        None if share is None else round(100 * share, 1),
        f"% ({inside} of {len(effects)} alarms, where nobody lies)",
        goal=f">= {100 * (1 - ALPHA):g}",
        met=None if share is None else share >= 1 - ALPHA,
    )
    report.fields["guard_effect_coverage"] = None if share is None else round(share, 4)
    for name, each in found.items():
        covered = [one["low"] <= one["truth"] <= one["high"] for one in _judged(each)]
        if covered:
            report.details.setdefault("coverage", {})[name] = [sum(covered), len(covered)]


def _judged(each: list[Json]) -> list[Json]:
    return [one for run in each for one in run["effects"] if one["n"] and one["signal"] in JUDGED]


def _alone(report: Report) -> None:
    days = 2000
    for test, false in checks.null_rates(days).items():
        low, high = poisson(false)
        bound = 100 / checks.NULL_ARL
        report.add(
            f"nothing wrong, one unit, alarms at {checks.NULL_ARL:g} days: {test}",
            round(100 * false / days, 2),
            f"false alarms per 100 days (95 %: {100 * low / days:.1f} to {100 * high / days:.1f})",
            goal=f"<= {bound:g}",
            met=100 * low / days <= bound,
        )
    cost = checks.cost()
    report.add("a signal, heard by its stratum and five slices", round(cost["us_per_signal"], 1), "us")
    report.add("an hour's step of a unit", round(cost["us_per_step"], 1), "us")
    report.add("memory of a unit after two months", round(cost["kib_per_unit"]), "KiB")
    report.fields |= {f"guard_{name}": round(value, 1) for name, value in cost.items()}


def poisson(count: int) -> tuple[float, float]:
    """Exact 95 % interval of the mean of a Poisson count (Garwood 1936).

    >>> [round(float(one), 2) for one in poisson(0)], [round(float(one), 2) for one in poisson(10)]
    ([0.0, 3.69], [4.8, 18.39])
    """
    low = float(chi2.ppf(0.025, 2 * count)) / 2 if count else 0.0
    return low, float(chi2.ppf(0.975, 2 * count + 2)) / 2


def _days(each: Sequence[Json]) -> dict[str, float | None]:
    """As ``simulate`` sums them up: what was not found is infinitely late."""
    wanted = {"saving_kept": None, "false_alarms_per_100_days": 0, "days_to_rollback": None}
    found: dict[str, float | None] = summary([wanted | one for one in each])["days_to_alarm"]
    return found


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _within(value: float | None, most: float) -> bool:
    return value is not None and value <= most


def _number(value: float | None) -> str:
    return "never" if value is None else f"{value:.2g}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def main() -> None:
    parser = options(__doc__)
    kept = os.environ.get(FOLDER)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--other-seeds", type=int, help=f"of the worlds other than {', '.join(sorted(REQUIRED))}")
    parser.add_argument(
        "--compared-on", type=int, nargs=2, metavar="RUNS", help="by other detectors: of worlds with a goal, of others"
    )
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--worlds", nargs="*", default=worlds.names(), metavar="WORLD")
    parser.add_argument("--tuned-on", type=int, default=TUNED_ON, metavar="RUNS", help="calm runs, 100 days each")
    parser.add_argument("--folder", type=Path, default=None if kept is None else Path(kept))
    parser.add_argument("--picture", type=Path, metavar="FOLDER")
    parser.add_argument("--page", type=Path, metavar="FILE", help="docs/guard.md: its tables are written anew")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        asked.folder = Path(temporary) if asked.folder is None else asked.folder
        asked.folder.mkdir(parents=True, exist_ok=True)
        finish(measure(asked), asked.json)


if __name__ == "__main__":
    main()
