"""A world to be simulated, as data: traffic, how good answers are and when that changes, and who says so.

```toml
name = "main"
days = 100
requests_per_day = 40000        # of which eligible for the cheap model:
eligible = 0.65
margin = 0.10                   # how much worse an answer may be, in the share of bad ones
holdout_percent = 2.0
rollout = [[0, 5], [10.5, 10]]  # day, per cent of what the holdout leaves
weekend = 1.0                   # traffic on days 5 and 6 of each week, of a usual day's
hours = 1.0                     # traffic at noon, of a mean hour's; at midnight 2 minus that
cheap_cost = 0.06               # of a baseline call
judge_cost = 0.3                # of a baseline call

[strata]                        # share of the eligible traffic; sum 1
"chat/easy" = 0.2
[dimensions.language]           # what else a request has, beside its stratum: value -> share; sum 1
en = 0.7
[quality]                       # share of bad answers
cheap = 0.06
baseline = 0.06

[[changes]]                     # of quality, from `day` on, linearly until `until` (absent: at once), to `bad`; `back`: as before from then on
day = 14
until = 42
bad = 0.30
who = "cheap"                   # or "baseline"
stratum = "chat/easy"           # absent: all
where = { language = "ja" }     # absent: all

[[traffic]]                     # `factor` times the traffic from `day` until `until`, `stratum` and `where` as above; 0: an outage
[[storms]]                      # thumbs down that no answer deserved: `per_day` by `tenant` from `day` until `until`, on `arm` pilot or all
[[judges]]                      # from `day` until `until` the judge has `accuracy`, and finds the pilot worse in `bias` of the pairs whatever it sees
[[versions]]                    # from `day` on the provider says `served_model`; `alternate`: turn by turn with the one before

[thumbs]                        # probability of a thumb down; delay in hours, log-normal
bad = 0.01475
good = 0.00225
delay_median_h = 4.0
delay_p95_h = 24.0
[reviews]
per_day = 200
sensitivity = 0.95
specificity = 0.98
delay_h = 8.0
[judge]
accuracy = 0.85
pairs_per_day = 160             # shadow pairs of a calm day
```
Whatever is absent is as in the main world.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from router.config.toml import read_toml
from router.contract.errors import ConfigError

WORLDS: Final = files("router") / "data" / "worlds"

Share = Annotated[float, Field(ge=0, le=1)]
Day = Annotated[float, Field(ge=0, le=3650)]
Amount = Annotated[float, Field(ge=0, le=1e8)]


class Table(BaseModel):
    """A table of the file: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Quality(Table):
    """Share of bad answers."""

    cheap: Share = 0.06
    baseline: Share = 0.06


class Thumbs(Table):
    """Who puts a thumb down, and when."""

    bad: Share = 0.01475
    good: Share = 0.00225
    delay_median_h: Annotated[float, Field(gt=0, le=1000)] = 4.0
    delay_p95_h: Annotated[float, Field(gt=0, le=1000)] = 24.0


class Reviews(Table):
    """What people find when they look."""

    per_day: Amount = 200.0
    sensitivity: Share = 0.95
    specificity: Share = 0.98
    delay_h: Annotated[float, Field(ge=1, le=1000)] = 8.0


class Judge(Table):
    """The model that compares pairs."""

    accuracy: Share = 0.85
    pairs_per_day: Amount = 160.0


class Part(Table):
    """Of the traffic: a stratum, or all of them; requests with these values."""

    stratum: str | None = None
    where: dict[str, str] = Field(default_factory=dict)


class Change(Part):
    """Of quality."""

    day: Day
    bad: Share
    until: Day | None = None
    back: Day | None = None
    who: Literal["cheap", "baseline"] = "cheap"


class Traffic(Part):
    """More of it, or less."""

    day: Day
    until: Day
    factor: Annotated[float, Field(ge=0, le=1000)]


class Storm(Table):
    """Thumbs down that no answer deserved."""

    day: Day
    until: Day
    per_day: Amount
    tenant: str
    arm: Literal["pilot", "all"] = "all"


class JudgeChange(Table):
    """Another judge for some days."""

    day: Day
    until: Day
    accuracy: Share
    bias: Share = 0.0


