"""Files of past logs into calls, into sums and rows, a batch at a time.

Rows are those of ``pointsman train``. ``class`` is what the installation's classifier says, so that one fitted to them still knows it. A
row whose answer was scored has one arm, the model that answered; else ``arms`` is empty. ``log`` keeps what the log says of the call, and
its stratum, for studies: ``train`` does not look at it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal

import orjson

from router.contract.times import to_rfc3339
from router.core.classify import Seen
from router.core.prompt import Prompt
from router.history import import_litellm
from router.history.import_batch import Join, Store, is_answer, is_request
from router.history.import_calls import CUT, NANO, PROMPTS, Call, Scores, prompt_of
from router.history.import_lines import Fault, Faults, Place, Sort, Told, Unusable, lines, parse
from router.history.import_sums import Classed, Sums

Format = Literal["auto", "litellm", "openai"]
#: What classes prompts: (what is seen, tokens) of each -> (stratum, p_ok by model) of each.
Classify = Callable[[Sequence[tuple[Seen, int]]], Sequence[tuple[str, Mapping[str, float]]]]

BATCH = 256
_CUT = CUT.encode()
_DATED = 11  # "-2024-08-06"


class Reading:
    """One run over files. ``read``: lines so far; ``faults``: what was not used of them."""

    def __init__(self, files: Sequence[Path], form: Format, scores: Scores) -> None:
        self.files = list(files)
        self.names = [str(file) for file in files]
        self.read = 0
        self.faults = Faults()
        self._form, self._scores = form, scores

    def calls(self, told: Told) -> Iterator[Call]:
        """All calls, each id once."""
        with Store() as store:
            join = Join(store, self._scores, self.names)
            for number in self._answers_first():
                for place, line in lines(self.files[number], number, self.faults, told):
                    self.read += 1
                    try:
                        call = self._call(line, place, join)
                        if call is not None and self._new(call, store):
                            yield call
                    except Unusable as error:
                        self.faults.add(error.fault, place, error.detail)
            yield from (call for call in join.rest() if self._new(call, store))
        self.read += self.faults[Fault.TOO_LONG].count if Fault.TOO_LONG in self.faults else 0

    def _call(self, line: bytes, place: Place, join: Join) -> Call | None:
        found = parse(line)
        if self._form == "openai" or (self._form == "auto" and (is_answer(found) or is_request(found))):
            return join.add(found, place)
        if self._form == "litellm" or import_litellm.is_litellm(found):
            name = f"{self.files[place.file].name}:{place.line}"
            return import_litellm.call_of(found, place, name, self._scores, cut=_CUT in line)
        raise Unusable(Fault.UNKNOWN)

    def _new(self, call: Call, store: Store) -> bool:
        before = store.first_row(call.id, call.place)
        if before is not None:
            self.faults.add(Fault.TWICE, call.place, f"also in {self.names[before.file]}:{before.line}")
            return False
        for fault, detail in call.faults:
            self.faults.add(fault, call.place, detail)
        return True

    def _answers_first(self) -> list[int]:
        """Numbers of the files, those first that begin with an answer: then no request has to wait on disk for it."""
        return sorted(range(len(self.files)), key=lambda number: not self._begins_with_answer(number))

    def _begins_with_answer(self, number: int) -> bool:
        file = self.files[number]
        if not file.is_file():  # of a pipe the line would be gone
            return False
        try:
            _, line = next(lines(file, number, Faults(), lambda _bytes: None))
            return is_answer(parse(line))
        except (StopIteration, Unusable):
            return False


class Names:
    """Which model of the configuration a name in the log stands for: ``given`` by a person, equal, or but for provider and date."""

    def __init__(self, provider_models: Mapping[str, str], given: Mapping[str, str]) -> None:
        self._known = {name: name for name in provider_models} | dict(given)
        for name, provider_model in provider_models.items():
            for alias in (provider_model, provider_model.rpartition("/")[2]):
                self._known.setdefault(alias, name)

    def of(self, logged: str) -> str:
        """Empty where none does."""
        bare = logged.rpartition("/")[2]
        undated = (
            bare[:-_DATED] if bare[-_DATED:].replace("-", "").isdigit() and bare[-_DATED : -_DATED + 1] == "-" else bare
        )
        return next((self._known[name] for name in (logged, bare, undated) if name in self._known), "")


def classed(calls: Iterator[Call], names: Names, classify: Classify, faults: Faults) -> Iterator[Classed]:
    """Each call with what the installation says of it."""
    while batch := list(islice(calls, BATCH)):
        prompts = [prompt_of(call.body) for call in batch]
        asked: list[tuple[Prompt, Seen, int]] = []
        for call, prompt in zip(batch, prompts, strict=True):
            if prompt is not None:
                tokens, ids = prompt.read()
                asked.append((prompt, Seen(prompt.last_user_text, ids), tokens.tokens))
            elif not any(fault is Fault.NO_REQUEST for fault, _ in call.faults):
                faults.add(Fault.NO_PROMPT, call.place)
            if call.usage is None and not any(fault is Fault.NO_ANSWER for fault, _ in call.faults):
                faults.add(Fault.NO_USAGE, call.place)
        kinds = iter(classify([(seen, tokens) for _, seen, tokens in asked]))
        counted = iter(asked)
        for call, prompt in zip(batch, prompts, strict=True):
            model = names.of(call.model) or names.of(call.served_as)
            if prompt is None:
                yield Classed(call, model)
            else:
                yield Classed(call, model, prompt, next(counted)[2], *next(kinds))


def run(  # noqa: PLR0917 - the first four are what is known before a file is opened
    reading: Reading, names: Names, classify: Classify, sums: Sums, out: BinaryIO | None, told: Told
) -> tuple[int, int]:
    """Read all. Returns how many rows were written to ``out``, and how many of them have an arm."""
    rows = arms = 0
    for one in classed(reading.calls(told), names, classify, reading.faults):
        sums.add(one)
        if out is not None and one.prompt is not None:
            row = row_of(one)
            out.write(orjson.dumps(row) + b"\n")
            rows += 1
            arms += bool(row["arms"])
    return rows, arms


def row_of(one: Classed) -> dict[str, Any]:
    """A call with a prompt as a row that ``train.rows`` reads."""
    call, body = one.call, one.call.body or {}
    asked = next(body[name] for name in PROMPTS if name in body)
    model = one.asks or call.model
    figures: dict[str, Any] = {} if call.cost_nano_usd is None else {"cost_usd": call.cost_nano_usd / NANO}
    if call.usage is not None:
        figures |= {"prompt_tokens": call.usage.prompt_tokens, "completion_tokens": call.usage.completion_tokens}
    task_class, _, band = one.stratum.rpartition("/")
    log = {"model": call.model, "stratum": one.stratum, "counted_tokens": one.tokens, **figures}
    if call.at_ms is not None:
        log["at"] = to_rfc3339(call.at_ms)
    return {
        "id": call.id,
        "source": call.source,
        **({"prompt": asked} if isinstance(asked, str) else {"messages": _messages(asked)}),
        **({"class": task_class} if task_class and band else {}),
        "arms": {model: {"quality": round(call.quality, 6), **figures}} if call.quality is not None and model else {},
        "log": log,
    }


def _messages(asked: Any) -> list[Any]:
    """Texts as messages of a user, so that they read as prompts do."""
    if not isinstance(asked, list):
        return []
    return [{"role": "user", "content": item} if isinstance(item, str) else item for item in asked]


def refused(faults: Faults) -> tuple[int, int]:
    """Lines that were refused, and lines that were left out."""
    broken = faults[Fault.BROKEN_FILE].count if Fault.BROKEN_FILE in faults else 0
    return faults.of(Sort.REFUSED) - broken, faults.of(Sort.LEFT_OUT)
