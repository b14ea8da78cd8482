"""A room imports only from floors below it, and the core does no I/O: a violation fails the build."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

#: Where an import is added, which, and the contract that it breaks.
VIOLATIONS = [
    ("contract/records.py", "import router.core.records", "Rooms import only from floors below"),
    ("core/records.py", "import router.kafka", "Rooms import only from floors below"),
    ("kafka/__init__.py", "import router.core", "Rooms import only from floors below"),
    ("core/records.py", "import asyncio", "The core does no I/O and knows no Kafka"),
    ("core/records.py", "import time", "The core does no I/O and knows no Kafka"),
    ("core/records.py", "import aiokafka", "The core does no I/O and knows no Kafka"),
]


def check_layers(root: Path) -> subprocess.CompletedProcess[str]:
    """``lint-imports`` of the tree at ``root``, whatever else is installed."""
    program = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as c; c()"
    return subprocess.run(
        [sys.executable, "-c", program, "--no-cache"], cwd=root, text=True, capture_output=True, check=False
    )


def copied(folder: Path) -> Path:
    """The package, copied to where a test may break it."""
    shutil.copy(ROOT / "pyproject.toml", folder)
    return shutil.copytree(ROOT / "router", folder / "router", ignore=shutil.ignore_patterns("__pycache__"))


def test_every_room_imports_only_from_floors_below() -> None:
    checked = check_layers(ROOT)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(("module", "line", "contract"), VIOLATIONS)
def test_an_import_that_breaks_a_contract_fails_the_build(
    tmp_path: Path, module: str, line: str, contract: str
) -> None:
    broken = copied(tmp_path) / module
    broken.write_text(f"{broken.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")
    checked = check_layers(tmp_path)
    assert checked.returncode != 0
    assert f"{contract} BROKEN" in checked.stdout


def test_a_new_room_needs_a_floor(tmp_path: Path) -> None:
    (copied(tmp_path) / "attic.py").touch()
    checked = check_layers(tmp_path)
    assert checked.returncode != 0
    assert "router.attic" in checked.stdout
