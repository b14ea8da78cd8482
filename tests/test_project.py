"""The project as a whole: one version, a complete wheel, links that lead somewhere, containers that fit the command line."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import router
from router.config import load

ROOT = Path(__file__).resolve().parents[1]
STAGES = {"route", "settle", "feedback", "account", "learn", "watch", "web"}


#: Made by running, testing or building; never part of the project.
MADE = {".git", ".venv", "__pycache__", "build", "dist", "pointsman-data", "var"}


def project_files(folder: Path = ROOT) -> Iterator[Path]:
    """Every file below ``folder`` that belongs to the project."""
    for path in sorted(folder.iterdir()):
        if path.name in MADE or path.name.endswith(("_cache", ".egg-info")) or path.name == ".hypothesis":
            continue
        if path.is_dir():
            yield from project_files(path)
        else:
            yield path


MARKDOWN = (
    sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")) + sorted((ROOT / "benchmarks").rglob("*.md"))
)


def headings(text: str) -> set[str]:
    """Anchors of a page as GitHub makes them."""
    titles = re.findall(r"^#{1,6}\s+(.+?)\s*$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Of the files in the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = folder.glob("pointsman-*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, object]]:
    """Of the Compose file, by name."""
    return yaml.safe_load((ROOT / "docker/compose.yaml").read_text(encoding="utf-8"))["services"]


class TestVersion:
    def test_the_package_alone_says_it(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        assert "version" not in project["project"]
        assert importlib.metadata.version("pointsman") == router.__version__

    def test_the_newest_entry_of_the_change_log_is_this_version(self) -> None:
        newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert newest is not None
        assert newest[1] == router.__version__

    def test_the_container_has_it(self) -> None:
        assert f"ARG VERSION={router.__version__}\n" in (ROOT / "docker/Dockerfile").read_text(encoding="utf-8")
        assert f"image: pointsman:{router.__version__}\n" in (ROOT / "docker/compose.yaml").read_text(encoding="utf-8")

    @pytest.mark.parametrize(
        "command", [[str(Path(sys.executable).with_name("pointsman"))], [sys.executable, "-m", "router"]]
    )
    def test_both_ways_to_call_the_program_print_it(self, command: list[str]) -> None:
        printed = subprocess.run([*command, "--version"], cwd=ROOT, text=True, capture_output=True, check=True).stdout
        assert router.__version__ in printed


class TestWheel:
    def test_it_has_every_file_of_the_package(self, names: set[str]) -> None:
        here = {path.relative_to(ROOT).as_posix() for path in project_files(ROOT / "router")}
        assert here <= names

    @pytest.mark.parametrize(
        "path", ["router/example.toml", "router/data/o200k_base.xz", "router/web/review.html", "router/py.typed"]
    )
    def test_it_has_what_is_read_at_run_time(self, names: set[str], path: str) -> None:
        assert path in names

    def test_it_has_nothing_but_the_package(self, names: set[str]) -> None:
        assert {name.split("/")[0] for name in names} == {"router", f"pointsman-{router.__version__}.dist-info"}

    def test_it_has_the_license(self, names: set[str]) -> None:
        assert f"pointsman-{router.__version__}.dist-info/licenses/LICENSE" in names


class TestText:
    @pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: page.relative_to(ROOT).as_posix())
    def test_every_link_leads_somewhere(self, page: Path) -> None:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
            if target.startswith(("http://", "https://", "mailto:")):
                continue
            path, _, anchor = target.partition("#")
            other = (page.parent / path).resolve() if path else page
            assert other.exists(), f"{page.name}: {target}"
            if anchor:
                assert anchor in headings(other.read_text(encoding="utf-8")), f"{page.name}: {target}"

    def test_no_file_names_a_folder_of_the_machine_it_was_written_on(self) -> None:
        local = re.compile(rb"(?<![\w.}-])/(?:work|home|Users|root)/\w|(?<![\w/])\.\./shared/|(?<![\w/])/tmp/\w")
        found = {
            f"{path.relative_to(ROOT)}: {match[0].decode()}"
            for path in project_files()
            if path.suffix in {".py", ".md", ".toml", ".yaml", ".json", ".sh", ""} and path != Path(__file__)
            for match in local.finditer(path.read_bytes())
        }
        assert not found


class TestContainers:
    def test_every_stage_runs_in_exactly_one_service(self, services: dict[str, dict[str, object]]) -> None:
        commands = [service["command"] for service in services.values() if "command" in service]
        stages = [stage for command in commands if command[0] == "run" for stage in command[1:]]
        assert sorted(stages) == sorted(STAGES)

    def test_their_configuration_is_valid_and_every_model_has_its_worker(
        self, services: dict[str, dict[str, object]]
    ) -> None:
        config = load(ROOT / "docker/pointsman.toml", {})
        assert services["workers"]["command"] == ["worker", *config.models]

    def test_only_loopback_of_the_host_is_bound(self, services: dict[str, dict[str, object]]) -> None:
        ports = [port for service in services.values() for port in service.get("ports", [])]
        assert ports
        assert all(port.startswith("127.0.0.1:") for port in ports)


class TestSkips:
    @pytest.mark.parametrize(
        "source",
        [
            "import pytest\ndef test_it(): pytest.skip('no broker')\n",
            "import pytest\n@pytest.mark.skip(reason='later')\ndef test_it(): pass\n",
            "import pytest\npytest.skip('no module', allow_module_level=True)\n",
        ],
    )
    def test_a_skipped_test_fails_the_build(self, tmp_path: Path, source: str) -> None:
        (tmp_path / "test_skipped.py").write_text(source, encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-p", "no_skips", "-p", "no:cacheprovider", str(tmp_path)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests/plugins")}
        run = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True, check=False)
        assert run.returncode != 0, run.stdout
        assert "a skipped test counts as failed" in run.stdout
