import hashlib
import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from router.config import WebConfig, loads
from router.contract.errors import ConfigError
from router.core.keyring import Keyring
from router.kafka.client import Client
from router.stages.context import Context
from router.web.keys import LOOK_S, OPEN, RANKS, KeyFile, _known, asking, asks_for, keys_of
from router.web.stage import WebStage
from router.web.watchdog import Watchdog

MINIMAL = """
[models.m]
base_url = "http://127.0.0.1:1/v1"
input_usd_per_mtok = 1
output_usd_per_mtok = 1
[pools.auto]
models = ["m"]
"""
SECRET = "s3cret"
GOOD = json.dumps([{"sha256": hashlib.sha256(SECRET.encode()).hexdigest(), "tenant": "acme", "role": "viewer"}])


def test_without_keys_only_loopback_is_served():
    assert keys_of(WebConfig()) == []
    assert keys_of(WebConfig(host="::1")) == []
    for host in ("0.0.0.0", "192.0.2.1", "example.org"):
        with pytest.raises(ConfigError, match="only loopback"):
            keys_of(WebConfig(host=host))


def test_with_keys_any_host_is_served():
    assert keys_of(WebConfig(host="0.0.0.0", keys_env="KEYS"), {"KEYS": GOOD})[0].tenant == "acme"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "KEYS is not set"),
        ("", "KEYS"),
        ("[]", "at least 1"),
        ('[{"sha256": "abc", "tenant": "a", "role": "viewer"}]', r"\[0\].sha256"),
        (GOOD.replace("viewer", "god"), r"\[0\].role"),
    ],
)
def test_what_is_wrong_with_keys_is_said_without_showing_them(text, said):
    with pytest.raises(ConfigError, match=said) as refused:
        keys_of(WebConfig(keys_env="KEYS"), {} if text is None else {"KEYS": text})
    assert hashlib.sha256(SECRET.encode()).hexdigest() not in str(refused.value)


