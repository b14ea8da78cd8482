"""Every parser of what comes from outside: bytes in, a value or its documented error out, and nothing else.

``TARGETS``: name -> what reads, which errors it documents, and valid inputs. Any other exception is a finding.
"""

from __future__ import annotations

import atexit
import gzip
import shutil
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson

from router.batch import feedback as batch_feedback
from router.batch import journal as batch_journal
from router.batch import lines as batch_lines
from router.cli.review import read as read_review
from router.config import example, loads
from router.contract.codec import decode, decode_request, encode
from router.contract.errors import BadRecord, ConfigError
from router.contract.examples import RECORDS
from router.contract.letters import dead_letter
from router.contract.times import from_rfc3339
from router.core.artefact import Artefact, ArtefactError
from router.core.keyring import Keyring
from router.core.prompt import read_body
from router.core.slip import SlipError, sign, verify
from router.core.token import TokenError, open_token
from router.core.usage import read_usage
from router.dead_letters import read as read_letter
from router.history.archive_rows import KINDS
from router.history.cascade import labels_in
from router.history.import_calls import Scores
from router.history.import_read import Names, Reading, classed, row_of
from router.history.policy_value import candidate_of
from router.history.report_targets import targets_of
from router.simulation.run import replay
from router.simulation.world import WORLDS
from router.simulation.world import read as read_world
from router.train.rows import read_rows
from router.work.answers import read_answer
from router.work.inflate import Inflater, TooLarge
from router.work.retry_after import retry_after_ms
from tests.core.test_slip import SLIP
from tests.core.test_token import FACTS, issue

RING = Keyring((b"k" * 32,))


@dataclass(frozen=True)
class Target:
    """``seeds``: valid inputs, from which hostile ones are made; ``errors``: what it may raise."""

    read: Callable[[bytes], Any]
    errors: tuple[type[Exception], ...] = ()
    seeds: tuple[bytes, ...] = ()

    def __call__(self, data: bytes) -> bool:
        """Whether it was taken."""
        try:
            self.read(data)
        except self.errors:
            return False
        return True


