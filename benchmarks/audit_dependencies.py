"""Known weaknesses of what is installed, as ``pip-audit`` tells them: ``make audit``. Not part of ``make test``: what is known changes, and so would its answer.

``pip-audit`` ends with 0 as well where the service does not know a single package, as behind a mirror that has no advisories. That is no clean
bill, and is told as what it is.

Exit code 0: every package was looked up, none has a known weakness; 1: some have; 3: some, or all, could not be looked up.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

CLEAN, WEAK, UNKNOWN = 0, 1, 3

#: Not on any index: this package itself.
OURS = "pointsman"


def verdict(document: dict[str, Any]) -> tuple[int, list[str]]:
    """Exit code and lines for a person. ``document``: ``pip-audit --format json``."""
    found = [one for one in document["dependencies"] if one["name"] != OURS]
    weak = [(one, flaw) for one in found for flaw in one.get("vulns", ())]
    skipped = [one["name"] for one in found if "skip_reason" in one]
    lines = [
        f"{one['name']} {one['version']}: {flaw['id']}, fixed in {', '.join(flaw['fix_versions']) or 'no release yet'}"
        for one, flaw in weak
    ]
    looked_up = len(found) - len(skipped)
    if skipped or not found:
        few = ", ".join(skipped[:5]) + (" and more" if len(skipped) > 5 else "")
        lines.append(f"not looked up: {len(skipped)} of {len(found)} packages ({few}): of these nothing is known")
    lines.append(f"{looked_up} packages looked up, {len({one['name'] for one, _ in weak})} with known weaknesses")
    return WEAK if weak else UNKNOWN if skipped or not found else CLEAN, lines


def main() -> int:
    """Ask, and say."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        document = json.loads(done.stdout)
    except json.JSONDecodeError:
        print(f"pip-audit did not answer: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return UNKNOWN
    code, lines = verdict(document)
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
