"""Page, Markdown and document: what comes from data is text in all of them, and the page needs nothing from anywhere."""

import re
from html.parser import HTMLParser

import orjson
import pytest

from router.history.report import report
from router.history.report_data import read_archive
from router.history.report_page import page
from router.history.report_targets import Target, assess
from router.history.report_text import document, dollars, markdown
from tests.history.archive_world import START_MS, World, usual

HOSTILE = [
    '<script>alert("x")</script>/any',
    '"><img src=x onerror=alert(1)>',
    "a|b`c*d_e\nf\x1b[2J",
    "[x](javascript:alert(1))",
    "$\\frac{1}{2}$",
]


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.open = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in {"meta", "path", "use", "rect"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        if tag not in {"path", "use", "rect"}:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    world = usual(2_000)
    for name in HOSTILE:
        world.request(f"r{name}", START_MS, stratum=name, tenant=name)
    return report(read_archive(world.archive(tmp_path_factory.mktemp("archive"))))


@pytest.fixture(scope="module")
def html(hostile):
    return page(hostile, assess(hostile, [Target(stratum="*", max_quality_loss=0.5)], START_MS))


def test_no_name_becomes_markup(html):
    found = Tags()
    found.feed(html)
    assert found.open == []
    assert not {"script", "img", "iframe", "object", "link"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert "&lt;script&gt;alert(" in html


def test_nothing_is_loaded(html):
    assert "default-src 'none'" in html
    addresses = set(re.findall(r"https?://[^\s\"'<]+", html))
    assert {address for address in addresses if not address.startswith("http://www.w3.org/")} == set()
    assert not re.findall(r"url\((?!#)", html)
    assert "@import" not in html


def test_pictures_take_the_pages_colours(html):
    assert html.count("<svg") == 3
    assert not re.findall(r"#0102|#0103", html)
    assert "prefers-color-scheme: dark" in html


def test_a_saving_is_never_there_without_its_quality(html, hostile):
    shown = [row for row in hostile.rows if row.saving() is not None]
    assert shown
    assert all(row.quality is not None for row in shown)
    for line in markdown(hostile).splitlines():
        if re.search(r"\| +\d+\.\d % \[", line):
            assert re.search(r"[+-]\d\.\d{3} \[", line), line


def test_no_name_breaks_a_table_or_steers_a_terminal(hostile):
    text = markdown(hostile)
    assert "\x1b" not in text
    assert "<script" not in text.replace("\\<script", "")
    assert "](javascript" not in text
    widths = {}
    for number, line in enumerate(text.splitlines()):
        if line.startswith("|"):
            widths.setdefault(text.splitlines()[:number].count(""), set()).add(len(re.findall(r"(?<!\\)\|", line)))
    assert all(len(found) == 1 for found in widths.values())


def test_the_document_is_json_and_says_why_not(hostile):
    found = orjson.loads(orjson.dumps(document(hostile)))
    assert {row["stratum"] for row in found["strata"]} >= set(HOSTILE)
    for row in found["strata"]:
        assert (row["saving_nano_usd"] is None) == bool(row["no_saving_because"])
        assert sum(row["cost_by_part_nano_usd"].values()) == row["cost_nano_usd"]


def test_one_request_and_none_make_a_page(tmp_path):
    world = World()
    world.request("r", START_MS)
    folder = world.archive(tmp_path)
    for since_ms in (None, START_MS + 10**9):
        found = report(read_archive(folder, since_ms=since_ms))
        assert page(found).startswith("<!doctype html>")
        assert markdown(found).startswith("# What was saved")
        assert document(found)["outside_of_pools"]["requests"] == 0


@pytest.mark.parametrize(
    ("nano_usd", "text"),
    [(0, "$0"), (1, "$0.000000001"), (999_900_000, "$1.000"), (10**9, "$1.00"), (-(10**15), "-$1,000,000.00")],
)
def test_money_for_people(nano_usd, text):
    assert dollars(nano_usd) == text
