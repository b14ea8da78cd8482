"""The means of disturbing do what they say: a fault that never happened would show nothing."""

import asyncio
import contextlib
import os
import shutil
import signal
import struct
import subprocess
import sys
import time

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.disturb.proxy import Proxy
from benchmarks.disturb.rig import CLOCK, PARTITIONS, Rig
from router.config import load
from router.kafka.admin import TopicSpec, create_topics
from router.kafka.client import Client
from router.kafka.embedded import EmbeddedKafka
from router.kafka.embedded_cluster import EmbeddedCluster


@pytest.fixture(scope="module")
def echo():
    """A server that sends back what it gets."""
    code = (
        "import asyncio, sys\n"
        "async def serve(reader, writer):\n"
        "    while data := await reader.read(65536): writer.write(data)\n"
        "async def main():\n"
        "    server = await asyncio.start_server(serve, '127.0.0.1', 0)\n"
        "    print(server.sockets[0].getsockname()[1], flush=True)\n"
        "    await server.serve_forever()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        yield int(process.stdout.readline())
        process.kill()


@contextlib.asynccontextmanager
async def connected(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def round_trip_s(reader, writer, data=b"x" * 100_000):
    began_s = time.monotonic()
    writer.write(data)
    assert await reader.readexactly(len(data)) == data
    return time.monotonic() - began_s


async def test_a_network_delays_keeps_back_and_cuts_and_heals(echo):
    with Proxy() as proxy:
        proxy.start(echo)
        async with connected(proxy.port) as (reader, writer):
            await round_trip_s(reader, writer)
            proxy.delay(150)
            assert await round_trip_s(reader, writer) >= 0.3  # there and back
            proxy.mute()
            held = asyncio.create_task(round_trip_s(reader, writer))
            await asyncio.wait([held], timeout=0.5)
            assert not held.done()
            proxy.heal()
            assert await held >= 0.5
            proxy.cut()
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await round_trip_s(reader, writer)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            async with connected(proxy.port) as (reader, writer):
                await round_trip_s(reader, writer)
        proxy.heal()
        async with connected(proxy.port) as (reader, writer):
            await round_trip_s(reader, writer)


async def test_clients_of_a_broker_behind_a_network_go_through_it(tmp_path):
    with Proxy() as proxy, EmbeddedKafka(data_dir=tmp_path, advertised=proxy.port) as kafka:
        proxy.start(int(kafka.bootstrap.rpartition(":")[2]))
        client = Client(f"127.0.0.1:{proxy.port}")
        await create_topics(client, {"through": TopicSpec(partitions=1)})
        async with AIOKafkaProducer(**client.aiokafka()) as producer:
            await producer.send_and_wait("through", b"before")
            proxy.mute()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(producer.send_and_wait("through", b"during"), 1.0)
            proxy.heal()
            await producer.send_and_wait("through", b"after")


def test_a_clock_is_moved_from_outside_and_the_monotonic_one_is_not(tmp_path):
    code = "import time\nwhile input(): print(time.time_ns() // 10**9, int(time.time()), int(time.monotonic()), flush=True)"
    env = os.environ | {"PYTHONPATH": str(CLOCK), "POINTSMAN_CLOCKS": str(tmp_path)}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def beside():
            process.stdin.write("now\n")
            process.stdin.flush()
            told, real = [int(one) for one in process.stdout.readline().split()], time.time()
            return [round(one - now, -2) for one, now in zip(told, (real, real, time.monotonic()), strict=True)]

        assert beside() == [0, 0, 0]
        with (tmp_path / str(process.pid)).open("r+b") as file:
            file.write(struct.pack("<q", -3600 * 10**9))
        assert beside() == [-3600, -3600, 0]
        process.kill()


async def test_of_three_brokers_any_may_be_lost_and_come_back():
    with EmbeddedCluster() as cluster:
        client = Client(cluster.bootstrap)
        await create_topics(client, {"copied": TopicSpec(partitions=6, replication=3)})
        async with AIOKafkaProducer(transactional_id="writer", **client.aiokafka()) as producer:
            for number in range(3):
                async with producer.transaction():
                    for partition in range(6):
                        await producer.send("copied", b"%d" % number, partition=partition)
                os.kill(cluster.brokers[number].pid, signal.SIGKILL)
                async with producer.transaction():
                    for partition in range(6):
                        await producer.send("copied", b"while %d is lost" % number, partition=partition)
                cluster.start_again(number)
        async with AIOKafkaConsumer(
            "copied", isolation_level="read_committed", auto_offset_reset="earliest", **client.aiokafka()
        ) as consumer:
            found = [await consumer.getone() for _ in range(36)]
        assert len({(record.partition, record.value) for record in found}) == 36


@pytest.mark.parametrize(("brokers", "copies"), [("own", 1), ("proxied", 1), ("three", 3)])
def test_an_installation_to_be_disturbed_has_a_configuration_with_any_brokers(brokers, copies):
    rig = Rig(brokers)
    try:
        kafka = load(rig.folder / "pointsman.toml", environ={}).kafka
    finally:
        shutil.rmtree(rig.folder)
    assert (kafka.partitions, kafka.replication_factor) == (PARTITIONS, copies)
