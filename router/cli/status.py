"""``pointsman status``: how the installation is, within a second, also while the broker is down.

Asks the web stage of this machine, else reads the snapshot file that it left, else says how to start. Imports neither
Kafka nor Faust nor an HTTP stack.
"""

from __future__ import annotations

import http.client
import json
import signal
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from router.cli.json_text import json_text
from router.cli.options import common
from router.contract.errors import Unavailable
from router.web.ages import later
from router.web.registry import running

if TYPE_CHECKING:
    from router.config import Config

#: Loopback answers in a few ms; a process that is stopped must not make the on-call person wait.
TIMEOUT_S = 0.3
EVERY_S = 1.0
MAX_BYTES = 64 * 1024 * 1024

Json = dict[str, Any]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document; with --watch one a line.")
@click.option("--watch", is_flag=True, help="Again each second, until Ctrl-C.")
@common
def status(*, config: Config, as_json: bool, watch: bool) -> None:
    """Say how the installation is, figure by figure, each with its age, and what to do next.

    The verdict is one of ok, degraded, failing, unknown. Works also while the broker is down: the figures are then as
    old as they say.
    """
    if as_json:
        _each_second(watch, lambda: click.echo(json_text(find(config), indent=False)))
        return
    from router.cli.status_page import Page

    page = Page()
    if watch and page.interactive:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # the screen is put back however it ends
        with page.live() as show:
            _each_second(watch, lambda: show(find(config)))
    else:
        _each_second(watch, lambda: page.print(find(config)))


def find(config: Config) -> Json:
    """The newest status document there is, its ages moved on to now; ``Unavailable`` when there is none."""
    document = _ask(config.web.host, config.web.port, config.kafka.prefix)
    if document is not None:
        return later(document | {"source": f"http://{config.web.host}:{config.web.port}/v1/status"}, _now_ms())
    here = running(config.kafka.data_dir)
    path = config.kafka.data_dir / "status.json"
    start = "pointsman run web" if here else "pointsman up"
    try:
        document = json.loads(path.read_bytes())
        document |= {"source": str(path), "processes": [_shown(asdict(process)) for process in here]}
        return later(document, _now_ms(), start, abandoned=not here)
    except FileNotFoundError:
        known = f"the web stage does not answer at {config.web.host}:{config.web.port}, and there is no {path}"
        raise Unavailable(f"nothing to show: {known}. Start everything with: {start}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unavailable(f"{path} cannot be read ({error}). Start everything with: {start}") from error


def _ask(host: str, port: int, prefix: str) -> Json | None:
    """The web stage's answer; ``None`` when nobody answers in time, or somebody else does."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/v1/status")
        response = connection.getresponse()
        document = json.loads(response.read(MAX_BYTES)) if response.status == http.client.OK else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    ours = isinstance(document, dict) and "at_ms" in document and document.get("prefix") == prefix
    return document if ours else None


def _shown(process: Json) -> Json:
    return {
        "name": process["name"],
        "pid": process["pid"],
        "address": f"http://{process['host']}:{process['port']}",
        "uptime_s": (_now_ms() - process["started_at_ms"]) / 1000,
    }


def _each_second(watch: bool, show: Any) -> None:
    try:
        show()
        while watch:
            time.sleep(EVERY_S)
            show()
    except KeyboardInterrupt:
        if not watch:
            raise


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
