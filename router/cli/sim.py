"""``sim``: a simulated OpenAI-compatible provider."""

from __future__ import annotations

from pathlib import Path

import click

from router.contract.errors import ConfigError

DEFAULT_PORT = 8089


@click.command
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="0: any free one.")
@click.option("--behaviour", metavar="FILE", help="TOML: latency, errors, quality and length by model.")
@click.option("--log", "log_path", metavar="FILE", help="Call log: a JSON line when a call starts and when it ends.")
def sim(port: int, behaviour: str | None, log_path: str | None) -> None:
    """Serve simulated models on 127.0.0.1: chat completions, embeddings, live changes at /sim/behaviour."""
    import asyncio

    asyncio.run(_serve(port, Path(behaviour) if behaviour else None, Path(log_path) if log_path else None))


async def _serve(port: int, behaviour: Path | None, log_path: Path | None) -> None:
    import asyncio
    import signal

    from router.work.behaviour import World, read_world
    from router.work.sim import Simulator, serving

    world = read_world(behaviour) if behaviour else World()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    try:
        async with serving(Simulator(world, log_path), port) as url:
            click.echo(f"simulated provider at {url}; Ctrl-C ends it")
            await ended.wait()
    except OSError as error:
        raise ConfigError(f"--port {port}: {error.strerror or error}") from None
