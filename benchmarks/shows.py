"""Shows on a real Kafka what happens when things go wrong: ``python benchmarks/shows.py a b c`` runs those scenarios.

Each starts an installation of its own (``pointsman up`` in a temporary folder), disturbs it, and prints results by code,
the share that is ok, calls of the provider a request, and PASS or FAIL with the reasons. Without letters: all of them.
Exit code 1 when one fails; its folder is kept then. Caveat: bounds in time hold on a machine that keeps up.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.scenarios import bad_input, deadlines, duplicates, kills, orders, outages, restarts, windows
from benchmarks.scenarios.show import Show

#: Letter -> what it is called, and what shows it.
SHOWS: dict[str, tuple[str, Callable[[Show], None]]] = {
    "a": ("no worker ever", deadlines.no_worker),
    "b": ("settle killed with 1,000 requests in flight, no new traffic", outages.settle_killed),
    "c": ("settle stopped 2 minutes while all outcomes arrive in time", outages.settle_stopped),
    "d": ("duplicates with another body, key and lane, before and after settling", duplicates.duplicates),
    "e": ("100 % 503 on one model for a minute at 200/s", outages.provider_down),
    "f": ("deadlines while the lane is saturated", deadlines.saturated_lane),
    "g": ("kill -9 of a worker in the middle of a submit", kills.worker),
    "h": ("kill -9 of every process in the middle of a submit", kills.everything),
    "i": ("kill -9 of the supervisor alone in the middle of a submit", kills.supervisor),
    "j": ("a ban during a router's restart", orders.ban_during_restart),
    "k": ("windows: account down 90 s, traffic stopped in mid-window", windows.account_down),
    "l": ("restart of everything, then replay of all decisions", restarts.replay_all),
    "m": ("bad requests among good ones", bad_input.bad_among_good),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="shows.py", description=__doc__)
    parser.add_argument("letters", nargs="*", metavar="LETTER", help=f"of {' '.join(SHOWS)}; all without any")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    options = parser.parse_args()
    if unknown := set(options.letters) - SHOWS.keys():
        parser.error(f"unknown: {' '.join(sorted(unknown))}; there are {' '.join(SHOWS)}")
    shows = []
    for letter in options.letters or SHOWS:
        title, run = SHOWS[letter]
        show = Show(letter, title)
        if not options.json:
            print(f"({letter}) {title}", flush=True)
        run(show)
        shows.append(show)
        if not options.json:
            tell(show)
    if options.json:
        fields = ("letter", "title", "ok", "figures", "problems")
        print(
            json.dumps(
                [{"ok": show.ok, **{k: v for k, v in asdict(show).items() if k in fields}} for show in shows], indent=2
            )
        )
    return 0 if all(show.ok for show in shows) else 1


def tell(show: Show) -> None:
    for name, value in show.figures.items():
        shown = ", ".join(f"{key} {one}" for key, one in value.items()) if isinstance(value, dict) else value
        print(f"    {name.replace('_', ' '):<40} {shown}")
    for problem in show.problems:
        print(f"    {problem}")
    print(f"    {'PASS' if show.ok else 'FAIL'}\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
