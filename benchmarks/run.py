"""Runs benchmarks one after the other and shows what they found: ``python benchmarks/run.py [NAME...] [--json] [--keep]``.

Each is a script beside this one that prints one JSON document (``report.py``) with ``--json``. ``--keep`` writes the documents to ``results/`` and what they say into
``README.md``. Exit code 1 when one fails, 2 for an unknown name.

``--json`` prints one document: ``{FIELD: value, ..., "benchmarks": {NAME: document}}``, where the fields are those of the benchmarks that ran:

| field | from |
|---|---|
| ``transport_to_aiokafka``, ``transport_to_ceiling``, ``transport_to_stock_faust`` | ``transport.py``: a stage with a table, times the rate of each |
| ``route_to_tiktoken``, ``route_to_tiktoken_on_lengths`` (when ``POINTSMAN_BENCH_LENGTHS`` names a file of lengths) | ``route.py`` |
| ``full_path_to_aiokafka``, ``cpu_us_per_request``, ``litellm_router_cpu_us_per_request`` (when LiteLLM is installed) | ``full_path.py`` |
| ``added_latency_ms`` | ``latency.py``, at 100/s and at half the maximum |
| ``batch_lines_per_s`` | ``batch.py`` |
| ``recovery_s_per_million_keys`` | ``recovery.py`` |
| ``rss_mib`` | ``up.py``, by process, idle |
| ``settled_ids_mib_per_million`` | ``memory.py`` |
| ``learn_reward_to_paretobandit``, ``learn_reward_to_vowpalwabbit`` (when ``POINTSMAN_BENCH_ANSWERS`` names recorded answers, and the packages are installed) | ``learn.py``, by case |
| ``guard_days_to_alarm_median``, ``guard_days_to_alarm_p90``, ``guard_missed``, ``guard_right_stratum``, ``guard_saving_kept``, ``guard_requests_harmed``, ``guard_false_alarms_per_100_days`` | ``guard.py``, by world |
| ``others_days_to_alarm_median``, ``others_days_to_alarm_p90`` | ``guard.py``, by world and detector |
| ``guard_effect_coverage``, ``guard_us_per_signal``, ``guard_us_per_step``, ``guard_kib_per_unit`` | ``guard.py`` |
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.report import LOAD, text
from router.kafka.embedded import dying_with_parent

FOLDER = Path(__file__).resolve().parent
RESULTS, README = FOLDER / "results", FOLDER / "README.md"
#: What follows this line in the README is written by ``--keep``.
MARK = "<!-- written by `python benchmarks/run.py --keep` -->"
#: In this order, the quick ones first.
#: Kept, too, but run by hand: half an hour.
LONG = ("rollout",)
NAMES = (
    "tokens",
    "route",
    "worker",
    "transport",
    "recovery",
    "latency",
    "up",
    "full_path",
    "scaling",
    "compression",
    "batch",
    "memory",
    "wide",
    "learn",
    "ope",
    "cascade",
    "saving",
    "adapt",
    "guard",
)
#: Benchmarks that run unasked only where a variable names what they need: data of others, or a folder for an hour's runs.
NEEDS = dict.fromkeys(("learn", "ope", "cascade"), "POINTSMAN_BENCH_ANSWERS") | {"guard": "POINTSMAN_BENCH_GUARD_RUNS"}

Json = dict[str, Any]


def run(name: str, load: float) -> Json:
    """The document of one benchmark; ``load``: of the machine before all of them. Raises ``RuntimeError`` with the end of what it said when it fails."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), "--json"],
        env=os.environ | {LOAD: str(load)},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=dying_with_parent(),
    )
    if done.returncode:
        raise RuntimeError(f"{name} failed with exit code {done.returncode}:\n{done.stderr[-2000:]}")
    try:
        found: Json = json.loads(done.stdout)
    except json.JSONDecodeError as error:
        raise RuntimeError(f"{name} printed no JSON document: {error}\n{done.stdout[-2000:]}") from None
    return found


def whole(found: Mapping[str, Json]) -> Json:
    """One document of several: their fields, and the documents themselves."""
    return {field: value for one in found.values() for field, value in one["fields"].items()} | {"benchmarks": found}


def keep(name: str, found: Json) -> None:
    """Write a document, and the end of the README from all documents that there are."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n")
    lines = [README.read_text().partition(MARK)[0] + MARK, ""]
    for one in (*NAMES, *LONG):
        if (RESULTS / f"{one}.json").exists():
            shown = text(json.loads((RESULTS / f"{one}.json").read_text()))
            lines += [f"### {one}", "", "```", shown, "```", ""]
    README.write_text("\n".join(lines))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {' '.join(NAMES)}; all without any")
    parser.add_argument("--json", action="store_true", help="print one JSON document: fields, and name -> document")
    parser.add_argument("--keep", action="store_true", help="write each document to results/NAME.json")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        print(f"pointsman bench: there is no benchmark {unknown[0]!r}; benchmarks: {' '.join(NAMES)}", file=sys.stderr)
        return 2
    found: dict[str, Json] = {}
    failed, load = False, os.getloadavg()[0]
    for name in options.names or [name for name in NAMES if name not in NEEDS or os.environ.get(NEEDS[name])]:
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            found[name] = run(name, load)
        except RuntimeError as error:
            print(error, file=sys.stderr)
            failed = True
            continue
        if options.keep:
            keep(name, found[name])
        if not options.json:
            print(f"\n{name}\n{text(found[name])}\n", flush=True)
    if options.json:
        print(json.dumps(whole(found), indent=2))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
