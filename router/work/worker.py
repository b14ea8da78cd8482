"""Workers of models: the engine of long calls, a provider and the standing bans, put together for one process.

A *drained* model needs nothing here: its queue is served. What becomes of one record is in ``caller``.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp

from router.config import Config
from router.contract.errors import ConfigError
from router.contract.topics import Names
from router.kafka import calls
from router.kafka.client import Client
from router.work.bans import Bans, follow_bans
from router.work.caller import STAGE, Caller
from router.work.endpoints import Place
from router.work.litellm_sdk import LiteLlm
from router.work.openai_http import OpenAIHttp, key_from, new_session
from router.work.provider import Provider
from router.work.streamed import Patience


class Installation(Protocol):
    """What a worker is built from; ``stages.context.Context`` is one."""

    @property
    def config(self) -> Config: ...
    @property
    def client(self) -> Client: ...
    @property
    def names(self) -> Names: ...
    @property
    def partitions(self) -> int: ...
    @property
    def clock(self) -> Callable[[], int]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTopics:
    """What a model's worker needs of Kafka, by full names."""

    group: str
    interactive: str
    batch: str
    control: str
    writes: tuple[str, ...]

    @property
    def reads(self) -> tuple[str, ...]:
        return self.interactive, self.batch, self.control


def topics_of(names: Names, model: str) -> WorkerTopics:
    """Of one model."""
    return WorkerTopics(
        group=names.group(f"{STAGE}-{model}"),
        interactive=names.work(model),
        batch=names.work(model, "batch"),
        control=names.of("control"),
        writes=(names.of("outcomes"), names.of("dead-letter")),
    )


class ModelWorker:
    """The engine of ``kafka.calls`` with one model's calls. A probe of the watchdog: ``name``, ``liveness()``."""

    def __init__(
        self, model: str, provider: Provider, bans: Bans, installation: Installation, *, instance_id: str | None = None
    ) -> None:
        config, names = installation.config, installation.names
        settings = config.models[model]
        self.name = f"{STAGE}-{model}"
        self._provider, self._bans, self._model = provider, bans, model
        self._caller = Caller(
            model,
            settings,
            provider,
            bans,
            names=names,
            partitions=installation.partitions,
            clock=installation.clock,
        )
        topics = topics_of(names, model)
        self._engine = calls.Worker(
            installation.client,
            topics.group,
            self._caller,
            interactive=[topics.interactive],
            batch=[topics.batch],
            concurrency=settings.concurrency,
            may_start=self._caller.may_start,
            passes=self._caller.too_late,
            session_timeout_s=config.kafka.session_timeout_s,
            instance_id=instance_id,
        )

    async def run(self) -> None:
        """Until ``stop()`` or the first error, which it raises."""
        await self._engine.run()

    def stop(self) -> None:
        self._engine.stop()

    def liveness(self) -> dict[str, Any]:
        """The engine's, with endpoints and whether the model is banned.

        ``progress`` changes when a call starts or ends, and all the time while calls run within their time or no endpoint
        is free: then standing still is right. ``lag``: records not read yet, and outcomes not committed yet.
        """
        said = self._engine.liveness()
        cooling_s = self._provider.free_in_s()
        uncommitted = max(0, sum(said["in_hand"].values()) - self._caller.in_hand)
        waits = not self._caller.overdue() and (cooling_s > 0 or self._caller.in_hand > 0)
        return {
            **said,
            "model": self._model,
            "lag": None if said["lag"] is None else said["lag"] + uncommitted,
            "progress": time.monotonic() if waits else (self._engine.last_start_s, self._engine.last_end_s),
            "ready": not said["rebalancing"],
            "banned": self._bans.banned(self._model),
            "all_cooling_s": round(cooling_s, 3),
            "endpoints": self._provider.state(),
        }


@asynccontextmanager
async def new_workers(
    installation: Installation, models: Sequence[str], *, slot: str | None = None
) -> AsyncIterator[list[ModelWorker]]:
    """A worker for each model, not running yet; they share one HTTP session and one follower of the control topic.

    ``slot``: static group membership, only under a supervisor that restarts at once.

    Raises:
        ConfigError: a model is unknown, not served here, or lacks its key.
    """
    for model in models:
        check_served(installation.config, model)
    bans = Bans(installation.clock)
    async with new_session() as session:
        providers = {model: new_provider(installation, model, session) for model in models}
        follower = follow_bans(bans, installation.client, installation.names.of("control"))
        await follower.start()
        try:
            yield [
                ModelWorker(
                    model,
                    providers[model],
                    bans,
                    installation,
                    instance_id=None if slot is None else f"{STAGE}-{model}-{slot}",
                )
                for model in models
            ]
        finally:
            await follower.stop()


def check_served(config: Config, model: str) -> None:
    """``ConfigError`` unless a worker of ours can serve the model."""
    if model not in config.models:
        raise ConfigError(f"models.{model}: there is no such model; there are {', '.join(sorted(config.models))}")
    settings = config.models[model]
    if settings.provider == "external":
        raise ConfigError(f"models.{model}.provider: external, so its worker is not ours to run")
    if settings.concurrency > calls.MOST_CONCURRENCY:
        raise ConfigError(
            f"models.{model}.concurrency: at most {calls.MOST_CONCURRENCY} a worker process; run several processes"
        )


def new_provider(installation: Installation, model: str, session: aiohttp.ClientSession) -> Provider:
    """The provider of a model as configured. ``sim`` is an OpenAI-compatible server like any other."""
    settings = installation.config.models[model]
    places = [
        Place(
            name=endpoint.name,
            base_url=endpoint.base_url,
            key=key_from(endpoint.api_key_env, f"models.{model}"),
            requests_per_minute=endpoint.requests_per_minute,
            tokens_per_minute=endpoint.tokens_per_minute,
            concurrency=endpoint.concurrency,
            weight=endpoint.weight,
        )
        for endpoint in settings.endpoints
    ]
    if settings.provider == "litellm":
        return LiteLlm(places, now_ms=installation.clock)
    patience = Patience(first_token_s=settings.first_token_timeout_s, idle_s=settings.idle_timeout_s)
    return OpenAIHttp(places, session, now_ms=installation.clock, patience=patience)
