"""How simulated models behave: latency, errors, quality and length by model, as values read from a TOML file.

Everything is drawn from xxh3 of the prompt, the model and the call's idempotency key, so the same calls behave the same
again and a retry draws anew. Whether an answer is *good* depends on prompt and model alone.

```toml
[models.small]
latency_ms = 120            # median; log-normal around it with sigma, 0 = always the same
latency_sigma = 0.4
first_token_ms = 30         # of a stream: when its first token comes, the others evenly until the latency is over; 0 = evenly from the start
completion_tokens = 80      # median, log-normal too; never above max_tokens of the request
completion_sigma = 0.5
served_model = "small-2026-05"
says = "B"                  # always this text, as a judge might; else words of the length drawn
requests_per_s = 50         # beyond it: 429; 0 = no limit
retry_after_s = 1.0         # what a 429 says
hang_s = 600                # how long a hanging call keeps silent
certainty = 0.5             # how much its log-probabilities tell of whether an answer is good: 0 nothing .. 1 all
[models.small.quality]      # probability of a good answer by task class; "default" for the rest
default = 0.9
math = 0.6
[models.small.errors]       # probability by kind: any HTTP status, hang, cut, malformed, truncated, refused, stall, error_event, too_long, unpaid
503 = 0.01
hang = 0.001
[[classes]]                 # task class of a prompt: the first whose word is in the last user message
name = "math"
any = ["solve", "equation"]
```
`body.metadata.task_class` of a request, when given, says its class instead; a router that is to be judged must not read it. `body.metadata.fails`
says how models fail this very request, to try a fallback: `{"small": "503"}` always, `{"small": ["503", "hang"]}` at its first and second attempt.
With `stream` in a request: `cut`, `stall` (silence for `hang_s`), `truncated` (no finish reason) and `malformed` come after half of
the tokens, and so does `error_event`. Without, `stall` sends half of the body and `error_event` is a 200 with an error in it.
A model that the file does not name behaves like `[models.default]`, else like the defaults above with no errors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any, Final

import xxhash

from router.config.toml import read_toml
from router.contract.errors import ConfigError

NAMED_ERRORS: Final = frozenset(
    {"hang", "cut", "malformed", "truncated", "refused", "stall", "error_event", "too_long", "unpaid"}
)
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """One simulated model. Probabilities lie in 0..1, those of errors sum to 1 at most."""

    latency_ms: float = 120.0
    latency_sigma: float = 0.4
    first_token_ms: float = 0.0
    completion_tokens: float = 80.0
    completion_sigma: float = 0.5
    served_model: str | None = None
    says: str | None = None
    requests_per_s: float = 0.0
    retry_after_s: float = 1.0
    hang_s: float = 600.0
    certainty: float = 0.5
    quality: dict[str, float] = field(default_factory=lambda: {"default": 0.9})
    errors: dict[str, float] = field(default_factory=dict)

    def p_good(self, task_class: str) -> float:
        """Probability of a good answer."""
        return self.quality.get(task_class, self.quality.get("default", 1.0))

    def latency_s(self, draw: float) -> float:
        """Seconds from call to answer for a uniform draw in (0, 1)."""
        return spread(self.latency_ms, self.latency_sigma, draw) / 1000

    def length_tokens(self, draw: float) -> int:
        """Completion tokens, at least 1, for a uniform draw in (0, 1)."""
        return max(1, round(spread(self.completion_tokens, self.completion_sigma, draw)))

    def logprob(self, good: bool, draw: float) -> float:
        """Mean log-probability of an answer's tokens, for a uniform draw: a bad answer is less sure, by ``certainty``."""
        unsure = -math.log(draw) * 0.15
        return -unsure if good else -(unsure + 1.2 * self.certainty)

    def error(self, draw: float) -> str | None:
        """The kind of error for a uniform draw, ``None`` for a good call."""
        for kind, share in self.errors.items():
            if draw < share:
                return kind
            draw -= share
        return None


def spread(median: float, sigma: float, draw: float) -> float:
    """A log-normal value by inversion; the median itself when ``sigma`` is 0."""
    return median * math.exp(sigma * _NORMAL.inv_cdf(draw)) if sigma else median


