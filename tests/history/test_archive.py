"""Each record once, whatever is killed and whenever; nothing of a prompt; every value in its column or null."""

import json

import pyarrow.parquet as pq
import pytest

from router.history import archive_folder
from router.history.archive_folder import ArchiveError, Folder, day_of
from router.history.archive_rows import KINDS
from tests.history.archive_world import DAY_MS, START_MS, World, usual


def rows(folder, kind):
    found = [pq.ParquetFile(file).read().to_pylist() for _, file in folder.files(kind)]
    return [row for each in found for row in each]


def everything(folder):
    return {kind.name: rows(folder, kind.name) for kind in KINDS}


@pytest.fixture(scope="module")
def world():
    return usual(60, weeks=1)


class Killed(BaseException):
    """Nothing catches it."""


class Dying(Folder):
    """Is killed before, or after, its ``at``-th file gets its name."""

    def __init__(self, path, at, *, after):
        super().__init__(path)
        self.left, self.after = at, after

    def publish(self, *arguments):
        self.left -= 1
        if self.left == 0 and not self.after:
            raise Killed
        found = super().publish(*arguments)
        if self.left == 0:
            raise Killed
        return found


def test_every_record_is_there_once(world, tmp_path):
    folder = world.archive(tmp_path / "a")
    for kind in KINDS:
        records = world.records[kind.topic]
        assert [row["offset"] for row in rows(folder, kind.name)] == [record.offset for record in records]


def test_a_second_run_changes_nothing(world, tmp_path):
    before = {file: file.stat().st_mtime_ns for file in world.archive(tmp_path).path.rglob("*.parquet")}
    assert {file: file.stat().st_mtime_ns for file in world.archive(tmp_path).path.rglob("*.parquet")} == before


@pytest.mark.parametrize("after", [False, True], ids=["before the rename", "after it"])
def test_killed_at_any_file_nothing_is_lost_or_doubled(tmp_path, monkeypatch, after):
    world = World()
    for day in (0, 0, 1):
        world.judge(world.request(f"{day}", START_MS + day * DAY_MS), START_MS + day * DAY_MS, 1.0)
    whole, at = everything(world.archive(tmp_path / "whole")), 0
    survived = False
    while not survived:
        at += 1
        path = tmp_path / f"{at}"
        monkeypatch.setattr("tests.history.archive_world.Folder", lambda path, at=at: Dying(path, at, after=after))
        try:
            world.archive(path)
            survived = True
        except Killed:
            monkeypatch.undo()
            world.archive(path)
        assert everything(Folder(path)) == whole
    assert at > 8


def test_what_a_killed_run_left_unfinished_is_gone_after_the_next(world, tmp_path, monkeypatch):
    monkeypatch.setattr("tests.history.archive_world.Folder", lambda path: Dying(path, 3, after=False))
    with pytest.raises(Killed):
        world.archive(tmp_path)
    assert any((tmp_path / ".tmp").iterdir())
    monkeypatch.undo()
    world.archive(tmp_path)
    assert not (tmp_path / ".tmp").exists()


def test_it_goes_on_where_it_ended(world, tmp_path):
    for most in (10, 11, 50, 51, None):
        folder = world.archive(tmp_path / "parts", most=most)
    assert everything(folder) == everything(world.archive(tmp_path / "whole"))


def test_a_backlog_is_written_in_pieces(world, tmp_path, monkeypatch):
    monkeypatch.setattr(archive_folder, "ROWS_A_GROUP", 4)
    monkeypatch.setattr(archive_folder, "ROWS_A_FILE", 7)
    folder = world.archive(tmp_path / "small")
    assert max(pq.ParquetFile(file).metadata.num_rows for _, file in folder.files("attempts")) == 7
    assert max(pq.ParquetFile(file).metadata.num_row_groups for _, file in folder.files("attempts")) == 2
    monkeypatch.undo()
    assert everything(folder) == everything(world.archive(tmp_path / "whole"))


def test_files_lie_in_the_day_of_their_records(world, tmp_path):
    for day, file in world.archive(tmp_path).files("results"):
        assert {day_of(row["record_ms"]) for row in pq.ParquetFile(file).read().to_pylist()} == {day}


def test_a_time_that_goes_back_opens_no_earlier_day(tmp_path):
    world = World()
    for day in (2, 0, 1, 2):
        world.request(f"r{day}", START_MS + day * DAY_MS)
    folder = world.archive(tmp_path)
    assert {day for day, _ in folder.files("decisions")} == {day_of(START_MS + 2 * DAY_MS)}
    assert len(rows(folder, "decisions")) == 4


def test_nothing_that_anybody_wrote_is_kept(tmp_path):
    world = World()
    world.request("r", START_MS, session="alice@example.org", error="provider_error")
    world.request("s", START_MS, session="alice@example.org")
    folder = world.archive(tmp_path)
    text = json.dumps(everything(folder))
    assert "SECRET" not in text
    assert "alice" not in text
    assert {row["error_code"] for row in rows(folder, "results")} == {"provider_error", None}


@pytest.mark.parametrize(
    "value",
    [
        b"not JSON",
        b"[1]",
        b"null",
        b"\xff\xfe",
        b'{"request_id": {"a": 1}, "cost_nano_usd": "much", "attempt": true, "late": 1, "tenant": 5}',
        b'{"attempt": 99999999999999999999, "cost_nano_usd": 1.5}',
        b'{"tenant": "a/b\\"<script>\\u0000", "pool": "../../etc"}',
        b"{}",
        None,
    ],
)
def test_any_bytes_make_a_row_of_the_schema_or_none(tmp_path, value):
    world = World()
    for kind in KINDS:
        world.put(kind.topic, START_MS, value)
        world.put(kind.topic, START_MS, b'{"request_id": "good", "id": "good"}')
    folder = world.archive(tmp_path)
    for kind in KINDS:
        found = rows(folder, kind.name)
        assert [row["offset"] for row in found][-1] == 1
        assert found[-1]["request_id"] == "good"


def test_two_at_once_do_not_write(tmp_path):
    with (
        Folder(tmp_path).open("llm"),
        pytest.raises(ArchiveError, match="another process"),
        Folder(tmp_path).open("llm"),
    ):
        pass


def test_another_installation_has_an_archive_of_its_own(tmp_path):
    with Folder(tmp_path).open("llm"):
        pass
    with pytest.raises(ArchiveError, match="'llm', not of 'other'"), Folder(tmp_path).open("other"):
        pass


def test_others_files_are_left_alone(world, tmp_path):
    folder = world.archive(tmp_path)
    before = folder.positions("decisions")
    day = next((tmp_path / "decisions").iterdir())
    (day / "notes.txt").write_text("mine")
    (tmp_path / "decisions" / "day=yesterday").mkdir()
    assert folder.positions("decisions") == before
    world.archive(tmp_path)
    assert (day / "notes.txt").read_text() == "mine"
