"""What users wrote is where it is needed and nowhere else: a run with marked texts, and then everything it left behind is searched for them."""

from __future__ import annotations

import asyncio
import base64
import urllib.error
import urllib.request
from collections import defaultdict

import orjson
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from benchmarks.system import PATIENCE_S, request, wait_for
from router.web.registry import running

PROMPT, METADATA, COMMENT, USER = (
    "canary-prompt-7f3a91",
    "canary-meta-c04e55",
    "canary-comment-19bd20",
    "canary-user-e8812b",
)

#: Topics, without prefix, where each may be; ``work`` stands for all work topics. docs/security.md says the same.
MAY = {
    PROMPT: {"requests", "requests.batch", "work", "dead-letter"},
    METADATA: {
        "requests",
        "requests.batch",
        "work",
        "outcomes",
        "decisions",
        "redispatch",
        "redispatch.batch",
        "results",
    }
    | {"dead-letter", "llm-settle-rows-changelog"},
    COMMENT: {"feedback", "feedback.verified", "dead-letter"},
    USER: {"requests", "requests.batch", "work", "surveys", "dead-letter"},
}
#: Topics that a run surely fills; whatever others there are is searched, too.
SEARCHED = ("decisions", "usage", "metrics", "rewards", "snapshots", "reviews", "weights", "health")
POOLS = ("auto", "shaky", "checked", "judged", "marked", "paced", "guarded", "refusing")


def forms(text):
    """As it is, and as base64 has it at each of three places: what is sealed is no secret."""
    plain = text.encode()
    coded = [base64.b64encode(b" " * at + plain)[4 if at else 0 : -4] for at in range(3)]
    return [plain, *coded]


def asked():
    """Good ones for every pool, and some where the text itself is what is wrong."""
    messages = [{"role": "user", "content": f"Translate: {PROMPT} {'x' * 40}"}]
    good = [
        request(f"private-{pool}-{n}", model=pool, metadata={"note": METADATA}, user=USER, session=f"{pool}-{n}")
        for pool in POOLS
        for n in range(4)
    ]
    for one in good:
        one["body"]["messages"] = messages
    wrong = []
    for n, broken in enumerate(
        (
            {"messages": PROMPT},
            {"messages": [PROMPT]},
            {"messages": [{"role": PROMPT, "content": PROMPT}]},
            {"messages": [{"role": "user", "content": {PROMPT: PROMPT}}]},
            {"messages": messages, "max_tokens": PROMPT},
            {"messages": messages, "tools": PROMPT},
        )
    ):
        one = request(f"private-wrong-{n}")
        one["body"] |= broken
        wrong.append(one)
    return good, wrong


@pytest.fixture(scope="module")
def left_behind(system):
    """Place -> bytes: every record of every topic, every log, what commands and pages say. After a run with all of it."""
    good, wrong = asked()
    system.produce("requests", [*good, *wrong])
    system.produce("requests.batch", [one | {"custom_id": one["custom_id"] + "-b"} for one in good])
    broken = orjson.dumps(request("private-cut", text=PROMPT))[:-5]
    system.produce("requests", [broken], key=b"k")
    count = 2 * len(good) + len(wrong)

    def mine(reads):
        return [one for read in reads if (one := orjson.loads(read.record.value))["custom_id"].startswith("private-")]

    with system.reading("results") as reader:
        assert reader.until(lambda reads: len(mine(reads)) >= count, 90)
        found = mine(reader.reads)
    tokens = [one["router"]["feedback_token"] for one in found if one["error"] is None]
    said = [
        {"feedback_token": one, "kind": "thumbs", "value": 1, "source": "user", "comment": COMMENT} for one in tokens
    ]
    system.produce("feedback", [*said, {**said[0], "feedback_token": "forged"}, {**said[0], "kind": COMMENT}])
    assert wait_for(lambda: len(system.values("rewards")) >= len(tokens) // 2, PATIENCE_S)
    assert wait_for(lambda: len(letters(system)) >= 3, PATIENCE_S)
    assert all(wait_for(lambda topic=topic: system.records(topic), PATIENCE_S) for topic in SEARCHED)
    places = defaultdict(list)
    for record in system.records_of(every_topic(system)):
        places[named(record.topic)] += [record.key or b"", record.value or b""]
        places[named(record.topic)] += [
            part for name, value in record.headers for part in (name.encode(), value or b"")
        ]
    for file in system.data_dir.rglob("*"):
        if file.is_file() and "kafka" not in file.relative_to(system.data_dir).parts and file.name != "sim-calls.jsonl":
            places[f"file {file.relative_to(system.data_dir)}"].append(file.read_bytes())
    places["file up.log"].append((system.folder / "up.log").read_bytes())
    ids = {one["id"] for one in found if one.get("id")}
    for command in (["status"], ["status", "--json"], ["audit"], ["journal"], ["alerts"], ["explain", min(ids)]):
        done = system.run(*command)
        places[f"command {command[0]}"] += [done.stdout.encode(), done.stderr.encode()]
    for process in running(system.data_dir):
        for path in ("/", "/healthz", "/readyz", "/metrics", "/v1/status"):
            places[f"{process.name} {path}"].append(page(f"http://{process.host}:{process.port}{path}"))
    return places


def letters(system):
    return [
        record for record in system.records("dead-letter") if PROMPT.encode() in record.value or forms_in(record.value)
    ]


def forms_in(value):
    return any(form in value for text in (PROMPT, COMMENT) for form in forms(text))


def page(address):
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        return error.read()


def named(topic):
    name = topic.removeprefix("llm.")
    return "work" if name.startswith("work.") else name


def every_topic(system):
    async def ask():
        admin = AIOKafkaAdminClient(bootstrap_servers=system.bootstrap)
        await admin.start()
        try:
            return [topic for topic in await admin.list_topics() if not topic.startswith("__")]
        finally:
            await admin.close()

    return asyncio.run(ask())


@pytest.mark.parametrize("text", MAY)
def test_a_text_is_only_where_it_is_needed(left_behind, text):
    found = {
        place for place, parts in left_behind.items() if any(form in part for part in parts for form in forms(text))
    }
    assert found <= MAY[text]
    assert found, "the search itself finds what is there"


def test_all_of_a_run_was_searched(left_behind):
    topics = {
        "decisions",
        "usage",
        "metrics",
        "alerts",
        "health",
        "weights",
        "reviews",
        "pairs",
        "rewards",
        "snapshots",
    }
    assert topics <= left_behind.keys()
    assert any(place.startswith("file logs/route") for place in left_behind)
    assert all(left_behind.get(place) for place in ("command status", "command audit", "command explain"))
    assert any(place.endswith(" /metrics") for place in left_behind)
    assert any(place.endswith(" /v1/status") and b"verdict" in parts[0] for place, parts in left_behind.items())
