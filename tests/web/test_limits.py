"""What slow and hostile clients cost, over real sockets on loopback."""

import asyncio
import gzip

import aiohttp
import pytest
from aiohttp import web

from router.web.limits import BodyRefused, Runner, body_of

MOST_BYTES = 1_000


async def echo(request):
    try:
        return web.json_response({"bytes": len(await body_of(request, MOST_BYTES, within_s=0.2))})
    except BodyRefused as error:
        return web.json_response({"error": str(error)}, status=error.status)


@pytest.fixture
async def port():
    app = web.Application()
    app.router.add_post("/", echo)
    runner = Runner(app, most=3, headers_s=0.3, access_log=None, handle_signals=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def post(port, data, **headers):
    url = f"http://127.0.0.1:{port}/"
    async with aiohttp.ClientSession() as session, session.post(url, data=data, headers=headers) as answer:
        return answer.status


async def test_a_body_of_any_usual_size_is_read(port):
    assert await post(port, b"") == 200
    assert await post(port, b"x" * MOST_BYTES) == 200
    assert await post(port, b"x" * (MOST_BYTES + 1)) == 413


async def test_a_compressed_body_is_not_even_looked_at(port):
    bomb = gzip.compress(b"0" * 10_000_000)
    for encoding in ("gzip", "deflate", "br", "zstd", "GZIP ", "nonsense"):
        assert await post(port, bomb[:MOST_BYTES], **{"Content-Encoding": encoding}) == 415


async def test_a_body_that_drips_is_given_up(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\nx")
    assert b" 408 " in await reader.readline()
    writer.close()


async def test_headers_that_drip_end_the_connection(port):
    """Each byte in time, the whole never: the time is of all headers, not of a byte."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\n")
    ended = asyncio.create_task(reader.read())
    for _ in range(400):
        if ended.done():
            break
        writer.write(b"x: y\r\n")
        await asyncio.sleep(0.05)
    assert ended.done(), "it waits for as long as something drips"
    [answer] = await asyncio.gather(ended, return_exceptions=True)
    assert answer == b"" or isinstance(answer, ConnectionError)
    writer.close()


async def test_beyond_the_most_connections_none_is_kept_and_places_become_free_again(port):
    kept = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    await asyncio.sleep(0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    [answer] = await asyncio.gather(reader.read(), return_exceptions=True)
    assert answer == b"" or isinstance(answer, ConnectionError)
    writer.close()
    for one, _ in kept:
        assert await one.read() == b""  # they said nothing within their time
    assert await post(port, b"x") == 200
    for _, one in kept:
        one.close()
