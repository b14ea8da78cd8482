"""What an installation writes to its topics, and how."""

import pytest

from router.cluster import client_of
from router.config import loads

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
