"""What an installation writes to its topics, and how."""

import asyncio
import tomllib

import pytest

from router.cluster import client_of, create_topics
from router.config import loads, show
from router.contract.errors import ConfigError
from router.contract.records import MAX_DEADLINE_MS
from router.contract.topics import DAY_MS, TOPICS, WORK
from router.kafka import admin

MODEL = """
[models.small]
provider = "sim"
input_usd_per_mtok = 1
output_usd_per_mtok = 1
[pools.auto]
models = ["small"]
baseline = "small"
[kafka]
broker = "nowhere:9"
prefix = "shop.llm"
"""


@pytest.mark.parametrize(
    ("topic", "codec"),
    [
        ("results", "none"),
        ("metrics", "none"),
        ("work.small", "none"),
        ("work.small.batch", "none"),
        ("decisions", "snappy"),
        ("usage", "snappy"),
        ("redispatch.batch", "snappy"),
    ],
)
def test_what_only_pointsman_reads_is_compressed(topic, codec):
    assert client_of(loads(MODEL)).codec(f"shop.llm.{topic}") == codec


def test_a_table_of_a_stage_is_no_topic_of_others():
    assert client_of(loads(MODEL)).codec("shop.llm-settle-rows-changelog") == "snappy"


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_a_codec_that_is_named_is_for_all(codec):
    client = client_of(loads(f'{MODEL}compression = "{codec}"'))
    assert {client.codec(f"shop.llm.{topic}") for topic in ("results", "usage", "work.small")} == {codec}


# --- how long topics keep their records ---


def kept(**hours):
    section = "".join(f'"{name}" = {value}, ' for name, value in hours.items())
    return loads(f"{MODEL}retention_hours = {{ {section.rstrip(', ')} }}")


async def settings_of(client, topics):
    async with admin.admin_of(client) as asked:
        while True:
            found = await admin._settings(asked, topics)
            if all("retention.ms" in one for one in found.values()):
                return {name: one["retention.ms"] for name, one in found.items()}
            await asyncio.sleep(0.05)  # the broker has made them, and does not know them yet


async def test_topics_are_made_with_the_retention_that_is_configured_and_refused_when_it_is_too_short(client, prefix):
    config = kept(results=24, work=72)
    kafka = config.kafka.model_copy(update={"broker": client.bootstrap, "prefix": prefix, "partitions": 1})
    config = config.model_copy(update={"kafka": kafka})
    await create_topics(client, config)
    names = [f"{prefix}.{name}" for name in ("results", "work.small", "work.small.batch", "metrics", "requests")]
    found = await settings_of(client, names)
    assert [int(found[name]) / 3_600_000 for name in names] == [24, 72, 72, 7 * 24, 72]
    await create_topics(client, config)
    # Somebody makes a topic of requests that forgets them within an hour.
    short = f"{prefix}2"
    await admin.create_topics(client, {f"{short}.requests": admin.TopicSpec(partitions=1, retention_ms=3_600_000)})
    while not (await admin.partitions_of(client, [f"{short}.requests"]))[f"{short}.requests"]:  # noqa: ASYNC110 - there is no event
        await asyncio.sleep(0.02)  # metadata follows later
    config = config.model_copy(update={"kafka": kafka.model_copy(update={"prefix": short})})
    with pytest.raises(ConfigError, match=rf"{short}\.requests: retention\.ms is 3600000, and 172800000 is the least"):
        await create_topics(client, config)


@pytest.mark.parametrize(
    ("name", "hours", "said"),
    [
        ("requests", 47, "47 hours are too few: 48 is the least"),
        ("work", 1, "48 is the least"),
        ("decisions", 1, "48 is the least"),
        ("weights", 100, "has no effect"),
        ("reviews", 100, "reviews.retention_days"),
        ("pairs", 24, "168 is the least"),
        ("reqests", 100, 'topic "reqests" is not in the registry of topics.*requests'),
        ("results", 0, "must be at least 1, not 0"),
    ],
)
def test_a_retention_that_loses_what_is_still_needed_is_refused(name, hours, said):
    with pytest.raises(ConfigError, match=said) as refused:
        kept(**{name: hours})
    assert f"kafka.retention_hours.{name}" in str(refused.value)


def test_the_least_is_the_longest_deadline_and_a_day():
    least = {topic.name: topic.least_retention_ms for topic in (*TOPICS, WORK)}
    on_the_way = (
        "requests",
        "requests.batch",
        "outcomes",
        "decisions",
        "redispatch",
        "redispatch.batch",
        "work.{model}",
    )
    assert {least[name] for name in on_the_way} == {MAX_DEADLINE_MS + DAY_MS}
    assert all(topic.least_retention_ms <= topic.retention_ms for topic in (*TOPICS, WORK))


def test_what_is_shown_of_it_can_be_read_again():
    shown = tomllib.loads(show(kept(**{"requests.batch": 96, "results": 24})))
    assert shown["kafka"]["retention_hours"] == {"requests.batch": 96, "results": 24}
