import hashlib
import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from router.config import WebConfig
from router.contract.errors import ConfigError
from router.web.keys import asks_for, keys_of

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
