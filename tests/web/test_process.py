"""What every process serves, over real HTTP on loopback."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from router.contract.errors import ConfigError
from router.web.process import ProcessServer
from router.web.registry import FOLDER, register, running
from router.web.watchdog import Watchdog


class Stage:
    """A probe that says what the test tells it."""

    name = "llm-settle"

    def __init__(self, **said):
        self.said = {"lag": 0, "progress": 1, "ready": True} | said

    def liveness(self):
        return self.said


async def get(port: int, path: str) -> tuple[int, object]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status, await (response.json() if "json" in response.content_type else response.text())


async def serve(stage: Stage, on_stall=lambda why: None, limit_s=0.1, **options):
    watchdog = Watchdog([stage], on_stall, limit_s=limit_s, ask_s=0.01)
    server = ProcessServer("settle", watchdog, **options)
    await server.start()
    await watchdog.start()
    await asyncio.sleep(0.02)
    return watchdog, server


async def test_a_process_that_works_is_healthy_and_ready(tmp_path: Path):
    watchdog, server = await serve(Stage(lag=3, commits=17))
    try:
        status, health = await get(server.port, "/healthz")
        assert (status, health["healthy"], health["why"]) == (200, True, [])
        assert health["probes"]["llm-settle"]["commits"] == 17
        assert await get(server.port, "/readyz") == (200, {"ready": True, "waiting_for": []})
    finally:
        await watchdog.stop()
        await server.stop()


async def test_whoever_opens_its_address_learns_what_it_answers():
    async def more(_request):
        return web.Response()

    watchdog, server = await serve(Stage(), routes=lambda app: app.router.add_get("/v1/status", more))
    try:
        status, said = await get(server.port, "/")
        assert (status, said.splitlines()[1:]) == (200, ["/healthz", "/metrics", "/readyz", "/v1/status"])
    finally:
        await watchdog.stop()
        await server.stop()


async def test_a_process_that_waits_is_healthy_but_not_ready():
    watchdog, server = await serve(Stage(ready=False, lag=None))
    try:
        assert await get(server.port, "/readyz") == (503, {"ready": False, "waiting_for": ["llm-settle"]})
        assert (await get(server.port, "/healthz"))[0] == 200
    finally:
        await watchdog.stop()
        await server.stop()


async def test_work_without_progress_is_unhealthy_and_ends_the_process_once():
    stalled, loop, told = [], asyncio.get_running_loop(), asyncio.Event()
    watchdog, server = await serve(Stage(lag=5), lambda why: (stalled.append(why), loop.call_soon_threadsafe(told.set)))
    try:
        await told.wait()
        status, health = await get(server.port, "/healthz")
        assert status == 503
        assert health["why"][0].startswith("llm-settle: lag 5 and no progress for")
        await asyncio.sleep(0.05)
        assert len(stalled) == 1
    finally:
        await watchdog.stop()
        await server.stop()


async def test_a_blocked_event_loop_cannot_hide():
    stalled = []
    watchdog, server = await serve(Stage(), stalled.append)
    try:
        for _ in range(500):  # blocks: the thread alone can see it
            time.sleep(0.01)  # noqa: ASYNC251 - that is what is tested
            if stalled:
                break
        assert stalled[0].startswith("event loop: blocked")
    finally:
        await watchdog.stop()
        await server.stop()


async def test_progress_keeps_a_busy_process_alive():
    stalled = []
    stage = Stage(lag=5)
    watchdog, server = await serve(stage, stalled.append, limit_s=0.5)
    try:
        for number in range(60):
            stage.said = stage.said | {"progress": number}
            await asyncio.sleep(0.01)
        assert not stalled
    finally:
        await watchdog.stop()
        await server.stop()


async def test_metrics_carry_the_figures_of_a_workers_endpoints():
    said = {"eu-1": {"outstanding": 2, "state": "open", "reason": "5 failures in a row", "usual_ms": None}}
    watchdog, server = await serve(Stage(endpoints=said))
    try:
        _, text = await get(server.port, "/metrics")
        labels = 'endpoint="eu-1",figure="{}",probe="llm-settle"'
        assert f"pointsman_endpoint_figure{{{labels.format('outstanding')}}} 2.0" in text
        assert f"pointsman_endpoint_figure{{{labels.format('closed')}}} 0.0" in text
        assert "failures in a row" not in text
        assert "usual_ms" not in text
    finally:
        await watchdog.stop()
        await server.stop()


async def test_metrics_carry_units_and_the_probes_figures():
    watchdog, server = await serve(Stage(lag=7, calls_in_hand=3, note="text"))
    try:
        status, text = await get(server.port, "/metrics")
        assert status == 200
        assert 'pointsman_lag_records{probe="llm-settle"} 7.0' in text
        assert 'pointsman_ready{probe="llm-settle"} 1.0' in text
        assert 'pointsman_figure{figure="calls_in_hand",probe="llm-settle"} 3.0' in text
        assert "pointsman_process_resident_memory_bytes" in text
        assert 'figure="note"' not in text
    finally:
        await watchdog.stop()
        await server.stop()


async def test_an_unknown_lag_is_left_out_of_the_metrics():
    watchdog, server = await serve(Stage(lag=None))
    try:
        assert "pointsman_lag_records{" not in (await get(server.port, "/metrics"))[1]
    finally:
        await watchdog.stop()
        await server.stop()


async def test_its_address_is_in_the_data_folder_while_it_runs(tmp_path: Path):
    watchdog, server = await serve(Stage(), data_dir=tmp_path)
    (found,) = running(tmp_path)
    assert (found.name, found.pid, found.port) == ("settle", os.getpid(), server.port)
    await watchdog.stop()
    await server.stop()
    assert running(tmp_path) == []
    assert list((tmp_path / FOLDER).iterdir()) == []


async def test_a_taken_port_is_one_clear_error():
    watchdog, server = await serve(Stage())
    try:
        with pytest.raises(ConfigError, match=f"web.port {server.port}: .*in use"):
            await ProcessServer("other", watchdog, port=server.port).start()
    finally:
        await watchdog.stop()
        await server.stop()


def test_files_of_the_dead_and_torn_ones_are_passed_over(tmp_path: Path):
    program = f"from pathlib import Path; from router.web.registry import register; register(Path({str(tmp_path)!r}), 'gone', 'h', 1)"
    subprocess.run([sys.executable, "-c", program], check=True)
    (tmp_path / FOLDER / "torn.json").write_text('{"name": "to')
    assert len(list((tmp_path / FOLDER).iterdir())) == 2
    register(tmp_path, "here", "127.0.0.1", 2)
    assert [process.name for process in running(tmp_path)] == ["here"]


def test_a_pid_with_a_new_owner_is_not_taken_for_the_old_process(tmp_path: Path):
    path = register(tmp_path, "mine", "127.0.0.1", 2)
    path.write_text(path.read_text().replace('"birth": ', '"birth": 1'))
    assert running(tmp_path) == []
