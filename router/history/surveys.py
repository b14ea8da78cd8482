"""Who was asked by surveys and who answered, out of the topic ``surveys``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from router.config import Config
from router.contract.codec import decode
from router.contract.errors import BadRecord
from router.contract.topics import DAY_MS, Names
from router.core.records import SurveyEvent
from router.core.survey_rates import Asked, Comparison, Responses, compared, responses
from router.kafka.client import Client
from router.kafka.scan import scan

#: Of a survey that is no longer configured.
ANSWER_DAYS = 3


@dataclass(frozen=True, slots=True)
class Group:
    """Some of those who were asked; ``stratum``, ``cohort``: ``None`` for all of them."""

    stratum: str | None
    cohort: str | None
    of: Responses


@dataclass(frozen=True, slots=True)
class SurveyRates:
    """A survey in a pool. ``waiting``: asked less than ``answer_days`` ago, ``waiting_answered`` of whom have answered; ``late``: answers after that.

    ``comparison``: pilot less reference, all strata together; ``strata``: of each stratum where both were asked.
    """

    survey: str
    pool: str
    answer_days: int
    waiting: int
    waiting_answered: int
    late: int
    groups: Sequence[Group]
    comparison: Comparison | None
    strata: Mapping[str, Comparison]


async def rates(
    client: Client, names: Names, config: Config, now_ms: int, *, survey: str | None = None, pool: str | None = None
) -> list[SurveyRates]:
    """From everything that is kept: 100 days."""
    events = []
    async for record in scan(client, [names.of("surveys")]):
        try:
            event = None if record.value is None else decode(SurveyEvent, record.value)
        except BadRecord:
            continue
        if event is not None and survey in {None, event.survey} and pool in {None, event.pool}:
            events.append(event)
    return rates_of(events, {name: one.answer_days for name, one in config.surveys.items()}, now_ms)


def rates_of(events: Iterable[SurveyEvent], answer_days: Mapping[str, int], now_ms: int) -> list[SurveyRates]:
    """Pure: events in any order, each once however often it is there."""
    asked: dict[str, SurveyEvent] = {}
    answers: dict[str, SurveyEvent] = {}
    for event in events:
        known = asked if event.event == "asked" else answers
        before = known.get(event.request_id)
        if before is None or event.at_ms < before.at_ms:
            known[event.request_id] = event
    by_survey: defaultdict[tuple[str, str], list[SurveyEvent]] = defaultdict(list)
    for event in asked.values():
        by_survey[event.survey, event.pool].append(event)
    return [
        _of(found, answers, answer_days.get(name, ANSWER_DAYS), now_ms)
        for (name, _), found in sorted(by_survey.items())
    ]


def _of(asked: Sequence[SurveyEvent], answers: Mapping[str, SurveyEvent], days: int, now_ms: int) -> SurveyRates:
    waiting = waiting_answered = late = 0
    groups: defaultdict[tuple[str | None, str | None], list[Asked]] = defaultdict(list)
    for event in asked:
        answer, ends_ms = answers.get(event.request_id), event.at_ms + days * DAY_MS
        if now_ms < ends_ms:
            waiting += 1
            waiting_answered += answer is not None
            continue
        if answer is not None and answer.at_ms >= ends_ms:
            late, answer = late + 1, None
        one = Asked(event.cohort, event.inclusion or 1.0, None if answer is None else answer.value)
        for stratum in (None, event.stratum):
            for cohort in (None, event.cohort):
                groups[stratum, cohort].append(one)
    made = [
        Group(stratum, cohort, found)
        for (stratum, cohort), several in sorted(groups.items(), key=_by_name)
        if (found := responses(several)) is not None
    ]
    strata = {
        stratum: beside
        for (stratum, cohort), several in sorted(groups.items(), key=_by_name)
        if stratum is not None and cohort is None and (beside := compared(several)) is not None
    }
    whole = compared(groups[None, None])
    return SurveyRates(asked[0].survey, asked[0].pool, days, waiting, waiting_answered, late, made, whole, strata)


def _by_name(item: tuple[tuple[str | None, str | None], Sequence[Asked]]) -> tuple[str, str]:
    (stratum, cohort), _ = item
    return stratum or "", cohort or ""
