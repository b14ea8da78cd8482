"""SECURITY.md names a test for every threat; each of them is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
_NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def threats():
    """(threat, the cell that names its tests) of the table."""
    text = (ROOT / "SECURITY.md").read_text()
    table = text.partition("## Threats, and the test of each")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|\n ").split(" | ")] for line in table.splitlines() if line[:2] == "| "
    ]
    return [(row[0], row[-1]) for row in rows if row[0] != "threat"]


def test_every_threat_has_a_test_and_every_named_test_exists():
    found = threats()
    assert len(found) >= 15
    for threat, cell in found:
        named = _NAMED.findall(cell)
        assert named, threat
        for file, function in named:
            place = ROOT / file
            assert place.is_file(), f"{threat}: {file}"
            source = place.read_text()
            assert "def test_" in source, f"{threat}: {file}"
            if function:
                assert re.search(rf"^\s*(async )?def {function}\(", source, re.MULTILINE), f"{threat}: {function}"
