import pytest

from benchmarks.audit_dependencies import CLEAN, UNKNOWN, WEAK, verdict

FINE = {"name": "fine", "version": "1.0", "vulns": []}
FLAWED = {"name": "flawed", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"], "aliases": []}]}
SKIPPED = {"name": "private", "skip_reason": "Dependency not found on PyPI and could not be audited"}
OURS = {"name": "pointsman", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([FINE, OURS], CLEAN, "1 packages looked up, 0 with known weaknesses"),
        ([FINE, FLAWED], WEAK, "flawed 1.0: PYSEC-1, fixed in 1.1"),
        ([FLAWED, SKIPPED], WEAK, "not looked up: 1 of 2 packages (private)"),
        ([FINE, SKIPPED], UNKNOWN, "not looked up: 1 of 2 packages (private)"),
        ([SKIPPED] * 7, UNKNOWN, "not looked up: 7 of 7 packages"),
        ([], UNKNOWN, "not looked up: 0 of 0"),
    ],
)
def test_what_could_not_be_looked_up_is_no_clean_bill(packages, code, said):
    found, lines = verdict({"dependencies": packages})
    assert found == code
    assert said in "\n".join(lines)
