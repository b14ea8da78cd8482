"""``schemas/asyncapi.yaml``: every public topic as an AsyncAPI 3.0 channel, its record as a message, who sends and receives.

Written from the view of the product: it *receives* what users, people and workers write and *sends* everything else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from router.contract.topics import TOPICS, WORK, Names, Topic
from router.contract.versions import MAJOR

#: Version of the records, as the Kafka header ``schema`` carries it.
VERSION = str(MAJOR)

Tree = dict[str, Any]

_OUTSIDE = frozenset({"users", "people", "workers"})

_ABOUT = """\
Requests to language models go in, each to the model that is good enough for it, and exactly one result a request comes out.
All values are UTF-8 JSON objects. Readers use read_committed. Unknown fields are ignored, except in request bodies and
metadata, where they are kept. Integers are written without a fraction: 1.0 is refused where an integer is expected. Topic
names begin with the configured prefix, here llm. Topics that are not named here are internal."""


def file_of(kind: type) -> str:
    """The schema's file name: ``DeadLetter`` -> ``dead-letter.json``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind.__name__).lower() + ".json"


def document(schemas: Mapping[type, Tree]) -> str:
    """The AsyncAPI document as YAML; ``schemas``: kind of record -> its JSON Schema."""
    topics = [topic for topic in TOPICS if topic.public]
    topics += [WORK, replace(WORK, name=f"{WORK.name}.batch")]
    tree: Tree = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "pointsman",
            "version": VERSION,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "{broker}",
                "protocol": "kafka",
                "variables": {"broker": {"default": "127.0.0.1:9092", "description": "As in `--broker`."}},
            }
        },
        "channels": {_id(topic): _channel(topic) for topic in topics},
        "operations": {f"{_action(topic)}_{_id(topic)}": _operation(topic) for topic in topics},
        "components": {"messages": {kind.__name__: _message(kind, schema) for kind, schema in schemas.items()}},
    }
    return "".join(_yaml(tree))


def _id(topic: Topic) -> str:
    return re.sub(r"[^a-z]+", "_", topic.name.replace("{model}", "model"))


def _action(topic: Topic) -> str:
    return "receive" if topic.writes.split(",")[0] in _OUTSIDE else "send"


def _kind(topic: Topic) -> str:
    if topic.record is None:
        raise ValueError(f"{topic.name} is internal")
    return topic.record.__name__


def _channel(topic: Topic) -> Tree:
    channel: Tree = {
        "address": f"{Names().prefix}.{topic.name}",
        "description": f"Key: {topic.key}. Written by {topic.writes}, read by {topic.reads}.",
        "messages": {_kind(topic): {"$ref": f"#/components/messages/{_kind(topic)}"}},
    }
    if "{model}" in topic.name:
        channel["parameters"] = {"model": {"description": "Name of a configured model."}}
    configuration: Tree = {"cleanup.policy": [topic.cleanup], "max.message.bytes": topic.max_bytes}
    if topic.cleanup == "delete":
        configuration["retention.ms"] = topic.retention_ms
    channel["bindings"] = {"kafka": {"topicConfiguration": configuration, "bindingVersion": "0.5.0"}}
    return channel


def _operation(topic: Topic) -> Tree:
    channel = f"#/channels/{_id(topic)}"
    return {
        "action": _action(topic),
        "channel": {"$ref": channel},
        "summary": f"{topic.writes} -> {topic.reads}",
        "messages": [{"$ref": f"{channel}/messages/{_kind(topic)}"}],
    }


def _message(kind: type, schema: Tree) -> Tree:
    return {
        "name": kind.__name__,
        "title": schema["title"],
        "summary": schema["description"],
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "properties": {
                "schema": {"type": "string", "description": "Version of the record; absent means 1."},
                "traceparent": {"type": "string", "description": "W3C trace context, passed through every hop."},
            },
        },
        "payload": {"$ref": f"./{file_of(kind)}"},
        "examples": [
            {"name": f"{kind.__name__}{number}", "payload": example}
            for number, example in enumerate(schema["examples"], start=1)
        ],
    }


def _yaml(value: Tree | list[Any], indent: str = "") -> Iterator[str]:
    """Block style; a scalar is written as JSON, which is YAML, so nothing is ever taken for something else."""
    pairs = value.items() if isinstance(value, dict) else ((None, item) for item in value)
    for key, item in pairs:
        lead = f"{indent}- " if key is None else f"{indent}{_scalar(key)}:"
        if not isinstance(item, dict | list) or not item:
            yield f"{lead}{'' if key is None else ' '}{_scalar(item)}\n"
        elif key is None:
            first, *rest = _yaml(item, indent + "  ")
            yield lead + first.removeprefix(indent + "  ")
            yield from rest
        else:
            yield lead + "\n"
            yield from _yaml(item, indent + "  ")


def _scalar(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", value) and value not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)


#: Plain words that some YAML reader takes for a truth value or null.
_WORDS = frozenset(
    spelling
    for word in ("true", "false", "null", "yes", "no", "on", "off", "y", "n")
    for spelling in (word, word.title(), word.upper())
)
