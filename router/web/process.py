"""What every process serves, whatever it runs: ``/healthz``, ``/readyz``, ``/metrics``.

| path | answers |
|---|---|
| ``/`` | what there is to ask for, one path a line: for whoever opens the address in a browser |
| ``/healthz`` | 200, or 503 when a probe has stalled: restart it. ``{"healthy", "why", "probes"}`` |
| ``/readyz`` | 200 when every probe is ready for work, else 503: wait. ``{"ready", "waiting_for"}`` |
| ``/metrics`` | Prometheus text: below, plus the process's own (``pointsman_process_*``: CPU, memory, open files) |

| metric | unit |
|---|---|
| ``pointsman_lag_records{probe}`` | records below the last stable offset not yet done; absent while unknown |
| ``pointsman_stuck_seconds{probe}`` | for how long there was lag and no progress |
| ``pointsman_ready{probe}`` | 1 or 0 |
| ``pointsman_figure{probe,figure}`` | further numbers of the probe, in the unit that the figure's name ends with |
| of a stage: ``done_transactions``, ``done_records``, ``done_partitions``, ``done_commit_seconds`` | since the process began: commits, records read and partitions written in them, the time that they took |

The server's address is written to the data folder (``registry``), where ``status`` finds it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from router.contract.errors import ConfigError, Unavailable
from router.web.limits import Runner
from router.web.registry import register
from router.web.watchdog import Watchdog, Watched

log = logging.getLogger(__name__)

OWN_KEYS = frozenset({"lag", "progress", "ready"})


class ProcessServer:
    """The HTTP server of one process. Port 0 takes any free one; ``port`` tells which, after ``start``."""

    def __init__(
        self,
        name: str,
        watchdog: Watchdog,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        data_dir: Path | None = None,
        routes: Callable[[web.Application], None] | None = None,
        middlewares: Sequence[Any] = (),
    ) -> None:
        """``routes`` adds further paths, ``middlewares`` stand before all of them; ``data_dir``: where the address is written, nowhere without one."""
        self.name = name
        self.host = host
        self.port = port
        self.registry = CollectorRegistry()
        ProcessCollector(namespace="pointsman", registry=self.registry)
        self.registry.register(_Probes(watchdog))
        self._watchdog = watchdog
        self._data_dir = data_dir
        self._file: Path | None = None
        app = web.Application(middlewares=middlewares)
        app.router.add_get("/", self._index)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        if routes is not None:
            routes(app)
        self._runner = Runner(app, access_log=None, handle_signals=False)

    async def start(self) -> None:
        """Listen. ``ConfigError`` when the port is taken or the host is none of ours."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigError(f"web.host {self.host}, web.port {self.port}: {error.strerror or error}") from error
        self.port = self._runner.addresses[0][1]
        if self._data_dir is not None:
            try:
                self._file = register(self._data_dir, self.name, self.host, self.port)
            except OSError as error:
                await self._runner.cleanup()
                raise Unavailable(f"kafka.data_dir {self._data_dir}: {error.strerror or error}") from error
        log.info("%s serves http://%s:%d", self.name, self.host, self.port)

    async def stop(self) -> None:
        """Close; the address file goes."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)
        await self._runner.cleanup()

    async def _index(self, request: web.Request) -> web.Response:
        paths = sorted({one.canonical for one in request.app.router.resources()} - {"/"})
        return web.Response(text="\n".join([f"pointsman, process {self.name}. It answers at:", *paths, ""]))

    async def _healthz(self, _request: web.Request) -> web.Response:
        why = self._watchdog.stalled()
        probes = {one.probe.name: one.said for one in self._watchdog.watched}
        return json_response({"healthy": not why, "why": why, "probes": probes}, 503 if why else 200)

    async def _readyz(self, _request: web.Request) -> web.Response:
        waiting = [one.probe.name for one in self._watchdog.watched if not one.ready]
        return json_response({"ready": not waiting, "waiting_for": waiting}, 503 if waiting else 200)

    async def _metrics(self, _request: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=generate_latest(self.registry), headers=headers)


def json_response(content: Any, status: int = 200) -> web.Response:
    """JSON; what it cannot say is said as text."""
    body = orjson.dumps(content, default=str, option=orjson.OPT_NON_STR_KEYS)
    return web.Response(body=body, status=status, content_type="application/json")


class _Probes(Collector):
    """Reads the probes' last answers whenever it is scraped."""

    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog

    def collect(self) -> Iterator[Metric]:
        lag = GaugeMetricFamily("pointsman_lag_records", "Records not yet done", labels=["probe"])
        stuck = GaugeMetricFamily("pointsman_stuck_seconds", "Time with lag and without progress", labels=["probe"])
        ready = GaugeMetricFamily("pointsman_ready", "Whether it may take work", labels=["probe"])
        figures = GaugeMetricFamily("pointsman_figure", "Further figures of a probe", labels=["probe", "figure"])
        endpoints = GaugeMetricFamily(
            "pointsman_endpoint_figure", "Figures of a model's endpoints", labels=["probe", "endpoint", "figure"]
        )
        for one in self._watchdog.watched:
            name = [one.probe.name]
            if (records := one.said.get("lag")) is not None:
                lag.add_metric(name, records)
            stuck.add_metric(name, self._watchdog.stuck_s(one))
            ready.add_metric(name, one.ready)
            for figure, value in _numbers(one):
                figures.add_metric([*name, figure], value)
            for endpoint, figure, value in _of_endpoints(one):
                endpoints.add_metric([*name, endpoint, figure], value)
        yield from (lag, stuck, ready, figures, endpoints)


def _numbers(watched: Watched) -> Iterator[tuple[str, float]]:
    for figure, value in watched.said.items():
        if figure not in OWN_KEYS and isinstance(value, (int, float)):
            yield figure, value


def _of_endpoints(watched: Watched) -> Iterator[tuple[str, str, float]]:
    """A worker's endpoints have the names of the configuration: their number is bounded. ``closed``: 1 when it takes all calls."""
    for endpoint, figures in watched.said.get("endpoints", {}).items():
        for figure, value in figures.items():
            if isinstance(value, (int, float)):
                yield endpoint, figure, value
        if "state" in figures:
            yield endpoint, "closed", figures["state"] == "closed"