class Version(Table):
    """What the provider says that it serves."""

    day: Day
    served_model: str
    alternate: bool = False


_STRATA: Final = {
    "code/hard": 0.20,
    "chat/easy": 0.8 / 7,
    "chat/hard": 0.8 / 7,
    "code/easy": 0.8 / 7,
    "extract/any": 0.8 / 7,
    "math/easy": 0.8 / 7,
    "math/hard": 0.8 / 7,
    "summarise/any": 0.8 / 7,
}
_DIMENSIONS: Final = {
    "language": {"en": 0.7, "de": 0.2, "ja": 0.1},
    "length": {"short": 0.3, "middle": 0.5, "long": 0.2},
    "tenant": {"acme": 0.4, "globex": 0.3, "initech": 0.2, "umbrella": 0.1},
}
_ROLLOUT: Final = ((0.0, 5.0), (10.5, 10.0), (21.0, 25.0), (31.5, 50.0), (42.0, 100.0))


class World(Table):
    """See the module's text."""

    name: str = "main"
    days: Annotated[float, Field(gt=0, le=3650)] = 100.0
    requests_per_day: Annotated[float, Field(gt=0, le=1e8)] = 40_000.0
    eligible: Share = 0.65
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.10
    holdout_percent: Annotated[float, Field(ge=0, le=100)] = 2.0
    rollout: Annotated[tuple[tuple[Day, Annotated[float, Field(ge=0, le=100)]], ...], Field(min_length=1)] = _ROLLOUT
    weekend: Annotated[float, Field(ge=0, le=10)] = 1.0
    hours: Annotated[float, Field(ge=1, le=2)] = 1.0
    cheap_cost: Share = 0.06
    judge_cost: Annotated[float, Field(ge=0, le=100)] = 0.3
    strata: dict[str, Share] = Field(default_factory=lambda: dict(_STRATA))
    dimensions: dict[str, dict[str, Share]] = Field(default_factory=lambda: dict(_DIMENSIONS))
    quality: Quality = Quality()
    thumbs: Thumbs = Thumbs()
    reviews: Reviews = Reviews()
    judge: Judge = Judge()
    changes: tuple[Change, ...] = (Change(day=14, until=42, bad=0.30, stratum="code/hard"),)
    traffic: tuple[Traffic, ...] = ()
    storms: tuple[Storm, ...] = ()
    judges: tuple[JudgeChange, ...] = ()
    versions: tuple[Version, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> World:
        tables = {"strata": self.strata} | {f"dimensions.{name}": shares for name, shares in self.dimensions.items()}
        for where, shares in tables.items():
            if abs(sum(shares.values()) - 1.0) > 1e-6:
                raise ValueError(f"{where}: the shares must sum to 1")
        for part in (*self.changes, *self.traffic):
            if part.stratum is not None and part.stratum not in self.strata:
                raise ValueError(f"stratum {part.stratum!r} is none of the strata")
            for dimension, value in part.where.items():
                if value not in self.dimensions.get(dimension, {}):
                    raise ValueError(f"where: {value!r} is no value of dimensions.{dimension}")
        if self.thumbs.delay_p95_h < self.thumbs.delay_median_h:
            raise ValueError("thumbs.delay_p95_h: must not be less than the median")
        return self


def names() -> list[str]:
    """The worlds that are shipped."""
    return sorted(Path(one.name).stem for one in WORLDS.iterdir() if one.name.endswith(".toml"))


def about(name: str) -> str:
    """The first line of a shipped world."""
    return (WORLDS / f"{name}.toml").read_text("utf-8").splitlines()[0].removeprefix("# ")


def read(path: str) -> World:
    """The world of a TOML file, or one that is shipped, by name. ``ConfigError`` names the key that is wrong."""
    try:
        text = (WORLDS / f"{path}.toml").read_text("utf-8") if path in names() else Path(path).read_text("utf-8")
    except OSError as error:
        shipped = ", ".join(names())
        raise ConfigError(f"{path}: {error.strerror}; worlds that are shipped: {shipped}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: {error}") from error
    found = read_toml(text, path)
    try:
        return World.model_validate({"name": Path(path).stem} | found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path}: {where}: {first['msg']}" if where else f"{path}: {first['msg']}") from error
