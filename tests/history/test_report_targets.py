"""Targets of a scheduled job: what they are about, what meets them, and that nothing unknown does."""

import pytest

from router.contract.errors import ConfigError
from router.history.report import report
from router.history.report_data import read_archive
from router.history.report_targets import Target, assess, targets_of
from router.history.report_text import verdict_line
from tests.history.archive_world import DAY_MS, START_MS, usual

#: A Wednesday after two weeks of traffic.
NOW_MS = START_MS + 16 * DAY_MS


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return report(read_archive(usual(3_000).archive(tmp_path_factory.mktemp("archive"))))


def assessed(found, **target):
    return [(one.met, one.where) for one in assess(found, [Target(**target)], NOW_MS)]


def test_what_is_saved_for_sure_meets_a_target_below_it(found):
    assert assessed(found, min_saving_percent=80.0) == [(True, "auto")]
    assert assessed(found, min_saving_percent=99.0) == [(False, "auto")]


def test_confidence_makes_it_harder(found):
    (row,) = found.of(pool=True, stratum=False, week=False)
    between = 100 * (row.saving_share().low + row.saving_share().value) / 2
    assert assessed(found, min_saving_percent=between, confidence=0.5) == [(True, "auto")]
    assert assessed(found, min_saving_percent=between, confidence=0.999) == [(False, "auto")]


def test_a_loss_of_quality_is_met_by_its_upper_limit(found):
    assert assessed(found, max_quality_loss=0.3) == [(True, "auto")]
    assert assessed(found, max_quality_loss=0.0, stratum="math/hard") == [(False, "auto math/hard")]


def test_each_stratum_and_each_pool(found):
    assert [where for _, where in assessed(found, stratum="*", min_saving_percent=1.0)] == [
        "auto chat/easy",
        "auto math/hard",
    ]


def test_whole_weeks_only(found):
    assert assessed(found, weeks=2, min_saving_percent=1.0) == [
        (True, "auto week of 2026-11-02"),
        (True, "auto week of 2026-11-09"),
    ]


def test_an_archive_that_nobody_fills_any_more_misses(found):
    late = assess(found, [Target(weeks=2, min_saving_percent=1.0)], NOW_MS + 7 * DAY_MS)
    assert [(one.met, one.where) for one in late] == [
        (True, "auto week of 2026-11-09"),
        (False, "every pool week of 2026-11-16"),
    ]


@pytest.mark.parametrize(
    "target",
    [
        {"pool": "none", "min_saving_percent": 1.0},
        {"stratum": "none", "max_quality_loss": 1.0},
        {"min_requests": 10_000, "min_saving_percent": 1.0},
        {"min_judged": 10_000, "max_quality_loss": 1.0},
    ],
)
def test_what_cannot_be_judged_is_missed(found, target):
    assert [met for met, _ in assessed(found, **target)] == [False]


def test_unknown_quality_misses_both(tmp_path):
    world = usual(2_000)
    world.records["rewards"].clear()
    unknown = report(read_archive(world.archive(tmp_path)))
    verdicts = assess(unknown, [Target(min_saving_percent=-1000.0, max_quality_loss=1.0)], NOW_MS)
    assert [one.met for one in verdicts] == [False, False]
    assert all("quality unknown" in one.found for one in verdicts)


def test_an_empty_span_misses(tmp_path):
    nothing = report(read_archive(usual(50).archive(tmp_path), until_ms=START_MS))
    assert [one.met for one in assess(nothing, [Target(max_quality_loss=1.0)], NOW_MS)] == [False]


def test_a_verdict_says_what_was_asked_and_found(found):
    line = verdict_line(assess(found, [Target(min_saving_percent=99.0)], NOW_MS)[0])
    assert line.startswith("MISSED: auto: saving of 99 % at least, 95 % sure: 8")


GOOD = """
[[target]]
pool = "auto"
min_saving_percent = 20
[[target]]
stratum = "*"
max_quality_loss = 0.02
confidence = 0.9
weeks = 2
"""


def test_a_file_of_targets(tmp_path):
    file = tmp_path / "targets.toml"
    file.write_text(GOOD)
    assert targets_of(file) == [
        Target(pool="auto", min_saving_percent=20),
        Target(stratum="*", max_quality_loss=0.02, confidence=0.9, weeks=2),
    ]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "target"),
        ("target = 5", "target"),
        ("[target]\nmin_saving_percent = 1", "target"),
        ("[[target]]", "min_saving_percent"),
        ("[[target]]\npool = 'auto'", "min_saving_percent"),
        ("[[target]]\nmin_saving = 1", "min_saving:"),
        ("[[target]]\nmin_saving_percent = '20'", "min_saving_percent"),
        ("[[target]]\nmin_saving_percent = nan", "min_saving_percent"),
        ("[[target]]\nmin_saving_percent = true", "min_saving_percent"),
        ("[[target]]\nmax_quality_loss = 2", "max_quality_loss"),
        ("[[target]]\nmax_quality_loss = 0.1\nconfidence = 1.0", "confidence"),
        ("[[target]]\nmax_quality_loss = 0.1\nmin_judged = 1.5", "min_judged"),
        ("[[target]]\nmax_quality_loss = 0.1\nweeks = 0", "weeks"),
        ("[[target]]\nmax_quality_loss = 0.1\npool = 7", "pool"),
        ("[[target]]\nmax_quality_loss = 0.1\n[[target]]\nmax_quality_loss = 3", "target 2: max_quality_loss"),
        ("alarm = 1\n[[target]]\nmax_quality_loss = 0.1", "alarm"),
        ("[[target", "targets.toml"),
        ("\x00", "targets.toml"),
    ],
)
def test_a_bad_file_is_refused_and_the_key_named(tmp_path, text, names):
    file = tmp_path / "targets.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=names):
        targets_of(file)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml"):
        targets_of(tmp_path / "none.toml")
