"""A long run of one target, by hand: ``python -m tests.fuzz TARGET --seconds N``; without a target it says which there are, and with ``all``
it tries each for so long, without atheris.

With atheris (``pip install atheris``; Python 3.11 to 3.13, Linux) inputs are led by the coverage of ``router``; without it they are the damaged
ones of the tests, only more. The input that an exception came from is printed and kept in ``--folder``. Exit code 1 for a finding.
"""
# ruff: noqa: T201, PLC0415 - a program; what is imported before atheris is not instrumented

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import random
import sys
import time
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("target", nargs="?")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("var/fuzz"))
    parser.add_argument("--plain", action="store_true", help="without atheris")
    given = parser.parse_args()
    if given.plain or importlib.util.find_spec("atheris") is None:
        atheris = None
    else:
        import atheris
    if atheris is None:
        from tests.fuzz.targets import TARGETS
    else:
        with atheris.instrument_imports(include=["router"]):
            from tests.fuzz.targets import TARGETS
    if given.target == "all" and atheris is None:
        return sum(begin(name, TARGETS[name], given) for name in TARGETS)
    if given.target not in TARGETS:
        print("targets:", ", ".join(TARGETS))
        return 2
    target = TARGETS[given.target]
    if atheris is None:
        return begin(given.target, target, given)
    folder = folder_of(given.target, given)
    for number, seed in enumerate(target.seeds):
        (folder / f"seed-{number}").write_bytes(seed)
    options = [
        f"-max_total_time={given.seconds}",
        f"-seed={given.seed or 1}",
        "-max_len=65536",
        "-rss_limit_mb=2048",
        "-timeout=20",
    ]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}/finding-", str(folder)], target)
    atheris.Fuzz()  # ends the process
    return 0


def folder_of(name, given):
    folder = given.folder / name.replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def begin(name, target, given):
    print(f"{name}: ", end="", flush=True)
    return plain(target, folder_of(name, given), given.seconds, given.seed)


def plain(target, folder, seconds, seed):
    """Damaged inputs from a seeded stream of chance."""
    from tests.fuzz.hostile import TOKENS, hurt

    draw, end, count = random.Random(seed), time.monotonic() + seconds, 0
    while time.monotonic() < end:
        cuts = [
            (draw.randrange(10**6), draw.randrange(40), draw.choice((b"", *TOKENS, draw.randbytes(4))))
            for _ in range(draw.randrange(1, 9))
        ]
        data = hurt(draw.choice(target.seeds or (b"",)), cuts)
        count += 1
        try:
            target(data)
        except BaseException:  # a panic of a library is no Exception
            kept = folder / f"finding-{hashlib.sha256(data).hexdigest()[:16]}"
            kept.write_bytes(data)
            print(f"{count} inputs; this one is kept as {kept}: {data[:200]!r}")
            raise
    print(f"{count} inputs, no finding")
    return 0


if __name__ == "__main__":
    sys.exit(main())
