"""Foreign text on the terminal: nothing of it steers the terminal or hides."""

import pytest

from router.cli import run
from router.cli.status_units import on_screen
from tests.fuzz.hostile import TRICKS


@pytest.mark.parametrize("text", TRICKS.values(), ids=TRICKS)
def test_a_page_keeps_its_lines_and_loses_what_steers(text):
    shown = on_screen(f"first {text}\nlast")
    assert shown.endswith("\nlast")
    assert all(line.isprintable() for line in shown.split("\n"))


@pytest.mark.parametrize("text", TRICKS.values(), ids=TRICKS)
def test_an_error_that_quotes_a_file_is_printable(tmp_path, capsys, text):
    """A broken configuration, its own text in the message."""
    file = tmp_path / "x.toml"
    file.write_text(f"[models.m]\n{text.splitlines()[0]!r} = 1\n[pools.'{text.splitlines()[-1]}']\n")
    assert run(["config", "check", "--config", str(file)]) == 2
    said = capsys.readouterr().err
    assert said
    assert all(line.isprintable() for line in said.splitlines())