@pytest.mark.parametrize(
    ("path", "authorization", "status"),
    [
        ("/v1/status", f"Bearer {SECRET}", 200),
        ("/v1/status", f"bearer  {SECRET} ", 200),
        ("/v1/status", None, 401),
        ("/v1/status", "Bearer wrong", 401),
        ("/v1/status", SECRET, 401),
        ("/v1/status", "Bearer", 401),
        ("/nothing", None, 401),
        ("/healthz", None, 200),
    ],
)
async def test_all_but_health_and_metrics_asks_for_a_key(path, authorization, status):
    async def answer(_request):
        return web.Response()

    app = web.Application(middlewares=[asks_for(keys_of(WebConfig(keys_env="K"), {"K": GOOD}))])
    app.router.add_get("/v1/status", answer)
    app.router.add_get("/healthz", answer)
    async with TestClient(TestServer(app)) as client:
        found = await client.get(path, headers={"Authorization": authorization} if authorization else {})
        assert found.status == status


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/v1/status", {"Host": "evil.example"}, 421),
        ("GET", "/v1/status", {"Host": "evil.example:8080"}, 421),
        ("GET", "/v1/status", {"Host": "127.0.0.1.evil.example"}, 421),
        ("GET", "/v1/status", {"Host": "192.0.2.1:8080"}, 421),
        ("GET", "/v1/status", {"Host": ""}, 421),
        ("GET", "/v1/status", {"Host": "localhost"}, 200),
        ("GET", "/v1/status", {"Host": "LOCALHOST:99"}, 200),
        ("GET", "/v1/status", {"Host": "[::1]:8080"}, 200),
        ("GET", "/healthz", {"Host": "evil.example"}, 200),
        ("POST", "/v1/status", {"Host": "localhost:1"}, 200),
        ("POST", "/v1/status", {"Host": "localhost:1", "Origin": "http://localhost:1"}, 200),
        ("POST", "/v1/status", {"Host": "localhost:1", "Origin": "http://localhost:2"}, 403),
        ("POST", "/v1/status", {"Host": "localhost:1", "Origin": "null"}, 403),
        ("POST", "/v1/status", {"Host": "localhost:1", "Origin": "https://evil.example"}, 403),
        ("POST", "/v1/status", {"Host": "localhost:1", "Sec-Fetch-Site": "cross-site"}, 403),
        ("POST", "/v1/status", {"Host": "localhost:1", "Sec-Fetch-Site": "same-site"}, 403),
        ("POST", "/v1/status", {"Host": "localhost:1", "Sec-Fetch-Site": "same-origin"}, 200),
        (
            "POST",
            "/v1/status",
            {"Host": "localhost:1", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
            403,
        ),
        (
            "GET",
            "/v1/status",
            {"Host": "localhost:1", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
            403,
        ),
        (
            "GET",
            "/v1/status",
            {"Host": "localhost:1", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
            200,
        ),
    ],
)
async def test_without_keys_no_page_of_another_site_reaches_anything(method, path, headers, status):
    async def answer(_request):
        return web.Response()

    app = web.Application(middlewares=[asks_for([])])
    app.router.add_route(method, path, answer)
    async with TestClient(TestServer(app)) as client:
        assert (await client.request(method, path, headers=headers)).status == status


# --- a file of keys, and roles ---


def row(secret, role="viewer", tenant="acme"):
    return {"sha256": hashlib.sha256(secret.encode()).hexdigest(), "tenant": tenant, "role": role}


class Served:
    """The keys of a file before one path, and a clock that a test moves."""

    def __init__(self, folder):
        self.now_s = 0.0
        self.place = folder / "keys.json"

    def write(self, *rows):
        fresh = self.place.with_suffix(".new")
        fresh.write_text(json.dumps(rows))
        fresh.replace(self.place)

    def app(self):
        async def answer(_request):
            return web.Response(text=asking.get().tenant)

        app = web.Application(middlewares=[asks_for(KeyFile(self.place, clock_s=lambda: self.now_s))])
        app.router.add_get("/v1/status", answer)
        return app


async def status_for(client, secret, method="GET", path="/v1/status"):
    return (await client.request(method, path, headers={"Authorization": f"Bearer {secret}"})).status


async def test_keys_in_a_file_are_replaced_without_a_restart(tmp_path):
    served = Served(tmp_path)
    served.write(row("old"))
    async with TestClient(TestServer(served.app())) as client:
        assert await status_for(client, "old") == 200
        served.write(row("old"), row("new"))  # both, while those who ask change over
        served.now_s += LOOK_S
        assert [await status_for(client, one) for one in ("old", "new")] == [200, 200]
        served.write(row("new"))
        served.now_s += LOOK_S
        assert [await status_for(client, one) for one in ("old", "new")] == [401, 200]


@pytest.mark.parametrize("text", ["", "[]", "{", '[{"sha256": "s3cret"}]', None])
async def test_a_file_that_is_none_any_more_changes_nothing_and_is_said(tmp_path, caplog, text):
    served = Served(tmp_path)
    served.write(row("old"))
    async with TestClient(TestServer(served.app())) as client:
        assert await status_for(client, "old") == 200
        if text is None:
            served.place.unlink()
        else:
            served.place.write_text(text)
        served.now_s += LOOK_S
        assert [await status_for(client, one) for one in ("old", "other")] == [200, 401]
        assert "the keys stay as they were: web.keys_file" in caplog.text
        assert SECRET not in caplog.text
        served.write(row("other"))
        served.now_s += LOOK_S
        assert [await status_for(client, one) for one in ("old", "other")] == [401, 200]


def test_a_process_does_not_begin_without_its_keys(tmp_path):
    with pytest.raises(ConfigError, match=r"web\.keys_file: .*no such file"):
        keys_of(WebConfig(keys_file=tmp_path / "none"))
    (tmp_path / "keys").write_text("[]")
    with pytest.raises(ConfigError, match="at least 1"):
        keys_of(WebConfig(keys_file=tmp_path / "keys"))
    (tmp_path / "keys").write_text(GOOD)
    assert [key.tenant for key in keys_of(WebConfig(host="0.0.0.0", keys_file=tmp_path / "keys"))] == ["acme"]


def test_every_key_is_compared_and_in_constant_time(monkeypatch):
    """How long an answer takes tells neither how much of a key fits nor which of them."""
    compared = []
    keys = keys_of(WebConfig(keys_env="K"), {"K": json.dumps([row("one"), row("two"), row("three")])})

    def compare(known, shown):
        compared.append((known, shown))
        return known == shown

    monkeypatch.setattr("router.web.keys.hmac.compare_digest", compare)
    assert _known("Bearer one", keys) == keys[0]
    assert [known for known, _ in compared] == [key.sha256 for key in keys]
    assert {shown for _, shown in compared} == {hashlib.sha256(b"one").hexdigest()}


WANTED = {
    ("GET", "/v1/status"): "viewer",
    ("GET", "/"): "viewer",
    ("GET", "/v1/reviews"): "operator",
    ("POST", "/v1/reviews"): "operator",
    # What is not there yet: to read takes a viewer, to change anything an operator.
    ("GET", "/v1/later"): "viewer",
    ("DELETE", "/v1/later"): "operator",
}


async def test_every_path_of_the_web_stage_asks_for_its_role(tmp_path, monkeypatch):
    monkeypatch.setenv("KEYS", json.dumps([row(role, role) for role in RANKS]))
    config = loads(MINIMAL + '[web]\nport = 0\nkeys_env = "KEYS"\n')
    context = Context(
        config=config, client=Client("127.0.0.1:1"), keyring=Keyring((b"k" * 32,)), data_dir=tmp_path, partitions=1
    )
    stage = WebStage(context, Watchdog([], lambda why: None))
    monkeypatch.setattr(stage.review_log, "_patience_s", 0.0)  # there is no broker to wait for
    app = stage.server._runner.app
    there = {(route.method, route.resource.canonical) for route in app.router.routes() if route.method != "HEAD"}
    assert there == {(method, path) for method, path in WANTED if path != "/v1/later"} | {
        ("GET", path) for path in OPEN
    }
    async with TestClient(TestServer(app)) as client:
        for (method, path), least in WANTED.items():
            for role in RANKS:
                found = await client.request(method, path, headers={"Authorization": f"Bearer {role}"})
                allowed = RANKS.index(role) >= RANKS.index(least)
                assert (found.status == 403) is not allowed, (method, path, role, found.status)
                assert found.status != 401
            assert await status_for(client, "unknown", method, path) == 401
