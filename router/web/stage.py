"""The web stage: an observer, ``GET /v1/status``, the review queue (``reviews``), and what every process serves, on ``web.host``:``web.port``.

Without configured keys only loopback is served (``keys``).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from aiohttp import web

from router.config import Config
from router.config.redact import redactor
from router.contract.topics import Names
from router.core.keyring import Keyring
from router.kafka.client import Client
from router.web.figures import Figures
from router.web.keys import asks_for, keys_of
from router.web.notify import Notifier
from router.web.observer import Observer
from router.web.process import ProcessServer, json_response
from router.web.review_log import ReviewLog
from router.web.reviews import Reviews, new_queue
from router.web.watchdog import Watchdog


class Needs(Protocol):
    """What the stage needs of the process's context."""

    @property
    def config(self) -> Config: ...
    @property
    def names(self) -> Names: ...
    @property
    def client(self) -> Client: ...
    @property
    def keyring(self) -> Keyring: ...
    @property
    def clock(self) -> Callable[[], int]: ...
    @property
    def data_dir(self) -> Path | None: ...


class WebStage:
    """Takes the place of the process's ``ProcessServer`` in the process that runs it; ``watchdog`` is the process's."""

    def __init__(self, context: Needs, watchdog: Watchdog, *, name: str = "web") -> None:
        """``ConfigError`` for keys or a ``reviews.redact`` that are not usable, or a host that is not loopback where there are no keys."""
        config = context.config
        keys = keys_of(config.web)
        data_dir = context.data_dir or Path(config.kafka.data_dir)
        self.observer = Observer(config, context.names, context.client, data_dir, context.clock)
        watchdog.add(self.observer)
        guard = config.guard
        self.notifier = Notifier(context.client, context.names, guard.webhook_url, guard.alertmanager_url)
        queue = new_queue(config, context.keyring)
        self.review_log = ReviewLog(context.client, context.names, queue, context.clock)
        self._reviews = Reviews(config, self.review_log, redactor(config.reviews.redact), context.clock)
        self.server = ProcessServer(
            name,
            watchdog,
            host=config.web.host,
            port=config.web.port,
            data_dir=data_dir,
            routes=self._routes,
            middlewares=(asks_for(keys),),
        )
        self.server.registry.register(Figures(self.observer.status))

    async def start(self) -> None:
        """Serve and begin to look; needs no broker. ``ConfigError`` when the port is taken."""
        await self.server.start()
        await self.observer.start()
        await self.notifier.start()

    async def stop(self) -> None:
        await self.review_log.stop()
        await self.notifier.stop()
        await self.observer.stop()
        await self.server.stop()

    def _routes(self, app: web.Application) -> None:
        app.router.add_get("/v1/status", self._status)
        self._reviews.routes(app)

    async def _status(self, _request: web.Request) -> web.Response:
        return json_response(self.observer.status())
