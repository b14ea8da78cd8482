"""``make demo-trap`` finds the slice, by a real order on a real Kafka, and leaves nothing behind."""

from __future__ import annotations

import glob

from click.testing import CliRunner

from router.cli.demo_trap import demo_trap


def test_the_trap_is_found_in_its_slice_and_closed_there() -> None:
    found = CliRunner().invoke(demo_trap)
    assert found.exit_code == 0, found.output
    assert "pointsman guard: rollback stratum:auto/code/any" in found.output
    assert "has none: it is back on large" in found.output
    assert "everything that was started has ended" in found.output
    assert glob.glob("/tmp/pointsman-trap-*") == []
