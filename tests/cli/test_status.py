"""``pointsman status`` as a person runs it: against the web stage, against what it left, against nothing."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.console import Console

from router.cli.status_page import Page
from router.core.records import Load
from router.web.ages import later
from router.web.registry import register
from router.web.status import build_status
from tests.web.examples import MINUTE_MS, NOW_MS, dead_letter, fresh_view, health, order, sight, track, weights, window

CONFIG = """
[kafka]
data_dir = "{data_dir}"
[web]
port = {port}
[models.small]
provider = "sim"
unpriced = true
[pools.auto]
models = ["small"]
"""


def document() -> dict[str, Any]:
    """A busy installation with a sick model and a stage that stands still."""
    view = fresh_view()
    for minute in range(1, 30):
        start_ms = NOW_MS - minute * MINUTE_MS
        view.fold(window(start_ms, ok=9, errors={"provider_error": 1}, feedback={"thumbs": (5, 0.8)}), NOW_MS)
        view.fold(window(start_ms, model="large", feedback={"thumbs": (2, 0.9)}), NOW_MS)
    view.fold(health(), NOW_MS - 2 * MINUTE_MS)
    view.fold(order("pool:auto", "pin", args={"model": "large"}), NOW_MS - 4000)
    view.fold(weights(), NOW_MS - 500)
    view.fold(sight(blind=("math/hard",)), NOW_MS)
    view.fold(dead_letter(), NOW_MS)
    view.fold(Load(stage="settle", partition=0, at_ms=NOW_MS, read_to_ms=NOW_MS, open={"batch": 4}, ids=9), NOW_MS)
    track(view, "llm-settle", "llm.outcomes", committed=100, end=1304, since_ms=42_000)
    return orjson.loads(orjson.dumps(build_status(view, NOW_MS, version="1")))


def test_what_a_rollout_has_ordered_is_one_line_a_pool() -> None:
    view = fresh_view()
    view.fold(order("pool:auto", "rollout", by="pointsman rollout", args={"percent": 5.0}), NOW_MS)
    for stratum, share in (("math/hard", 0.0), ("math/easy", 25.0), ("code/easy", 25.0)):
        scope = f"stratum:auto/{stratum}"
        view.fold(order(scope, "rollout", by="pointsman rollout", args={"percent": share}), NOW_MS)
    view.fold(order("pool:other", "rollout", by="pointsman rollout", args={"percent": 5.0}), NOW_MS)
    view.fold(order("all", "holdout", args={"percent": 3}), NOW_MS)
    shown = StringIO()
    found = orjson.loads(orjson.dumps(build_status(view, NOW_MS))) | {"source": "here"}
    Page(Console(file=shown, width=160)).print(found)
    lines = [line.strip() for line in shown.getvalue().splitlines()]
    why = "why: pointsman journal --scope pool"
    assert f"rollout of auto: 1 strata at 0 %, 2 strata at 25 %, others at 5 %; {why}:auto" in lines
    assert f"rollout of other: all strata at 5 %; {why}:other" in lines
    assert sum("holdout all" in line and "ago" in line for line in lines) >= 1
    assert any("standing orders in force: 1" in line for line in lines)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@contextmanager
def answering(body: bytes, status: int = 200) -> Iterator[int]:
    """A web stage that says ``body``; gives its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def run(tmp_path: Path):
    def run(*arguments: str, port: int = 1) -> subprocess.CompletedProcess[str]:
        (tmp_path / "pointsman.toml").write_text(CONFIG.format(data_dir=tmp_path / "data", port=port))
        command = [sys.executable, "-m", "router", "status", "--config", str(tmp_path / "pointsman.toml"), *arguments]
        env = {name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN")}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=env)

    return run


def left_behind(tmp_path: Path, at_ms: int) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "status.json").write_bytes(orjson.dumps(document() | {"at_ms": at_ms}))


def test_it_shows_what_the_web_stage_says(run):
    with answering(orjson.dumps(document() | {"at_ms": now_ms()})) as port:
        done = run(port=port)
    assert done.returncode == 0
    assert done.stdout.startswith("FAILING")
    assert "settle stands still: 1204 records wait, no commit for 42 s" in done.stdout
    assert "next: pointsman run settle" in done.stdout
    assert "\x1b" not in done.stdout


def test_json_is_one_document_with_the_promised_keys(run):
    with answering(orjson.dumps(document() | {"at_ms": now_ms()})) as port:
        found = json.loads(run("--json", port=port).stdout)
    assert {"verdict", "models", "stages", "alerts", "weights", "cost", "changes"} <= found.keys()
    assert found["source"].endswith("/v1/status")


def test_without_a_web_stage_it_reads_what_that_left(run, tmp_path: Path):
    left_behind(tmp_path, now_ms() - 2000)
    register(tmp_path / "data", "route", "127.0.0.1", 41_000)
    found = json.loads(run("--json").stdout)
    assert found["source"].endswith("status.json")
    assert 2.0 <= found["traffic"]["age_s"] < 10.0
    assert found["verdict"]["state"] == "failing"


def test_where_nothing_runs_any_more_there_is_no_verdict(run, tmp_path: Path):
    left_behind(tmp_path, now_ms() - 2000)
    assert run().stdout.startswith("UNKNOWN")


def test_an_old_snapshot_is_shown_with_its_age_and_no_verdict(run, tmp_path: Path):
    left_behind(tmp_path, now_ms() - 3_600_000)
    done = run()
    assert done.returncode == 0
    assert done.stdout.startswith("UNKNOWN")
    assert "next: pointsman up" in done.stdout
    assert "(age 60 min)" in done.stdout


