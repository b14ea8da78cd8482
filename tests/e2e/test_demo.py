"""``pointsman demo``, as ``make demo`` runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid

from benchmarks.system import living_with, wait_for


def test_the_demo_tells_its_story_and_leaves_nothing_running():
    mark = uuid.uuid4().hex
    done = subprocess.run(
        [sys.executable, "-m", "router", "demo"],
        env=os.environ | {"DEMO_MARK": mark},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for title in (
        "1. What was learned",
        "2. What came back",
        "3. What it cost",
        "4. Small first",
        "5. Why one of them",
        "6. Where",
    ):
        assert title in done.stdout
    assert "The metrics topic agrees: 2,000 results in closed windows" in done.stdout
    assert "p_ok 0." in done.stdout
    assert re.search(r"\d+% calibrated +400 +0\.\d\d +\d+% +\d+%", done.stdout)
    assert "attempt 2 -> large (escalate)" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert wait_for(lambda: not living_with(mark), 10), "something that the demo started still runs"
