"""A secret in every place that takes one, and then all that is printed, logged or answered is searched for it. And nothing is fetched from an address
that did not come from the configuration."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from pathlib import Path

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from click.testing import CliRunner

import router
from router.app import keyring_of
from router.cli import cli
from router.cli import run as run_command
from router.cluster import client_of
from router.config import load
from router.config.kinds import masked
from router.contract.errors import PointsmanError
from router.contract.records import Work
from router.contract.topics import Names
from router.kafka.client import Client
from router.stages.context import Context
from router.web.notify import Notifier
from router.web.stage import WebStage
from router.web.watchdog import Watchdog
from router.work.endpoints import Place
from router.work.openai_http import OpenAIHttp, key_from, new_session

SIGNING, PASSWORD, PROVIDER, BEARER, HOOK, QUERY = (
    "signing-secret-" + "s" * 40,
    "kafka-password-p4ss",
    "sk-provider-key-0001",
    "bearer-key-b34r3r",
    "T00/B00/hook-secret",
    "query-secret-q1",
)
SECRETS = (SIGNING, PASSWORD, PROVIDER, BEARER, HOOK, QUERY)
CONFIG = f"""
[models.small]
base_url = "http://127.0.0.1:1/v1?key={QUERY}"
api_key_env = "PROVIDER_KEY"
input_usd_per_mtok = 1
output_usd_per_mtok = 1
[[models.large.endpoints]]
name = "e"
base_url = "http://127.0.0.1:1/v1?key={QUERY}"
api_key_env = "PROVIDER_KEY"
[models.large]
unpriced = true
[pools.auto]
models = ["small", "large"]
[kafka]
broker = "127.0.0.1:1"
security_protocol = "SASL_PLAINTEXT"
sasl_username = "u"
sasl_password_file = "password"
[security]
secret_env = "SIGNING"
[guard]
webhook_url = "https://hooks.example.com/{HOOK}"
alertmanager_url = "http://alerts.example.com/{HOOK}"
[web]
port = 0
keys_env = "KEYS"
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with that configuration, and the secrets that it names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pointsman.toml").write_text(CONFIG)
    (tmp_path / "password").write_text(PASSWORD + "\n")
    monkeypatch.setenv("SIGNING", SIGNING)
    monkeypatch.setenv("PROVIDER_KEY", PROVIDER)
    monkeypatch.setenv("POINTSMAN_KAFKA__DATA_DIR", str(tmp_path / "data"))
    digest = hashlib.sha256(BEARER.encode()).hexdigest()
    monkeypatch.setenv("KEYS", json.dumps([{"sha256": digest, "tenant": "acme", "role": "admin"}]))
    return tmp_path


def secrets_in(text):
    digest = hashlib.sha256(BEARER.encode()).hexdigest()
    return [one for one in (*SECRETS, digest) if one in text]


