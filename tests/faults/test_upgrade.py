"""A rolling upgrade from the previous release under load, and back; ``python benchmarks/upgrade.py --apart`` with a process for each stage."""

import subprocess

import pytest

from benchmarks import upgrade
from benchmarks.disturb.fleet import ROOT, code_of, unpack


def test_each_process_is_replaced_under_load_and_put_back_and_every_request_is_answered_once():
    report = upgrade.measure(apart=False, rate=12, seed=3)
    assert not report.details["problems"], report.details
    figures = report.details["figures"]
    assert figures["results"] == {"ok": figures["requests"]}
    assert figures["mixtures"] == 2 * figures["processes"] - 2  # after all but the last one on either way
    assert figures["dead_letters"]["unsupported_schema"] == 1


def git(folder, *arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", "-C", folder, *who, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "repository"
    (folder / "router").mkdir(parents=True)
    git(folder, "init", "-q")
    for number in (1, 2):
        (folder / "router" / "__init__.py").write_text(f"number = {number}\n")
        git(folder, "add", ".")
        git(folder, "commit", "-q", "-m", f"Release {number} is here: say more\n\nRelease 9 is not")
    return folder


def test_a_release_is_found_by_the_first_line_of_its_commit_and_runs_its_own_code(repository, tmp_path):
    commit, source = unpack("Release 1 is", tmp_path / "source", repository)
    assert len(commit) == 40
    assert (source / "router" / "__init__.py").read_text() == "number = 1\n"
    assert code_of(source) == source
    assert code_of(ROOT) == ROOT


def test_a_history_without_the_release_fails_and_says_what_to_do(repository, tmp_path):
    with pytest.raises(RuntimeError, match=r"'Release 9'.* not in the history .*fetch --unshallow.*none of 2 commits"):
        unpack("Release 9", tmp_path / "a", repository)
    shallow = tmp_path / "shallow"
    subprocess.run(
        ["git", "clone", "-q", "--depth=1", f"file://{repository}", shallow], check=True, capture_output=True
    )
    with pytest.raises(RuntimeError, match="none of 1 commits"):
        unpack("Release 1", tmp_path / "b", shallow)


def test_a_copy_of_the_source_alone_fails_and_says_what_git_says(tmp_path):
    with pytest.raises(RuntimeError, match=r"fetch --unshallow.*not a git repository"):
        unpack("Release 1", tmp_path / "a", tmp_path)