def test_while_others_still_run_only_the_web_stage_is_to_be_started(run, tmp_path: Path):
    left_behind(tmp_path, now_ms() - 3_600_000)
    register(tmp_path / "data", "route", "127.0.0.1", 41_000)
    found = json.loads(run("--json").stdout)
    assert found["next_action"] == "pointsman run web"
    assert [one["name"] for one in found["processes"]] == ["route"]


def test_where_nothing_ever_ran_one_line_says_how_to_start(run):
    done = run()
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "Start everything with: pointsman up" in done.stderr


def test_somebody_elses_answer_is_not_ours(run):
    for body in (b"<html>", b"[]", orjson.dumps(document() | {"prefix": "other"})):
        with answering(body) as port:
            assert run(port=port).returncode == 1
    with answering(b"{}", 500) as port:
        assert run(port=port).returncode == 1


def test_a_torn_snapshot_is_an_error_that_names_the_file(run, tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "status.json").write_text('{"at_ms": 17')
    done = run()
    assert done.returncode == 1
    assert "status.json cannot be read" in done.stderr


def test_it_imports_no_kafka_no_faust_and_no_http_stack():
    program = "import sys, router.cli.status, router.cli.status_page; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"aiokafka", "faust", "aiohttp", "numpy", "prometheus_client"} & set(modules)


def page(width: int, found: dict[str, Any]) -> str:
    out = StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None, highlight=False, markup=False)
    Page(console).print(found)
    return out.getvalue()


def test_tenants_stand_there_the_nearest_to_its_limit_first_and_a_document_of_before_has_none():
    found = document()
    assert "Tenants" not in page(200, found | {"source": "x"})
    row = {"soft": None, "lent": 0, "until": "2026-01-01T00:00:00Z", "age_s": 1.0}
    found["tenants"] = [
        row | {"tenant": "acme", "kind": "requests", "limit": 60, "used": 6},
        row | {"tenant": "zeta", "kind": "month", "limit": 2_000_000_000, "soft": 10**9, "used": 1_500_000_000},
        row | {"tenant": "zeta", "kind": "day", "limit": None, "used": 5},
    ]
    lines = [" ".join(line.split()) for line in page(200, found | {"source": "x"}).splitlines()]
    first = lines.index("zeta spent this month $1.50 $2.00 75.0 % $1.00 reached 1.0 s")
    assert lines[first + 1] == "acme requests a minute 6 60 10.0 % - 1.0 s"
    assert lines[first + 2] == "zeta spent today $0.000000005 none - - 1.0 s"
    del found["tenants"]
    assert "Tenants" not in page(200, found | {"source": "x"})


def test_a_blind_stratum_stands_there_as_blind_and_a_document_of_before_has_none():
    found = document()
    text = " ".join(page(200, found | {"source": "x"}).split())
    assert "BLIND auto/math/hard: a drop of 10% would be seen never; within a day by 120 reviews a day" in text
    assert "BLIND auto/chat/easy" not in text
    del found["quality"]["sight"]
    assert "BLIND" not in page(200, found | {"source": "x"})


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_no_line_is_wider_than_the_terminal(width: int):
    text = page(width, document() | {"source": "x"})
    assert max(len(line) for line in text.splitlines()) <= width
    assert "pointsman run settle" in text


def test_it_says_how_many_results_ask_their_user():
    view = fresh_view()
    view.fold(window(surveys=7), NOW_MS)
    assert "7 results asked their user" in page(200, build_status(view, NOW_MS) | {"source": "web"})
    assert "asked their user" not in page(200, document() | {"source": "web"})


def test_every_part_is_there_also_when_nothing_is_known():
    empty = orjson.loads(orjson.dumps(build_status(fresh_view(), NOW_MS)))
    text = page(100, later(empty | {"source": "x"}, NOW_MS))
    for title in ("Last changes", "Traffic", "Money", "Quality", "Models", "Stages", "Requests", "Weights", "Alerts"):
        assert title in text
    assert "not known, settle has said nothing yet" in text
    assert "Not there yet" in text


def test_square_brackets_and_control_characters_of_others_do_no_harm():
    found = document() | {"source": "x"}
    found["changes"][0] |= {"why": "[bold red]boo[/] \x1b[2J\x1b]0;title\x07"}
    text = page(200, found)
    assert "[bold red]boo[/]" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_watched_terminal_is_put_back_however_it_ends(tmp_path: Path, number: signal.Signals):
    left_behind(tmp_path, now_ms())
    (tmp_path / "pointsman.toml").write_text(CONFIG.format(data_dir=tmp_path / "data", port=1))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "router", "status", "--watch", "--config", str(tmp_path / "pointsman.toml")]
    env = os.environ | {"TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=env,
        # What is started in the background ignores Ctrl-C.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # noqa: PLW1509 - one system call
    )
    os.close(theirs)
    shown = b""
    while b"Traffic" not in shown:
        shown += os.read(ours, 65_536)
    process.send_signal(number)
    with suppress(OSError):  # how a terminal says that nobody has its other side any more
        while found := os.read(ours, 65_536):
            shown += found
    assert process.wait() == 0
    assert b"\x1b[?1049h" in shown
    assert shown.rindex(b"\x1b[?1049l") > shown.rindex(b"Traffic")
    assert b"Traceback" not in shown
