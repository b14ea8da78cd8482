"""One process: the stages and workers it was asked to run, its HTTP server, its signals, its end.

Ends with 0 on SIGTERM or SIGINT, in order: fetching stops, open turns end, producers close, the group is left. Ends
with 1 when anything in it fails or stands still; whoever supervises it starts it again, and the new one recovers from
what Kafka has.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import NoReturn

from router import logs
from router import stages as rooms
from router.classifier import configured, misfits
from router.cluster import client_of, wait_for_topics
from router.config import Config, signing_secret
from router.contract.errors import ConfigError
from router.contract.topics import Names
from router.core.artefact import Artefact
from router.core.keyring import Keyring
from router.kafka.run import run_apps
from router.kafka.stage_app import StageApp, new_stage_app
from router.stages.context import Context
from router.supervisor import SLOT
from router.web.probes import FreshProbe, StageProbe
from router.web.process import ProcessServer
from router.web.stage import WebStage
from router.web.watchdog import Watchdog
from router.work.worker import ModelWorker, new_workers

log = logging.getLogger(__name__)

WEB = "web"


def keyring_of(config: Config) -> Keyring:
    """The keys that sign slips and tokens.

    Raises:
        ConfigError: no secret is configured.
    """
    secret = signing_secret(config)
    if secret is None:
        raise ConfigError(
            "security.secret_file or security.secret_env: a process that runs stages needs the secret that signs slips "
            "and feedback tokens, 32 bytes or more, the same for all"
        )
    return Keyring.parse(secret)


def run_process(config: Config, stages: Sequence[str], models: Sequence[str], name: str) -> NoReturn:
    """Run stages and workers until a signal, then end the process: with 0, or with 1 when something in it failed.

    Raises:
        PointsmanError: it could not begin.
    """
    logs.begin()
    _quiet_libraries()
    asyncio.run(_to_the_end(config, stages, models, name))


async def _to_the_end(config: Config, stages: Sequence[str], models: Sequence[str], name: str) -> NoReturn:
    """Exits here: threads and tasks of an app whose broker went away may neither end nor heed that they are cancelled."""
    code = await _run(config, stages, models, name)
    logging.shutdown()
    os._exit(code)


def _quiet_libraries() -> None:
    """Faust's services log each step under the name of the module that subclasses them."""
    for noisy in ("aiokafka", "faust", "mode", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    logging.getLogger("router.kafka").setLevel(logging.WARNING)


async def _run(config: Config, stages: Sequence[str], models: Sequence[str], name: str) -> int:
    data_dir = config.kafka.data_dir.resolve()
    context = Context(
        config=config,
        client=client_of(config),
        keyring=keyring_of(config),
        names=Names(config.kafka.prefix),
        data_dir=data_dir,
        artefact=_classifier(config) if "route" in stages else None,
    )
    end: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, lambda: _end(end, 0))
    running = asyncio.Event()
    async with _serving(context, stages, name) as watchdog:
        watchdog.add(FreshProbe("start", running.is_set))  # not ready before all of it runs
        topics = asyncio.ensure_future(wait_for_topics(context.client, config))
        await _first(topics, end)
        if not topics.done():
            topics.cancel()
            return await end
        context = dataclasses.replace(context, partitions=topics.result())
        async with _stages(context, stages, watchdog, end), _workers(context, models, watchdog, end):
            if not end.done():  # a stage that failed has said so, and that stays the last word
                log.info("%s: running %s", name, ", ".join([*stages, *models]))
                _spare_collections()
                running.set()
            return await end


def _classifier(config: Config) -> Artefact | None:
    """As configured; what does not fit the pools is logged."""
    found = configured(config)
    for problem in [] if found is None else misfits(config, found):
        log.warning("%s", problem)
    return found


def _spare_collections() -> None:
    """What is loaded stays, and rows come and go without cycles: a full collection over 100,000 of them takes 0.1 s."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _end(end: asyncio.Future[int], code: int) -> None:
    if not end.done():
        end.set_result(code)


@contextlib.asynccontextmanager
async def _serving(context: Context, stages: Sequence[str], name: str) -> AsyncIterator[Watchdog]:
    """The process's HTTP server and the watchdog over all that is added to it; serves before there is a broker."""
    watchdog = Watchdog([], _leave)
    server: WebStage | ProcessServer
    if WEB in stages:
        server = WebStage(context, watchdog, name=name)
    else:
        port = context.config.web.port if "POINTSMAN_WEB__PORT" in os.environ else 0
        server = ProcessServer(name, watchdog, host="127.0.0.1", port=port, data_dir=context.data_dir)
    await server.start()
    await watchdog.start()
    try:
        yield watchdog
    finally:
        await watchdog.stop()
        await server.stop()


def _leave(why: str) -> None:
    """What stands still cannot end in order."""
    log.critical("this process stands still, so it ends: %s", why)
    os._exit(1)


@contextlib.asynccontextmanager
async def _stages(
    context: Context, names: Sequence[str], watchdog: Watchdog, end: asyncio.Future[int]
) -> AsyncIterator[None]:
    """Every stage an app of its own, all in this process; one that crashes ends it."""
    kafka, slot = context.config.kafka, os.environ.get(SLOT)
    assert context.data_dir is not None
    found = [stage for name in names if name != WEB for stage in rooms.build(name, context)]
    apps = [
        new_stage_app(
            stage,
            context.client,
            partitions=context.partitions,
            replication=kafka.replication_factor,
            data_dir=context.data_dir / "stages",
            session_timeout_s=kafka.session_timeout_s,
            instance_id=f"{stage.name}-{slot}" if slot is not None else None,
            clock=context.clock,
        )
        for stage in found
    ]
    if not apps:
        yield
        return
    until, started = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(_run_apps(apps, until, started, end))
    try:
        await _first(started.wait(), running)
        for app in apps:
            watchdog.add(StageProbe(app))
        yield
    finally:
        until.set()
        await running


async def _run_apps(
    apps: Sequence[StageApp], until: asyncio.Event, started: asyncio.Event, end: asyncio.Future[int]
) -> None:
    try:
        await run_apps(apps, until, started=started)
    except Exception:
        log.exception("a stage has failed")
        _end(end, 1)


async def _first(*waits: Awaitable[object]) -> None:
    """Return when one of them is done."""
    await asyncio.wait([asyncio.ensure_future(one) for one in waits], return_when=asyncio.FIRST_COMPLETED)


@contextlib.asynccontextmanager
async def _workers(
    context: Context, models: Sequence[str], watchdog: Watchdog, end: asyncio.Future[int]
) -> AsyncIterator[None]:
    """A worker a model; one that fails ends the process."""
    if not models:
        yield
        return
    async with new_workers(context, models, slot=os.environ.get(SLOT)) as workers:
        running = [asyncio.create_task(_work(worker, end)) for worker in workers]
        for worker in workers:
            watchdog.add(worker)
        try:
            yield
        finally:
            for worker in workers:
                worker.stop()
            await asyncio.gather(*running, return_exceptions=True)


async def _work(worker: ModelWorker, end: asyncio.Future[int]) -> None:
    try:
        await worker.run()
    except Exception:
        log.exception("the worker of %s failed", worker.name)
        _end(end, 1)
