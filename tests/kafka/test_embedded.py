"""The embedded broker: what it promises when all is well, and what it says when not."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from router.contract.errors import ConfigError, Unavailable
from router.kafka.admin import TopicSpec, committed, create_topics, partitions_of
from router.kafka.client import Client
from router.kafka.embedded import EmbeddedKafka
from router.kafka.writer import Writer
from tests.kafka.support import until, until_committed


async def test_a_kept_folder_keeps_port_and_topics(tmp_path):
    with EmbeddedKafka(data_dir=tmp_path) as kafka:
        first = kafka.bootstrap
        await create_topics(Client(first), {"kept": TopicSpec(partitions=3)})
    with EmbeddedKafka(data_dir=tmp_path) as kafka:
        assert kafka.bootstrap == first
        assert await partitions_of(Client(first), ["kept"]) == {"kept": 3}


def test_a_taken_port_is_named():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(Unavailable, match=f"port {port} on 127.0.0.1 is taken"):
            EmbeddedKafka(port=port).start()


def test_a_second_broker_in_a_folder_is_refused_and_the_folder_named(tmp_path):
    with EmbeddedKafka(data_dir=tmp_path), pytest.raises(ConfigError, match=str(tmp_path)):
        EmbeddedKafka(data_dir=tmp_path).start()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(Unavailable, match=str(blocked)):
        EmbeddedKafka(data_dir=blocked).start()


def test_without_a_download_it_says_what_to_do(tmp_path):
    code = (
        "from router.kafka.embedded import EmbeddedKafka; from router.contract.errors import Unavailable\n"
        f"try: EmbeddedKafka(cache_dir={str(tmp_path)!r}).start()\n"
        "except Unavailable as error: print(error)"
    )
    nowhere = {
        "HOME": str(tmp_path),
        "https_proxy": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "no_proxy": "",
    }
    upper = {name.upper(): value for name, value in nowhere.items()}
    told = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **nowhere, **upper}, capture_output=True, text=True, check=True
    ).stdout
    assert "Is a Maven repository reachable" in told
    assert "--broker" in told


def test_it_dies_with_a_program_that_is_killed(tmp_path):
    code = (
        "import time\nfrom router.kafka.embedded import EmbeddedKafka\n"
        f"kafka = EmbeddedKafka(data_dir={str(tmp_path)!r}).start()\nprint(kafka.pid, flush=True)\ntime.sleep(60)"
    )
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    pid = int(program.stdout.readline())
    program.stdout.close()
    program.kill()
    program.wait()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < deadline, "the broker outlived its program"
        time.sleep(0.02)
    with EmbeddedKafka(data_dir=tmp_path) as again:  # and its folder is free again
        os.kill(again.pid, signal.SIG_DFL)


PRODUCERS = 16


async def test_a_transaction_that_a_crash_cut_short_is_whole_or_gone(tmp_path):
    """Outputs and offsets of commits whose markers the broker had not written yet when it was killed."""
    async with asyncio.timeout(300):
        for _ in range(2):
            with EmbeddedKafka(data_dir=tmp_path) as kafka:
                writers, reached = await writers_of(Client(kafka.bootstrap))
                before = min(reached)
                working = [asyncio.create_task(write(*pair, reached, 10_000)) for pair in enumerate(writers)]
                await until(lambda before=before, reached=reached: min(reached) >= before + 20)
                os.kill(kafka.pid, signal.SIGKILL)
                for task in working:
                    task.cancel()
                leaving = [
                    asyncio.create_task(writer.stop()) for writer in writers
                ]  # some wait for the broker, in vain
                await asyncio.wait(leaving, timeout=1.0)
        with EmbeddedKafka(data_dir=tmp_path) as kafka:
            client = Client(kafka.bootstrap)
            writers, reached = await writers_of(client)
            await asyncio.gather(*(write(*pair, reached, 1) for pair in enumerate(writers)))
            for topic in ("a", "b"):
                values = {each: [] for each in range(PRODUCERS)}
                for record in await until_committed(client, topic, sum(reached)):
                    values[record.partition].append(int(record.value))
                assert values == {each: list(range(reached[each])) for each in range(PRODUCERS)}
            assert "while trying to send transaction markers" not in (tmp_path / "broker.log").read_text()
            await asyncio.gather(*(writer.stop() for writer in writers))


async def writers_of(client):
    """Producers with names of their own, started, and how far each has come by the offset it has committed."""
    await create_topics(client, dict.fromkeys(("source", "a", "b"), TopicSpec(partitions=PRODUCERS)))
    writers = [Writer(client, "group", f"{each}", each, 6.0) for each in range(PRODUCERS)]
    await asyncio.gather(*(writer.start(("a", "b")) for writer in writers))
    tps = [TopicPartition("source", each) for each in range(PRODUCERS)]
    found = await committed(client, "group", tps)
    return writers, [max(0, found[tp].offset) for tp in tps]


async def write(each, writer, reached, turns):
    """The number of each turn into both topics, and as the offset of what is done."""
    for _ in range(turns):
        record = [(None, b"%d" % reached[each], [])]
        await writer.commit({("a", each): record, ("b", each): record}, {("source", each): reached[each] + 1})
        reached[each] += 1
