"""A recorded stream: JSONL, one event a line, as the contract describes it under ``simulate --trace``.

Three fields are needed, ``t_s``, ``request_id``, ``tenant`` (``default`` if absent); what else is absent is not known. The first line may be the truth, which
the guard is judged by and does not see, but for the margin, which is the operator's to know.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeGuard

import orjson

from router.contract.errors import ConfigError
from router.core.guard.slices import PREFIX
from router.core.guard.unit import Arm

#: Stratum of events that name none.
NONE: Final = "none"
_REFERENCE: Final = frozenset({"holdout", "control"})
#: Seconds that a time may have: some thousand years.
MOST_S: Final = 1e11


@dataclass(slots=True)
class Outline:
    """What is known of a file before it is played: strata, models, who is the reference, and the truth line."""

    strata: set[str] = field(default_factory=set)
    truth: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, list[float]] = field(default_factory=dict)
    of_reference: Counter[str] = field(default_factory=Counter)

    @property
    def reference(self) -> str | None:
        """The model that the reference cohorts have, else the dearest."""
        if self.of_reference:
            return self.of_reference.most_common(1)[0][0]
        mean = {model: cost / n for model, (n, cost) in self.cost.items() if n}
        return max(mean, key=lambda model: mean[model]) if mean else None


def events(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file. ``ConfigError`` names the line that is no event."""
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    found = orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    raise ConfigError(f"{path}, line {number}: {error}") from error
                if not isinstance(found, dict):
                    raise ConfigError(f"{path}, line {number}: must be a JSON object")
                if number == 1 and isinstance(found.get("truth"), dict):
                    yield found
                    continue
                t_s = found.get("t_s")
                if not is_number(t_s) or abs(t_s) > MOST_S or not isinstance(found.get("request_id"), str):
                    raise ConfigError(f"{path}, line {number}: needs t_s, seconds, and request_id, a text")
                yield found
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def outline(found: Iterable[dict[str, Any]]) -> Outline:
    """One look at all events."""
    known = Outline()
    for event in found:
        if "truth" in event and "t_s" not in event:
            known.truth = event["truth"]
            continue
        known.strata.add(stratum_of(event))
        model, cohort = event.get("model"), _text(event.get("cohort"))
        if isinstance(model, str):
            if cohort in _REFERENCE:
                known.of_reference[model] += 1
            sums = known.cost.setdefault(model, [0.0, 0.0])
            if is_number(event.get("cost_nano_usd")):
                sums[0] += 1
                sums[1] += event["cost_nano_usd"]
    return known


def arm_of(event: dict[str, Any], reference: str | None) -> Arm | None:
    """The arm as assigned; ``None`` where nobody chose (pinned, direct). ``reference``: the model that the reference cohorts have."""
    cohort, model = _text(event.get("cohort")), event.get("model")
    if is_shadow(event):
        return "reference" if model == reference else "pilot"
    if cohort in _REFERENCE:
        return "reference"
    if cohort == "pilot":
        return "pilot"
    if cohort is not None:
        return None
    return "reference" if model is not None and model == reference else "pilot"


def is_shadow(event: dict[str, Any]) -> bool:
    return event.get("shadow_of") is not None or event.get("cohort") == "shadow"


def features_of(event: dict[str, Any]) -> dict[str, Any]:
    """What is known before the answer."""
    features = event.get("features")
    found = dict(features) if isinstance(features, dict) else {}
    if "prompt_tokens" not in found and is_number(event.get("prompt_tokens")):
        found["prompt_tokens"] = event["prompt_tokens"]
    return found


def stratum_of(event: dict[str, Any]) -> str:
    stratum = event.get("stratum")
    return stratum if isinstance(stratum, str) and stratum and not stratum.startswith(PREFIX) else NONE


def time_ms(seconds: Any, earliest_ms: int) -> int:
    """Of a time in seconds, not before ``earliest_ms``; that if it is no time at all."""
    if not is_number(seconds):
        return earliest_ms
    return max(earliest_ms, round(min(float(seconds), MOST_S) * 1000))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def is_number(value: Any) -> TypeGuard[float]:
    """A finite number, not a flag."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
