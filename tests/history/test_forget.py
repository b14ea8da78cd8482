"""A tenant's rows go, everybody else's stay, and nothing comes back; what only time removes is said with its date."""

import contextlib
import json

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from router.cli import cli
from router.cluster import kept_ms
from router.config import loads
from router.contract.topics import TOPICS, Names
from router.history.archive_folder import ArchiveError, Folder
from router.history.archive_rows import KINDS
from router.history.forget import OF_TENANTS, OF_USERS, forget_rows, what_remains
from tests.history.archive_world import START_MS, World

CONFIG = """
[models.small]
provider = "sim"
input_usd_per_mtok = 1
output_usd_per_mtok = 1
[pools.auto]
models = ["small"]
[kafka]
prefix = "llm"
retention_hours = { results = 24, work = 100 }
"""


def rows(folder, kind):
    return [row for _, file in folder.files(kind) for row in pq.ParquetFile(file).read().to_pylist()]


@pytest.fixture
def archived(tmp_path):
    world = World()
    for n in range(40):
        found = world.request(f"r-{n}", START_MS + n, tenant="acme" if n % 2 else "other")
        world.judge(found, START_MS + 5_000 + n, 1.0)
    return world, world.archive(tmp_path / "archive")


def test_a_tenants_rows_go_in_every_kind_and_no_others(archived):
    _, folder = archived
    before = {kind.name: rows(folder, kind.name) for kind in KINDS}
    ids = {row["request_id"] for row in before["results"] if row["tenant"] == "acme"}
    counted = forget_rows(folder, "llm", "acme", dry_run=True)
    assert {kind.name: rows(folder, kind.name) for kind in KINDS} == before
    assert forget_rows(folder, "llm", "acme") == counted
    assert (counted["decisions"], counted["results"], counted["rewards"]) == (20, 20, 20)
    for kind in KINDS:
        assert rows(folder, kind.name) == [row for row in before[kind.name] if row["request_id"] not in ids]
    assert set(forget_rows(folder, "llm", "acme").values()) == {0}


def test_a_further_run_of_the_archive_brings_nothing_back_also_when_no_row_is_left(archived):
    world, folder = archived
    for tenant in ("acme", "other"):
        forget_rows(folder, "llm", tenant)
    positions = {kind.name: folder.positions(kind.name) for kind in KINDS}
    again = world.archive(folder.path)
    assert {kind.name: again.positions(kind.name) for kind in KINDS} == positions
    assert all(rows(again, kind.name) == [] for kind in KINDS)


class Killed(BaseException):
    """Nothing catches it."""


@pytest.mark.parametrize("at", range(1, 6))
def test_what_was_killed_on_its_way_is_done_by_running_it_again(archived, monkeypatch, at):
    _, folder = archived
    publish, left = Folder.publish, iter(range(at))

    def dying(self, *arguments):
        if next(left, None) is None:
            raise Killed
        return publish(self, *arguments)

    monkeypatch.setattr(Folder, "publish", dying)
    with contextlib.suppress(Killed):
        forget_rows(folder, "llm", "acme")
    monkeypatch.setattr(Folder, "publish", publish)
    forget_rows(folder, "llm", "acme")
    for kind in KINDS:
        left_over = rows(folder, kind.name)
        assert {row["tenant"] for row in left_over if "tenant" in row} <= {"other"}
    others = {row["request_id"] for row in rows(folder, "results")}
    assert {row["request_id"] for row in rows(folder, "rewards")} == others


def test_a_foreign_archive_is_left_alone(archived):
    with pytest.raises(ArchiveError, match="holds the archive of prefix"):
        forget_rows(Folder(archived[1].path), "mine", "acme")


def test_what_topics_hold_is_said_with_the_date_that_the_configuration_gives_it():
    remaining = what_remains(Names("llm"), kept_ms(loads(CONFIG)), user=False, now_ms=0)
    hours = {one.topic: one.gone_ms / 3_600_000 for one in remaining}
    assert (hours["llm.results"], hours["llm.work.small"], hours["llm.work.small.batch"]) == (24, 100, 100)
    assert (hours["llm.requests"], hours["llm.dead-letter"]) == (72, 168)
    assert [one.gone_ms for one in remaining] == sorted(one.gone_ms for one in remaining)
    known = {topic.name for topic in TOPICS} | {"work"}
    assert set(OF_TENANTS) <= known
    assert set(OF_USERS) <= known


def test_the_command_says_what_it_did_and_what_it_cannot_do(archived, tmp_path, monkeypatch):
    place = tmp_path / "pointsman.toml"
    place.write_text(CONFIG)
    where = ["--config", str(place), "--archive", str(archived[1].path)]
    done = CliRunner().invoke(cli, ["forget", "--tenant", "acme", "--dry-run", *where])
    assert "rows would be removed" in done.output
    done = CliRunner().invoke(cli, ["forget", "--tenant", "acme", *where])
    assert done.exit_code == 0, done.output
    assert "20 of results" in done.output
    assert "Kafka removes no single record" in done.output
    assert "llm.dead-letter" in done.output
    done = CliRunner().invoke(cli, ["forget", "--user", "kim", "--json", *where])
    said = json.loads(done.output)
    assert said["archive"] == {}
    assert {"llm.requests", "llm.surveys"} <= {one["topic"] for one in said["remaining"]}
    assert CliRunner().invoke(cli, ["forget", *where]).exit_code != 0