COMMANDS = (
    ["config", "show"],
    ["config", "check"],
    ["status"],
    ["status", "--json"],
    ["topics", "create"],
    ["topics", "acls", "settle"],
    ["audit"],
    ["explain", "0" * 32],
    ["pin", "pool:auto", "--model", "small", "--by", "me", "--reason", "r"],
    ["worker", "nobody"],
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_command_prints_a_secret(place, command, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    run_command(command)
    printed = "".join(capfd.readouterr())
    assert printed, "it says something"
    assert secrets_in(printed + caplog.text) == []


@pytest.mark.parametrize(
    ("broken", "value"),
    [
        ("SIGNING", "short-" + "x" * 5),
        ("PROVIDER_KEY", "sk with spaces \x1b[31m"),
        ("KEYS", '[{"sha256": "not-a-hash-but-the-key-itself", "tenant": "a", "role": "admin"}]'),
        ("KEYS", "the-key-itself"),
    ],
)
def test_what_is_wrong_with_a_secret_is_said_without_it(place, broken, value, monkeypatch):
    monkeypatch.setenv(broken, value)
    config = load(None)
    said = []
    for begin in (
        lambda: keyring_of(config),
        lambda: key_from("PROVIDER_KEY", "models.small"),
        lambda: WebStage(context_of(config, keyring_of(config), place), Watchdog([], lambda why: None)),
    ):
        try:
            begin()
        except PointsmanError as error:
            said.append(str(error))
    assert said
    assert not [text for text in said if value in text or "the-key-itself" in text]


def context_of(config, keyring, folder):
    return Context(config=config, client=Client("127.0.0.1:1"), keyring=keyring, data_dir=folder / "data", partitions=1)


def test_what_holds_a_secret_does_not_show_it(place):
    config = load(None)
    holders = [config, client_of(config), keyring_of(config), Place(name="e", base_url="http://e", key=PROVIDER)]
    for one in holders[1:]:
        assert secrets_in(repr(one)) == [], type(one)
        assert secrets_in(str(one)) == [], type(one)


async def test_no_page_shows_a_secret(place):
    config = load(None)
    stage = WebStage(context_of(config, keyring_of(config), place), Watchdog([], lambda why: None))
    async with TestClient(TestServer(stage.server._runner.app)) as client:
        for path in ("/", "/healthz", "/readyz", "/metrics", "/v1/status", "/review", "/nothing"):
            answer = await client.get(path, headers={"Authorization": f"Bearer {BEARER}"})
            assert secrets_in(await answer.text() + str(answer.headers)) == [], path


def test_an_address_is_shown_by_its_host(place):
    done = CliRunner().invoke(cli, ["config", "show"])
    assert 'webhook_url = "https://hooks.example.com/***"' in done.output
    assert "http://127.0.0.1:1/v1?***" in done.output
    assert masked("https://h") == "https://h"


# --- whose addresses are asked ---


@pytest.fixture
def new_work():
    def make(**changes):
        fields = {
            "request_id": "0" * 32,
            "attempt": 1,
            "model": "small",
            "provider_model": "small-2026",
            "url": "/v1/chat/completions",
            "body": {"messages": [{"role": "user", "content": "?"}]},
            "deadline_at_ms": 2**41,
            "reason": "routed",
            "outcome_partition": 0,
            "slip": "slip",
        }
        return Work(**fields | changes)

    return make


async def serve(handler):
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    server = TestServer(app)
    await server.start_server()
    return server


async def test_no_address_in_a_request_is_ever_asked(new_work):
    asked = []

    async def trap(request):
        asked.append(str(request.url))
        return web.Response(text="secret of a neighbour")

    async def model(_request):
        answer = {"choices": [{"message": {"content": "ok"}, "finish_reason": "stop"}], "model": "m"}
        return web.json_response(answer)

    inside, provider = await serve(trap), await serve(model)
    url = str(inside.make_url("/latest/meta-data"))
    body = {
        "model": url,
        "base_url": url,
        "api_base": url,
        "messages": [
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": url}],
            }
        ],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"schema": {"$ref": url, "$schema": url, "$id": url}},
        },
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"$ref": url}}}],
        "metadata": {"webhook_url": url, "callback": url},
    }
    async with new_session() as session:
        caller = OpenAIHttp([Place(name="e", base_url=str(provider.make_url("/")))], session)
        answer = await caller.call(new_work(body=body, provider_model=url), budget_s=5, headers={})
    assert answer.status == "ok"
    assert asked == []
    await inside.close()
    await provider.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_provider_sends_us_nowhere_and_takes_no_key_along(new_work, status):
    asked = []

    async def trap(request):
        asked.append(dict(request.headers))
        return web.Response()

    inside = await serve(trap)

    async def away(_request):
        return web.Response(status=status, headers={"Location": str(inside.make_url("/"))})

    provider = await serve(away)
    async with new_session() as session:
        caller = OpenAIHttp([Place(name="e", base_url=str(provider.make_url("/")), key=PROVIDER)], session)
        answer = await caller.call(new_work(), budget_s=5, headers={})
    assert answer.status == "error"
    assert asked == []
    await inside.close()
    await provider.close()


@pytest.mark.parametrize("status", [302, 307])
async def test_an_alert_goes_where_the_configuration_says_and_no_further(status, caplog):
    asked = []

    async def trap(request):
        asked.append(await request.read())
        return web.Response()

    inside = await serve(trap)

    async def away(_request):
        return web.Response(status=status, headers={"Location": str(inside.make_url("/"))})

    hook = await serve(away)
    address = str(hook.make_url(f"/{HOOK}"))
    notifier = Notifier(Client("127.0.0.1:1"), Names(), address, None)
    async with new_session() as session:
        await notifier._post(session, address, orjson.dumps({}))
    assert asked == []
    assert f"HTTP {status}" in caplog.text
    assert secrets_in(caplog.text) == []
    await inside.close()
    await hook.close()


def test_addresses_come_from_the_configuration_alone():
    """Whoever adds a client of HTTP is to look here, and say where its addresses come from."""
    makes = re.compile(r"ClientSession\(|urlopen\(|httpx\.|import requests\b|http\.client|socket\.create_connection")
    root = Path(router.__file__).parent
    found = {str(file.relative_to(root)) for file in root.rglob("*.py") if makes.search(file.read_text())}
    assert found == {
        "work/openai_http.py",  # models.*.base_url
        "web/notify.py",  # guard.webhook_url, guard.alertmanager_url
        "up.py",  # its own processes, on loopback
        "cli/status.py",
        "demo/play.py",
        "demo/trap.py",
    }
