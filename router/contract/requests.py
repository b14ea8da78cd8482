"""Reading a request: valid, invalid but answerable, or of no use to anyone.

Answerable: it is JSON, an object, and has a usable ``custom_id``. An invalid one then gets a result with
``invalid_request``; its error carries what the result needs. Everything else goes to the dead letter alone.

Decided here, beyond the contract's text: ``stream: true`` is refused, for a result is one record (the gateway streams
on its own); ``n`` > 1 is allowed, its cost counts. What a provider checks better than we do (roles, tools, sampling
parameters) is left to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn

import orjson

from router.contract.errors import BadRecord, RejectCode
from router.contract.faults import kind_of, shown
from router.contract.ids import DEFAULT_POOL, DEFAULT_TENANT, request_id
from router.contract.records import Request
from router.contract.topics import MAX_REQUEST_BYTES
from router.contract.values import value
from router.contract.wire import parse, too_deep, validate

MAX_CUSTOM_ID_CHARACTERS = 256
MAX_TENANT_CHARACTERS = 128
MAX_MODEL_CHARACTERS = 256
MAX_ANSWERS = 128

LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


@value(frozen=True, slots=True, kw_only=True)
class ParsedRequest:
    """A valid request. ``model``: the pool or model that its body names, ``auto`` if none."""

    request: Request
    request_id: str
    model: str


class BadRequest(BadRecord):
    """A request that cannot be routed. ``custom_id`` is ``None``: no result is possible, only a dead letter.

    Otherwise ``tenant`` (``default`` where the request's own is unusable), ``custom_id``, ``request_id`` and ``metadata``
    (``None`` where unusable) are what its result needs.
    """

    code = RejectCode.INVALID_REQUEST

    def __init__(
        self, message: str, *, custom_id: str | None = None, tenant: str = DEFAULT_TENANT, metadata: Any = None
    ) -> None:
        super().__init__(message)
        self.custom_id = custom_id
        self.tenant = tenant
        self.metadata = metadata

    @property
    def request_id(self) -> str | None:
        """The id of the result; ``None`` without ``custom_id``."""
        return None if self.custom_id is None else request_id(self.tenant, self.custom_id)


def decode_request(value: bytes | None) -> ParsedRequest:
    """The request in ``value``. Raises ``BadRequest`` and nothing else."""
    try:
        found = parse(value)
    except BadRecord as error:
        _refuse(str(error), _read_anyhow(value))
    if len(value or b"") > MAX_REQUEST_BYTES:
        _refuse(f"has {len(value or b'')} bytes, more than {MAX_REQUEST_BYTES}", found)
    try:
        request = validate(Request, found)
    except BadRecord as error:
        _refuse(str(error), found)
    if (problem := body_problem(request.url, request.body)) is not None:
        _refuse(problem, found)
    model = request.body.get("model")
    return ParsedRequest(
        request=request,
        request_id=request_id(request.router.tenant, request.custom_id),
        model=DEFAULT_POOL if model is None else model,
    )


def body_problem(url: str, body: dict[str, Any]) -> str | None:
    """What is wrong with the body of a call to ``url``, or ``None``."""
    check = ENDPOINTS.get(url)
    if check is None:
        return f"url: must be one of {', '.join(ENDPOINTS)}, not {shown(url)}"
    model = body.get("model", "")
    if type(model) is not str or len(model) > MAX_MODEL_CHARACTERS:
        return f"body.model: must be text of at most {MAX_MODEL_CHARACTERS} characters, not {kind_of(model)}"
    return check(body) or _numbers_problem(body)


def _numbers_problem(body: dict[str, Any]) -> str | None:
    for name in LIMITS:
        limit = body.get(name)
        if limit is not None and (type(limit) is not int or limit < 1):
            return f"body.{name}: must be an integer of at least 1, not {kind_of(limit)}"
    answers = body.get("n")
    if answers is not None and (type(answers) is not int or not 1 <= answers <= MAX_ANSWERS):
        return f"body.n: must be an integer from 1 to {MAX_ANSWERS}, not {kind_of(answers)}"
    stream = body.get("stream")
    if stream is not None and stream is not False:
        return "body.stream: must be false: a result is one record"
    return None


def _messages_problem(body: dict[str, Any]) -> str | None:
    messages = body.get("messages")
    if type(messages) is not list or not messages:
        return f"body.messages: {_absent_or_empty(body, 'messages', 'list')}"
    for place, message in enumerate(messages):
        if type(message) is not dict:
            return f"body.messages.{place}: must be an object, not {kind_of(message)}"
        if type(role := message.get("role")) is not str:
            return f"body.messages.{place}.role: must be text, not {kind_of(role)}"
    return None


def _needs(field: str) -> Callable[[dict[str, Any]], str | None]:
    def problem(body: dict[str, Any]) -> str | None:
        given = body.get(field)
        if isinstance(given, str | list) and given:
            return None
        return f"body.{field}: {_absent_or_empty(body, field, 'text or list')}"

    return problem


def _absent_or_empty(body: dict[str, Any], field: str, kind: str) -> str:
    if field not in body:
        return "is missing"
    return f"must be a {kind} that is not empty, not {kind_of(body[field]) if body[field] else 'an empty one'}"


#: Calls that can be routed, and what each body needs.
ENDPOINTS: dict[str, Callable[[dict[str, Any]], str | None]] = {
    "/v1/chat/completions": _messages_problem,
    "/v1/completions": _needs("prompt"),
    "/v1/embeddings": _needs("input"),
    "/v1/responses": _needs("input"),
}


def _refuse(problem: str, found: object) -> NoReturn:
    """Raise ``BadRequest`` with what can be used of ``found``."""
    custom_id = found.get("custom_id") if isinstance(found, dict) else None
    if not isinstance(found, dict) or not _usable(custom_id, MAX_CUSTOM_ID_CHARACTERS) or not custom_id:
        raise BadRequest(problem) from None
    options = found.get("router")
    options = options if isinstance(options, dict) else {}
    tenant = options.get("tenant", DEFAULT_TENANT)
    raise BadRequest(
        problem,
        custom_id=custom_id,
        tenant=str(tenant) if _usable(tenant, MAX_TENANT_CHARACTERS) else DEFAULT_TENANT,
        metadata=_writable(options.get("metadata")),
    ) from None


def _usable(text: object, most: int) -> bool:
    """Whether a result can carry it: text, not too long, without half a surrogate pair."""
    return isinstance(text, str) and len(text) <= most and _writable(text) is not None


def _writable(found: Any) -> Any:
    """``found`` if JSON can be made of it within a result, else ``None``."""
    try:
        written = orjson.dumps(found)
    except orjson.JSONEncodeError:
        return None
    return None if too_deep(written, found) else found


def _read_anyhow(value: bytes | None) -> object:
    """What the more patient parser of the standard library makes of ``value``: half surrogate pairs, numbers without bounds.

    Those are JSON by its grammar, so their sender can be answered; NaN and Infinity are not.
    """
    try:
        return json.loads(value or b"", parse_constant=_no_json)
    except (ValueError, RecursionError):
        return None


def _no_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
