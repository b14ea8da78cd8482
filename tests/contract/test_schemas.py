"""``schemas/`` is what the code says, is valid by the standards' own schemas, and agrees with the codec."""

import gzip
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import orjson
import pytest
import yaml

from router.contract.asyncapi import file_of
from router.contract.codec import encode
from router.contract.examples import RECORDS
from router.contract.schema import FOLDER, differences, files, kinds, main
from router.contract.topics import TOPICS, WORK

ASYNCAPI = Path(__file__).parent / "asyncapi"


def schema(kind) -> dict:
    return json.loads((FOLDER / file_of(kind)).read_text())


def validator(kind):
    found = schema(kind)
    return jsonschema.Draft202012Validator(found, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)


@pytest.fixture(scope="module")
def document() -> dict:
    return yaml.safe_load((FOLDER / "asyncapi.yaml").read_text())


@pytest.fixture(scope="module")
def asyncapi_errors():
    packed = gzip.decompress((ASYNCAPI / "3.0.0.json.gz").read_bytes())
    assert hashlib.sha256(packed).hexdigest() in (ASYNCAPI / "README.md").read_text()
    judge = jsonschema.Draft7Validator(json.loads(packed))
    return lambda document: [error.message for error in judge.iter_errors(document)]


def test_the_files_are_what_the_code_says():
    assert differences(FOLDER) == [], "run python -m router.contract.schema"


def test_check_tells_a_changed_a_missing_and_a_foreign_file(tmp_path, capsys):
    assert main(["--folder", str(tmp_path)]) == 0
    assert main(["--check", "--folder", str(tmp_path)]) == 0
    (tmp_path / "request.json").write_text("{}")
    (tmp_path / "result.json").unlink()
    (tmp_path / "old.json").write_text("{}")
    assert main(["--check", "--folder", str(tmp_path)]) == 1
    assert re.findall(r"/([a-z-]+\.json): not as", capsys.readouterr().err) == [
        "old.json",
        "request.json",
        "result.json",
    ]


def test_the_command_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "router.contract.schema", "--check"], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_each_schema_is_one_and_its_examples_fit(kind):
    found = schema(kind)
    jsonschema.Draft202012Validator.check_schema(found)
    assert found["title"] == kind.__name__
    assert found["description"]
    assert found["examples"]
    for example in found["examples"]:
        assert [error.message for error in validator(kind).iter_errors(example)] == []


def test_every_public_topic_has_a_schema():
    assert {topic.record for topic in (*TOPICS, WORK) if topic.public} == set(kinds())
    assert {file_of(kind) for kind in kinds()} | {"asyncapi.yaml"} == set(files())


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_what_the_code_writes_fits_the_schema(record):
    validator(type(record)).validate(orjson.loads(encode(record)))


def test_the_document_is_valid_asyncapi(document, asyncapi_errors):
    assert asyncapi_errors(document) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda found: found.pop("info"),
        lambda found: found.update(asyncapi="2.6.0"),
        lambda found: found["operations"]["send_results"].update(action="publish"),
        lambda found: found["channels"]["results"].update(adress="llm.results"),
        lambda found: found["components"]["messages"]["Result"]["examples"][0].update(payload="text", name=5),
    ],
)
def test_the_asyncapi_validator_refuses_a_damaged_document(document, asyncapi_errors, damage):
    damaged = json.loads(json.dumps(document))
    damage(damaged)
    assert asyncapi_errors(damaged) != []


def references(found):
    if isinstance(found, dict):
        if isinstance(found.get("$ref"), str):
            yield found["$ref"]
        found = list(found.values())
    if isinstance(found, list):
        for below in found:
            yield from references(below)


def test_every_reference_of_the_document_leads_somewhere(document):
    wanted = list(references({key: document[key] for key in ("channels", "operations")}))
    assert wanted
    for reference in wanted:
        at = document
        for part in reference.removeprefix("#/").split("/"):
            at = at[part]
    payloads = [message["payload"]["$ref"] for message in document["components"]["messages"].values()]
    assert sorted(payloads) == sorted(f"./{file_of(kind)}" for kind in kinds())
    assert all((FOLDER / payload).is_file() for payload in payloads)


def test_every_example_of_a_message_fits_its_payload(document):
    for kind in kinds():
        for example in document["components"]["messages"][kind.__name__]["examples"]:
            validator(kind).validate(example["payload"])


def test_every_public_topic_is_a_channel_with_one_operation(document):
    addresses = {channel["address"] for channel in document["channels"].values()}
    public = {f"llm.{topic.name}" for topic in TOPICS if topic.public}
    assert addresses == public | {"llm.work.{model}", "llm.work.{model}.batch"}
    operated = [operation["channel"]["$ref"] for operation in document["operations"].values()]
    assert sorted(operated) == sorted(f"#/channels/{name}" for name in document["channels"])


def test_users_and_workers_write_what_the_product_receives(document):
    received = {name for name, operation in document["operations"].items() if operation["action"] == "receive"}
    assert received == {f"receive_{name}" for name in ("requests", "requests_batch", "outcomes", "feedback", "control")}
