"""One work record in, one outcome out, whatever happens. No consumer and no producer in it.

- What cannot be read, or asks for a partition or model that is not there, goes to the dead letter (``invalid_work``);
  a record of a later major version does, too (``unsupported_schema``).
- The model is *banned*: its work comes back unmade (``error``, code ``banned``); calls that run already finish.
- *No endpoint is free* (all cool, or are at a limit): no call starts. Interactive work that would wait longer than
  ``PATIENCE_S`` comes back at once as ``rate_limited``, so that it can go elsewhere; batch work stays in its topic, what is in
  hand already waits.
- Work that has waited and whose call could not end by its deadline is passed over without a word: settle ends the request
  at its deadline, and a lane that is behind spends its slots on what can still be answered.
- A deadline that has passed: ``timeout`` without a call. A call gets what is left until the deadline, at most
  ``timeout_s``.
- An answer that a cascade checks gets a ``confidence`` (``confidence``).
- ``traceparent`` goes on to the provider and into the outcome.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from aiokafka import ConsumerRecord

from router.config import ModelConfig
from router.contract.codec import decode, encode
from router.contract.errors import BadRecord, RejectCode
from router.contract.letters import dead_letter
from router.contract.records import Outcome, OutcomeError, Work
from router.contract.topics import MAX_ANSWER_BYTES, Names
from router.contract.versions import refusal
from router.kafka import calls
from router.kafka.writer import Headers
from router.work.bans import Bans
from router.work.confidence import judged
from router.work.provider import Answer, ErrorCode, Provider, failed

log = logging.getLogger(__name__)

#: Name in dead letters, group ids and probes.
STAGE: Final = "worker"
#: Longest that interactive work waits for an endpoint to cool down.
PATIENCE_S: Final = 2.0
#: Work younger than this has not waited, and is not looked into before its call.
FRESH_MS: Final = 100
#: A call that waits for an endpoint looks this often whether it may still be made at all.
LOOK_S: Final = 0.5
#: From the time at which a call must end until it counts as overdue.
SLACK_S: Final = 30.0
#: What an outcome has around the provider's body and the slip.
OVERHEAD_BYTES: Final = 64 * 1024
TRACEPARENT: Final = "traceparent"
_TRACEPARENT = re.compile(rb"[0-9a-zA-Z_-]{1,128}")


class Caller:
    """Turns one work record into what it leaves behind. No Kafka in it but the record.

    Args:
        model: the worker's model; ``settings``: its configuration.
        provider: makes the attempt.
        partitions: of every topic of the installation.
        clock: wall clock, ms. ``monotonic_s``: for waiting.
    """

    def __init__(
        self,
        model: str,
        settings: ModelConfig,
        provider: Provider,
        bans: Bans,
        *,
        names: Names,
        partitions: int,
        clock: Callable[[], int],
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model, self._settings, self._provider, self._bans = model, settings, provider, bans
        self._outcomes, self._dead_letters = names.of("outcomes"), names.of("dead-letter")
        self._batch_topic = names.work(model, "batch")
        self._partitions = partitions
        self._clock, self._monotonic_s = clock, monotonic_s
        self._due_s: dict[object, float] = {}

    def may_start(self, topic: str) -> bool:
        """Whether work of a topic is worth taking now: batch work waits in its topic while no endpoint is free."""
        return topic != self._batch_topic or self._provider.free_in_s() == 0 or self._bans.banned(self._model)

    def too_late(self, record: ConsumerRecord, takes_s: float) -> bool:
        """Whether work has waited so long that a call of ``takes_s`` seconds would end after its deadline."""
        now_ms = self._clock()
        if record.value is None or now_ms - record.timestamp < FRESH_MS:
            return False
        try:
            return self._read(record).deadline_at_ms - now_ms <= takes_s * 1000
        except BadRecord:
            return False  # its call tells

    def overdue(self) -> bool:
        """Whether a call is in hand that should have ended; a defect, its time-out failed."""
        return min(self._due_s.values(), default=float("inf")) < self._monotonic_s()

    @property
    def in_hand(self) -> int:
        """Calls being made, or waiting for an endpoint."""
        return len(self._due_s)

    async def __call__(self, record: ConsumerRecord) -> Sequence[calls.Outcome]:
        if record.value is None:
            return ()
        try:
            work = self._read(record)
        except BadRecord as error:
            key, letter = dead_letter(record, error, stage=STAGE, at_ms=self._clock())
            return [calls.Outcome(self._dead_letters, record.partition % self._partitions, key, letter)]
        trace = next((value for name, value in record.headers if name == TRACEPARENT), None)
        answer = await self._answer(work, trace, batch=record.topic == self._batch_topic)
        headers: Headers = [] if trace is None else [(TRACEPARENT, trace)]
        value = outcome_bytes(work, answer)
        return [calls.Outcome(self._outcomes, work.outcome_partition, work.request_id.encode(), value, headers)]

    def _read(self, record: ConsumerRecord) -> Work:
        if (error := refusal(record.headers)) is not None:
            raise error
        work = decode(Work, record.value)
        if work.outcome_partition >= self._partitions:
            raise BadRecord(f"outcome_partition: must be below {self._partitions}", code=RejectCode.INVALID_WORK)
        if work.model != self._model:
            raise BadRecord(f"model: this is the work topic of {self._model}", code=RejectCode.INVALID_WORK)
        return work

    async def _answer(self, work: Work, trace: bytes | None, *, batch: bool) -> Answer:
        headers = {TRACEPARENT: trace.decode()} if trace is not None and _TRACEPARENT.fullmatch(trace) else {}
        mark = object()
        self._due_s[mark] = self._monotonic_s() + (work.deadline_at_ms - self._clock()) / 1000 + SLACK_S
        try:
            return await self._wait(work, batch=batch) or await self._call(work, mark, headers)
        except Exception as error:
            # An outcome for every attempt: what nobody foresaw in a provider must not end the calls of all others.
            log.exception("%s: a call of %s failed in a way that should not be", self._model, work.request_id)
            return failed("error", "internal_error", type(error).__name__)
        finally:
            del self._due_s[mark]

    async def _wait(self, work: Work, *, batch: bool) -> Answer | None:
        """Wait for an endpoint; an answer when the call is not to be made."""
        waited_since_s = self._monotonic_s()
        while True:
            left_s = (work.deadline_at_ms - self._clock()) / 1000
            if self._bans.banned(self._model):
                return failed("error", ErrorCode.BANNED, "the model is banned")
            if left_s <= 0:
                return failed("timeout", ErrorCode.TIMEOUT, "the deadline had passed before the call")
            wait_s = self._provider.free_in_s()
            if wait_s <= 0:
                return None
            if not batch and self._monotonic_s() - waited_since_s + wait_s > PATIENCE_S:
                message, wait_ms = "no endpoint is free", int(wait_s * 1000) + 1
                return failed("rate_limited", ErrorCode.RATE_LIMITED, message, retry_after_ms=wait_ms)
            await asyncio.sleep(min(wait_s, left_s, LOOK_S))

    async def _call(self, work: Work, mark: object, headers: dict[str, str]) -> Answer:
        budget_s = min(self._settings.timeout_s, (work.deadline_at_ms - self._clock()) / 1000)
        self._due_s[mark] = self._monotonic_s() + budget_s + SLACK_S
        return judged(work, await self._provider.call(work, budget_s=budget_s, headers=headers))


def outcome_bytes(work: Work, answer: Answer) -> bytes:
    """The outcome record. An answer that cannot be written, or only much longer than it came, becomes an error."""
    try:
        value = encode(_outcome(work, answer))
    except TypeError:  # nested deeper than JSON is written
        return encode(_outcome(work, _spoilt(answer, ErrorCode.MALFORMED_ANSWER, "the answer is nested too deeply")))
    if len(value) > MAX_ANSWER_BYTES + len(work.slip) + OVERHEAD_BYTES:
        message = f"the answer is longer than {MAX_ANSWER_BYTES} bytes when written"
        return encode(_outcome(work, _spoilt(answer, ErrorCode.ANSWER_TOO_LARGE, message)))
    return value


def _outcome(work: Work, answer: Answer) -> Outcome:
    return Outcome(
        request_id=work.request_id,
        attempt=work.attempt,
        model=work.model,
        slip=work.slip,
        status=answer.status,
        body=answer.body,
        usage=answer.usage,
        served_model=answer.served_model,
        endpoint=answer.endpoint,
        latency_ms=answer.latency_ms,
        first_token_ms=answer.first_token_ms,
        confidence=answer.confidence,
        error=answer.error,
    )


def _spoilt(answer: Answer, code: str, message: str) -> Answer:
    return replace(answer, status="error", body=None, error=OutcomeError(code=code, message=message))