def uniform(*parts: str) -> float:
    """A number in the open interval (0, 1), the same for the same texts."""
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return ((xxhash.xxh3_64_intdigest(text) >> 12) + 0.5) / 2.0**52


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskClass:
    """A class of prompts: those whose last user message has one of ``any`` in it, in any case."""

    name: str
    any: tuple[str, ...]


#: What the demonstration's prompts are made of. First match wins.
DEFAULT_CLASSES = (
    TaskClass(name="code", any=("```", "function", "python", "sql", "javascript", "stack trace", "refactor", "regex")),
    TaskClass(name="translate", any=("translate", "übersetze", "traduis", "traduce", "traduci")),
    TaskClass(name="summarise", any=("summarise", "summarize", "summary", "zusammen", "résume", "resume en")),
    TaskClass(name="extract", any=("extract", "as json", "list every", "which fields")),
    TaskClass(name="math", any=("how many", "solve", "equation", "probability", "calculate", "per cent", "interest")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All simulated models and how prompts fall into classes."""

    models: dict[str, Behaviour] = field(default_factory=dict)
    classes: tuple[TaskClass, ...] = DEFAULT_CLASSES

    def of(self, model: str) -> Behaviour:
        return self.models.get(model) or self.models.get("default") or _DEFAULT

    def task_class(self, prompt: str) -> str:
        """The first class with a word in ``prompt``, else ``general``."""
        folded = prompt.casefold()
        return next((c.name for c in self.classes if any(word in folded for word in c.any)), "general")

    def changed(self, found: Any) -> World:
        """A copy with ``{"models": {name: {key: value}}}`` merged into it; tables within merge key by key.

        Raises ``ConfigError`` naming the key that is wrong.
        """
        table = _table(found, "the document")
        unknown = table.keys() - {"models", "classes"}
        if unknown:
            raise ConfigError(f"{min(unknown)}: unknown; known are models and classes")
        models = dict(self.models)
        for name, value in _table(table.get("models", {}), "models").items():
            models[name] = _merge(self.of(name), _table(value, f"models.{name}"), f"models.{name}")
        classes = tuple(map(_class, table["classes"])) if "classes" in table else self.classes
        return replace(self, models=models, classes=classes)


_DEFAULT = Behaviour()


def is_error(kind: str) -> bool:
    """Whether a call can fail like that."""
    return kind in NAMED_ERRORS or (kind.isascii() and kind.isdecimal() and 300 <= int(kind) <= 599)


def read_world(path: Path) -> World:
    """The world of a TOML file; ``ConfigError`` names file and key."""
    try:
        found = read_toml(path.read_text("utf-8"), str(path))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: {error}") from error
    try:
        return World().changed(found)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _merge(behaviour: Behaviour, changes: dict[str, Any], where: str) -> Behaviour:
    known = {f.name for f in fields(Behaviour)}
    for name, value in changes.items():
        if name not in known:
            raise ConfigError(f"{where}.{name}: unknown; known are {', '.join(sorted(known))}")
        if name in {"quality", "errors"}:
            shares = {key: _number(share, f"{where}.{name}.{key}", 1.0) for key, share in _table(value, name).items()}
            value = {**getattr(behaviour, name), **shares}  # noqa: PLW2901 - the merged value takes its place
        elif name in {"served_model", "says"}:
            if value is not None and not isinstance(value, str):
                raise ConfigError(f"{where}.{name}: must be text")
        else:
            value = _number(value, f"{where}.{name}", 1e9)  # noqa: PLW2901 - the checked value takes its place
        behaviour = replace(behaviour, **{name: value})
    for kind in behaviour.errors:
        if not is_error(kind):
            raise ConfigError(f"{where}.errors.{kind}: an HTTP status or one of {', '.join(sorted(NAMED_ERRORS))}")
    if sum(behaviour.errors.values()) > 1 + 1e-9:
        raise ConfigError(f"{where}.errors: the probabilities sum to more than 1")
    return behaviour


def _class(found: Any) -> TaskClass:
    table = _table(found, "classes")
    name, words = table.get("name"), table.get("any")
    if not isinstance(name, str) or not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ConfigError("classes: each needs a name and a list `any` of words")
    return TaskClass(name=name, any=tuple(word.casefold() for word in words))


def _table(found: Any, where: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: must be a table")
    return found


def _number(value: Any, where: str, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ConfigError(f"{where}: must be a number from 0 to {most:g}")
    return float(value)
