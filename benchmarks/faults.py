"""Is it exact whatever happens? Real processes on a real Kafka under steady load, disturbed, then audited from the topics.

    pointsman bench faults [--seeds N] [--resume]          # each fault alone, then mixes of all
    python benchmarks/faults.py kill-broker --seed 7       # one of them again, by the seed that was printed
    python benchmarks/faults.py --mix --seed 12

Each run prints its seed and what it found, and is written to a file at once; ``--resume`` runs only what the file does not
say to have passed. Exit code 1 when one fails; its folder is kept then.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.disturb.faults import FAULTS
from benchmarks.disturb.judge import judge
from benchmarks.disturb.rig import Brokers, Rig
from benchmarks.disturb.traffic import Traffic
from benchmarks.report import machine

RESULTS = Path(__file__).parent / "results" / "faults.jsonl"
MIX = "mix"
RATE = 40.0
#: Before the first fault and after the last.
CALM_S = 5.0
SEEDS, MIXES, LEAST_IN_A_MIX = 3, 20, 8

Json = dict[str, Any]


def alone(name: str, seed: int) -> Json:
    """One fault under load."""
    fault = FAULTS[name]
    return run(name, seed, [name], fault.brokers[0], apart=fault.apart)


def mix(seed: int, count: int = LEAST_IN_A_MIX, rate: float = RATE) -> Json:
    """``count`` faults one after the other, in an installation that is drawn, too."""
    draw = Random(f"{MIX}-{seed}")
    brokers: Brokers = draw.choice(["own", "own", "proxied", "three"])
    able = [name for name, fault in FAULTS.items() if brokers in fault.brokers]
    return run(MIX, seed, [draw.choice(able) for _ in range(count)], brokers, apart=draw.random() < 0.5, rate=rate)


def run(name: str, seed: int, faults: Sequence[str], brokers: Brokers, *, apart: bool, rate: float = RATE) -> Json:
    """An installation, load, faults, quiet, audit."""
    draw, began_s = Random(f"{name}-{seed}"), time.monotonic()
    with Rig(brokers, apart=apart) as rig:
        with Traffic(rig.bootstrap, rig.prefix, rate=rate, seed=seed) as traffic:
            time.sleep(CALM_S)
            for fault in faults:
                FAULTS[fault].act(rig, draw)
                time.sleep(draw.uniform(1, 4))
            time.sleep(CALM_S)
        try:
            figures, problems = judge(rig, all_ok=all(FAULTS[fault].all_ok for fault in faults))
        except Exception as error:  # noqa: BLE001 - nothing is left to be asked: that is a verdict, and other runs follow
            figures, problems = {}, [f"could not be audited: {error!r}"]
        if traffic.failure is not None:
            problems.append(f"the load ended early: {traffic.failure!r}")
        if problems:
            rig.keep = True
            figures["folder"] = str(rig.folder)
    return {
        "name": name,
        "seed": seed,
        "ok": not problems,
        "problems": problems[:20],
        "faults": list(faults),
        "brokers": brokers,
        "apart": apart,
        "figures": figures,
        "seconds": round(time.monotonic() - began_s, 1),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def planned(names: Sequence[str], seeds: int, mixes: int) -> Iterator[tuple[str, int]]:
    for name in names:
        yield from ((name, seed) for seed in range(1, seeds + 1))
    yield from ((MIX, seed) for seed in range(1, mixes + 1))


def passed(file: Path) -> set[tuple[str, int]]:
    """What a file says to have passed, last word counts."""
    found: dict[tuple[str, int], bool] = {}
    for line in file.read_text().splitlines() if file.exists() else ():
        one = json.loads(line)
        if "name" in one:
            found[one["name"], one["seed"]] = one["ok"]
    return {key for key, ok in found.items() if ok}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="faults.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="FAULT", help=f"of {' '.join(FAULTS)}; all, and mixes, without any")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"runs of each fault [{SEEDS}]")
    parser.add_argument("--mixes", type=int, help=f"runs of {LEAST_IN_A_MIX} faults [{MIXES}; 0 when faults are named]")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--mix", action="store_true", help="with --seed: a mix")
    parser.add_argument("--resume", action="store_true", help="run only what has not passed yet")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where each run is written, a JSON object a line")
    asked = parser.parse_args()
    if unknown := set(asked.names) - FAULTS.keys():
        parser.error(f"unknown: {' '.join(sorted(unknown))}; there are {' '.join(FAULTS)}")
    mixes = asked.mixes if asked.mixes is not None else (0 if asked.names else MIXES)
    plan = list(planned(asked.names or list(FAULTS), asked.seeds, mixes))
    if asked.seed is not None:
        plan = [(name, asked.seed) for name in ([MIX] if asked.mix else asked.names)]
    done = passed(asked.out) if asked.resume else set()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the load's own clients lose their broker, too
    failed = 0
    if not asked.resume and asked.seed is None:
        asked.out.write_text(json.dumps({"machine": machine()}) + "\n")
    for number, (name, seed) in enumerate(plan, 1):
        if (name, seed) in done:
            continue
        found = mix(seed) if name == MIX else alone(name, seed)
        failed += not found["ok"]
        with asked.out.open("a") as out:
            out.write(json.dumps(found) + "\n")
        tell(found, f"{number}/{len(plan)}")
    return 1 if failed else 0


def tell(found: Json, where: str) -> None:
    verdict, figures = "ok" if found["ok"] else "FAILED", found["figures"]
    print(f"{where:>7} {verdict:6} {found['name']} seed {found['seed']}, {found['seconds']:.0f} s", end="")
    if "requests" in figures:
        print(
            f": {figures['requests']} requests, {figures['results']}, {figures['repeated_calls']} of "
            f"{figures['most_repeats']} calls again, {figures['rewards']} rewards",
            end="",
        )
    print(flush=True)
    if found["name"] == MIX:
        print(f"{'':15}{found['brokers']}{', apart' if found['apart'] else ''}: {' '.join(found['faults'])}")
    for problem in found["problems"]:
        print(f"{'':15}{problem}", flush=True)
    if "folder" in figures:
        print(f"{'':15}kept: {figures['folder']}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
