"""The contract as files: one JSON Schema (2020-12) a record, and one AsyncAPI document that joins them to the topics.

``python -m router.contract.schema`` writes ``schemas/``; with ``--check`` it writes nothing and fails where they differ.
The dataclasses give the shapes, their docstrings the descriptions, ``examples`` the examples; what joins several fields is
added here and enforced by ``checks`` and ``requests``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from router.contract import asyncapi
from router.contract.checks import OF_A_MODEL, WITH_PERCENT
from router.contract.codec import encode
from router.contract.examples import RECORDS
from router.contract.ids import NAME
from router.contract.records import Control, Feedback, Outcome, Request
from router.contract.requests import ENDPOINTS, LIMITS, MAX_ANSWERS, MAX_MODEL_CHARACTERS
from router.contract.topics import TOPICS, WORK

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FOLDER = Path(__file__).resolve().parents[2] / "schemas"

Schema = dict[str, Any]


class _Plain(GenerateJsonSchema):
    """No title at each property: it would only repeat the name."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        return False


def kinds() -> tuple[type, ...]:
    """Every public record, in the order of the topics."""
    found = (topic.record for topic in (*TOPICS, WORK))
    return tuple(dict.fromkeys(kind for kind in found if kind is not None))


def schema_of(kind: type) -> Schema:
    """The JSON Schema of one kind of record, with descriptions and examples."""
    generated = TypeAdapter(kind).json_schema(schema_generator=_Plain)
    _describe(generated)
    head = {"$schema": DIALECT, "title": kind.__name__, "description": generated.pop("description")}
    schema = head | {key: generated[key] for key in generated if key not in head and key != "$defs"}
    schema |= _TOGETHER.get(kind, {})
    if kind is Request:
        schema["properties"]["url"] = {"enum": list(ENDPOINTS), "default": "/v1/chat/completions"}
        schema["properties"]["body"] |= {"properties": _BODY}
    if "$defs" in generated:
        schema["$defs"] = generated["$defs"]
    schema["examples"] = [orjson.loads(encode(record)) for record in RECORDS if type(record) is kind]
    return schema


def files() -> dict[str, str]:
    """Every file of ``schemas/``: name -> text."""
    schemas = {asyncapi.file_of(kind): schema_of(kind) for kind in kinds()}
    found = {name: json.dumps(schema, indent=2, ensure_ascii=False) + "\n" for name, schema in schemas.items()}
    found["asyncapi.yaml"] = asyncapi.document({kind: schemas[asyncapi.file_of(kind)] for kind in kinds()})
    return found


def differences(folder: Path) -> list[str]:
    """Names of the files that are missing, unlike what the code says, or left over."""
    wanted = files()
    there = {path.name for path in folder.glob("*") if path.suffix in {".json", ".yaml"}}
    wrong = {name for name in wanted.keys() & there if (folder / name).read_text(encoding="utf-8") != wanted[name]}
    return sorted((wanted.keys() ^ there) | wrong)


def _describe(schema: Any) -> None:
    """Docstrings use the double backquotes of reStructuredText; readers of schemas expect Markdown."""
    if isinstance(schema, dict):
        if isinstance(text := schema.get("description"), str):
            schema["description"] = " ".join(text.replace("``", "`").split())
        for below in schema.values():
            _describe(below)
    elif isinstance(schema, list):
        for below in schema:
            _describe(below)


def _text(field: str) -> Schema:
    return {"required": [field], "properties": {field: {"type": "string"}}}


def _needs_args(actions: frozenset[str], args: Mapping[str, Schema]) -> Schema:
    """An order that is in force needs these arguments; a release does not."""
    return {
        "if": {"properties": {"action": {"enum": sorted(actions)}, "active": {"const": True}}},
        "then": {
            "required": ["args"],
            "properties": {"args": {"required": list(args), "properties": dict(args)}},
        },
    }


_LIST = {"type": "array", "minItems": 1}
_TEXT_OR_LIST = {"type": ["string", "array"], "minLength": 1, "minItems": 1}
_MESSAGE = {"type": "object", "required": ["role"], "properties": {"role": {"type": "string"}}}
_NEEDS = {
    "/v1/chat/completions": {"messages": _LIST | {"items": _MESSAGE}},
    "/v1/completions": {"prompt": _TEXT_OR_LIST},
    "/v1/embeddings": {"input": _TEXT_OR_LIST},
    "/v1/responses": {"input": _TEXT_OR_LIST},
}
#: Of a request's body, what is the same for every call.
_BODY: Schema = {
    "model": {"type": "string", "maxLength": MAX_MODEL_CHARACTERS},
    **{name: {"type": ["integer", "null"], "minimum": 1} for name in LIMITS},
    "n": {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_ANSWERS},
    "stream": {"enum": [False, None]},
}

#: Kind of record -> what joins several of its fields.
_TOGETHER: dict[type, Schema] = {
    Request: {
        "allOf": [
            {
                "if": {
                    "properties": {"url": {"const": url}},
                    # The url is absent from most requests: it has a default.
                    **({} if url == "/v1/chat/completions" else {"required": ["url"]}),
                },
                "then": {"properties": {"body": {"required": list(needs), "properties": needs}}},
            }
            for url, needs in _NEEDS.items()
        ]
    },
    Outcome: {
        "if": {"properties": {"status": {"const": "ok"}}},
        "then": {"required": ["body"], "properties": {"body": {"type": "object"}}},
    },
    Feedback: {"oneOf": [_text("feedback_token"), _text("request_id")]},
    Control: {
        "allOf": [
            {
                "if": {"properties": {"action": {"enum": sorted(OF_A_MODEL)}}},
                "then": {"properties": {"scope": {"pattern": "^model:"}}},
                "else": {"properties": {"scope": {"not": {"pattern": "^model:"}}}},
            },
            _needs_args(frozenset({"pin"}), {"model": {"type": "string", "pattern": f"^{NAME.pattern}$"}}),
            _needs_args(WITH_PERCENT, {"percent": {"type": "number", "minimum": 0, "maximum": 100}}),
        ]
    },
}


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or check them. The exit code."""
    parser = argparse.ArgumentParser(prog="python -m router.contract.schema", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is not as it should be")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the files are (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.check:
        wrong = differences(options.folder)
        for name in wrong:
            sys.stderr.write(f"{options.folder / name}: not as the code says; run python -m router.contract.schema\n")
        return 1 if wrong else 0
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (options.folder / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