@cache
def _folder() -> Path:
    made = Path(tempfile.mkdtemp(prefix="pointsman-fuzz-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def _file(data: bytes, name: str) -> Path:
    path = _folder() / name
    path.write_bytes(data)
    return path


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _record(kind: type) -> Callable[[bytes], Any]:
    """What was taken can be written again: no stage fails at it later."""

    def read(data: bytes) -> bytes:
        return encode(decode(kind, data))

    return read


def _request(data: bytes) -> None:
    found = decode_request(data)
    prompt = read_body(found.request.body)
    prompt.read()
    encode(found.request)


def _toml(read: Callable[[str], Any]) -> Callable[[bytes], Any]:
    return lambda data: read(data.decode("utf-8", "replace"))


def _rows(data: bytes) -> None:
    for row in read_rows([_file(data, "rows.jsonl")]):
        row.prompt.read()


def _import(data: bytes, name: str = "log.jsonl") -> None:
    reading = Reading([_file(data, name)], "auto", Scores())
    for one in classed(reading.calls(lambda _bytes: None), Names({"m": "m"}, {}), _unclassed, reading.faults):
        if one.prompt is not None:
            orjson.dumps(row_of(one))


def _unclassed(asked: Sequence[Any]) -> list[tuple[str, dict[str, float]]]:
    """The classifier has a target of its own."""
    return [("code/even", {}) for _ in asked]


def _lines(data: bytes) -> None:
    path = _file(data, "batch.jsonl")
    for tenant in (None, "acme"):
        for _ in batch_lines.read_lines(path, tenant):
            pass
        batch_lines.scan(path, tenant)


def _archive(data: bytes) -> None:
    stored = SimpleNamespace(partition=0, offset=0, timestamp=0, value=data, headers=[("id", b"x"), ("lane", data[:9])])
    for kind in KINDS:
        kind.row(stored)


def _answer(data: bytes) -> None:
    for url in ("/v1/chat/completions", "/v1/embeddings", "/v1/responses"):
        for status in (200, 400, 429, 503):
            answer = read_answer(url, status, {"content-type": "application/json"}, data, now_ms=0)
            orjson.dumps(answer.body)


def _inflated(data: bytes) -> None:
    body = Inflater("gzip", 100_000)
    for start in range(0, len(data), 7):
        body.feed(data[start : start + 7])
    assert len(body.finish()) <= 100_000


def _retry_after(data: bytes) -> None:
    text = data.decode("latin-1")
    for name in ("retry-after", "retry-after-ms", "x-ratelimit-reset-requests", "x-ratelimit-reset-tokens"):
        found = retry_after_ms({name: text}, 0)
        assert found is None or 0 <= found < 2**53


def _sealed(data: bytes) -> None:
    text = data.decode("latin-1")
    verify(text, RING)


def _token(data: bytes) -> None:
    open_token(data.decode("latin-1"), RING, 0)


def _usage(data: bytes) -> None:
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return
    encode(read_usage(found))


def _letter(data: bytes) -> None:
    found = read_letter(SimpleNamespace(partition=0, offset=0, value=data))
    if found is not None:
        found.value()


def _seed(kind: type) -> tuple[bytes, ...]:
    return tuple(encode(one) for one in RECORDS if type(one) is kind)


KINDS_READ = tuple(dict.fromkeys(map(type, RECORDS)))
_REQUESTS = tuple(encode(one) for one in RECORDS if type(one).__name__ == "Request")
_USAGE = b'{"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 3}}'
_COMPLETION = (
    b'{"id": "c", "model": "m-1", "choices": [{"index": 0, "finish_reason": "stop", '
    b'"message": {"role": "assistant", "content": "yes"}}], "usage": ' + _USAGE + b"}"
)
_FAILED = b'{"error": {"code": "context_length_exceeded", "message": "too long", "type": "invalid_request_error"}}'
_LITELLM = (
    b'{"id": "l", "call_type": "acompletion", "model": "m", "response_cost": 0.01, "startTime": "2026-11-01T12:00:00Z", '
    b'"messages": [{"role": "user", "content": "hi"}], "prompt_tokens": 4, "completion_tokens": 2, "metadata": {"score": 1}}\n'
)
_OPENAI = (
    b'{"custom_id": "r", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "messages": '
    b'[{"role": "user", "content": "hi"}]}}\n{"id": "x", "custom_id": "r", "response": {"status_code": 200, "body": '
    + _COMPLETION
    + b'}, "error": null}\n'
)
_ROW = b'{"id": "a", "prompt": "hi", "class": "code", "arms": {"m": {"quality": 0.5, "cost_usd": 0.1}}}\n'
_TRACE = (
    b'{"truth": {"stratum": "math/hard", "onset_t_s": 10, "margin": 0.1}}\n'
    b'{"t_s": 1, "request_id": "a", "stratum": "math/hard", "model": "m", "cohort": "pilot", "status": "ok", '
    b'"quality": 1, "feedback": [{"kind": "thumbs", "value": 1, "at_s": 9}]}\n'
    b'{"t_s": 900, "request_id": "b", "stratum": "math/hard", "model": "n", "cohort": "control", "shadow_of": "a"}\n'
)
_REVIEW = b'{"id": "1462af60e975e034", "value": 0.5, "comment": "so"}\n'
_JOURNAL = b'{"digest": "d", "topic": "t", "ends": {"0": 5}, "sent_bytes": 9}'
_LABEL = b'{"stratum": "math/hard", "confidence": 0.4, "quality": 1, "inclusion": 0.5}\n'
_TARGETS = b'[[target]]\npool = "auto"\nweeks = 4\nmin_saving_percent = 30.0\n'
_POLICY = b'[weights]\nm = 1.0\n[strata."math/hard"]\nm = 1.0\n'
_LETTER = dead_letter(
    SimpleNamespace(topic="llm.requests", partition=0, offset=1, key=b"k", value=b"{}"),
    BadRecord("custom_id: is missing"),
    stage="route",
    at_ms=0,
)[1]

TARGETS: dict[str, Target] = {
    **{kind.__name__: Target(_record(kind), (BadRecord,), _seed(kind)) for kind in KINDS_READ},
    "request path": Target(_request, (BadRecord,), _REQUESTS),
    "slip": Target(_sealed, (SlipError,), (sign(SLIP, RING).encode(),)),
    "token": Target(_token, (TokenError,), (issue(FACTS, RING).encode(),)),
    "usage": Target(_usage, (), (_USAGE,)),
    "answer": Target(_answer, (), (_COMPLETION, _FAILED)),
    "inflate": Target(_inflated, (TooLarge, zlib.error), (gzip.compress(b"0" * 10_000), zlib.compress(b"0" * 99_000))),
    "retry after": Target(_retry_after, (), (b"3", b"1m2.5s", b"Sun, 06 Nov 1994 08:49:37 GMT")),
    "time": Target(lambda data: from_rfc3339(_text(data)), (ValueError,), (b"2026-11-01T12:00:00.000Z",)),
    "dead letter": Target(_letter, (BadRecord,), (_LETTER,)),
    "configuration": Target(_toml(loads), (ConfigError,), (example().encode(),)),
    "world": Target(lambda data: read_world(str(_file(data, "w.toml"))), (ConfigError,), tuple(one.read_bytes() for one in list(WORLDS.iterdir())[:1])),
    "targets": Target(lambda data: targets_of(_file(data, "t.toml")), (ConfigError,), (_TARGETS,)),
    "policy": Target(lambda data: candidate_of(str(_file(data, "p.toml")), {"m": 1}), (ConfigError,), (_POLICY,)),
    "trace": Target(lambda data: replay(_file(data, "t.jsonl"), None, lambda _: None), (ConfigError,), (_TRACE,)),
    "batch lines": Target(_lines, (ConfigError,), _REQUESTS),
    "batch journal": Target(lambda data: batch_journal.load(_file(data, "j")), (ConfigError,), (_JOURNAL,)),
    "feedback lines": Target(lambda data: list(batch_feedback.parse(data.splitlines(), "f")), (ConfigError,), tuple(one for one in map(encode, (o for o in RECORDS if type(o).__name__ == "Feedback")))),
    "import": Target(_import, (ConfigError,), (_LITELLM, _OPENAI)),
    "import packed": Target(lambda data: _import(data, "log.jsonl.gz"), (ConfigError,), (gzip.compress(_LITELLM * 3),)),
    "rows": Target(_rows, (ConfigError,), (_ROW,)),
    "rows packed": Target(lambda data: read_rows([_file(data, "rows.jsonl.gz")]), (ConfigError,), (gzip.compress(_ROW),)),
    "labels": Target(lambda data: labels_in(_file(data, "l.jsonl")), (ConfigError,), (_LABEL,)),
    "reviews": Target(lambda data: read_review(_file(data, "r.jsonl")), (ConfigError,), (_REVIEW,)),
    "archive": Target(_archive, (), tuple(map(encode, RECORDS))),
    "classifier": Target(Artefact.from_bytes, (ArtefactError,), (files("router").joinpath("data", "demo_classifier.npz").read_bytes(),)),
}  # fmt: skip
