"""World files: those that are shipped fit, and one that does not is told which key is wrong."""

from __future__ import annotations

import pytest

from router.contract.errors import ConfigError
from router.simulation import world as worlds
from router.simulation.score import truth_of
from router.simulation.traffic import Stream, rollout_percent

#: No trap in them: nothing may be given back.
HARMLESS = {"alternating", "baseline", "calm", "judge", "poison", "storm"}


@pytest.mark.parametrize("name", worlds.names())
def test_every_shipped_world_fits_and_says_what_it_is(name):
    world = worlds.read(name)
    assert world.name == name
    assert worlds.about(name).endswith(".")
    truth = truth_of(Stream(world, 0))
    assert (truth is None) == (name in HARMLESS)
    if truth is not None:
        assert 0 < truth.onset <= truth.passes < world.days


def test_the_main_world_is_the_one_of_the_case():
    world = worlds.read("main")
    truth = truth_of(Stream(world, 0))
    assert (world.requests_per_day, world.eligible, len(world.strata)) == (40_000, 0.65, 8)
    assert truth.unit == "code/hard"
    assert truth.onset == 14
    assert truth.passes == pytest.approx(14 + 28 * 0.10 / 0.24, abs=1 / 24)
    assert [rollout_percent(world, day) for day in (0, 20, 41, 42, 99)] == [5, 10, 50, 100, 100]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("days = 0", "days"),
        ("days = inf", "days"),
        ("margin = 1.5", "margin"),
        ("nonsense = 1", "nonsense"),
        ("[quality]\ncheap = -0.1", "quality.cheap"),
        ("[quality]\ndear = 0.1", "quality.dear"),
        ("[strata]\na = 0.5\nb = 0.4", "strata"),
        ('[strata]\na = "x"', "strata.a"),
        ("[dimensions.language]\nen = 0.5", "dimensions.language"),
        ("[[changes]]\nday = 1", "changes.0.bad"),
        ('[[changes]]\nday = 1\nbad = 0.2\nstratum = "no/such"', "no/such"),
        ('[[changes]]\nday = 1\nbad = 0.2\nwhere = { language = "xx" }', "dimensions.language"),
        ('[[changes]]\nday = 1\nbad = 0.2\nwho = "me"', "changes.0.who"),
        ("[[storms]]\nday = 1\nuntil = 2\nper_day = nan", "storms.0"),
        ("[thumbs]\ndelay_median_h = 9\ndelay_p95_h = 8", "thumbs.delay_p95_h"),
        ("rollout = []", "rollout"),
        ("rollout = [[0, 200]]", "rollout.0.1"),
        ("days = ", "Invalid value"),
        ("days = [1]", "days"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, named):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        worlds.read(str(file))
    assert named in str(error.value)
    assert str(file) in str(error.value)


def test_bytes_that_are_no_text_and_a_file_that_is_not_there(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"mine\.toml"):
        worlds.read(str(file))
    with pytest.raises(ConfigError, match=r"nowhere.*main"):
        worlds.read("nowhere")


def test_a_world_of_ones_own_has_its_files_name(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("days = 3")
    assert (worlds.read(str(file)).name, worlds.read(str(file)).days) == ("mine", 3)
