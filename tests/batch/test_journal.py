import pytest

from router.batch.journal import Journal, load, reopen
from router.contract.errors import ConfigError


def test_a_journal_comes_back_as_it_was_saved(tmp_path):
    made = Journal(tmp_path / "out.journal", "digest", "llm.results", {0: 5, 3: 7}, 123)
    made.save()
    assert load(made.path) == made


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"digest": 1, "topic": 2, "ends": [], "sent_bytes": "x"}'])
def test_another_file_is_no_journal(tmp_path, content):
    path = tmp_path / "out.journal"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="not a journal"):
        load(path)


def test_a_missing_journal_is_said(tmp_path):
    with pytest.raises(ConfigError, match="there is no journal"):
        load(tmp_path / "none")


@pytest.mark.parametrize(
    ("left", "kept"),
    [
        (b"", b""),
        (b"whole\n", b"whole\n"),
        (b"whole\ntorn", b"whole\n"),
        (b"torn", b""),
        (b"whole\n" + b"x" * 200_000, b"whole\n"),
    ],
)
def test_a_torn_last_line_is_cut_off(tmp_path, left, kept):
    path = tmp_path / "out"
    path.write_bytes(left)
    with reopen(path) as file:
        assert file.read() == kept
