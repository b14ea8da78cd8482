"""What the guard of a pool hears, on its way from the records of all lanes to the one that has the pool.

A piece of a batch becomes one record of ``guard.evidence``: requests counted by (stratum, arm, tenant, minute, slices), what was said of answers, verdicts on
pairs, and the names that providers gave. ``tell`` is the other end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from router.contract.codec import from_rfc3339
from router.core.guard.monitor import Guard, Opinion, Place
from router.core.guard.slices import PREFIX
from router.core.guard.unit import Arm
from router.core.slicing import known

#: Between two looks at the tests, of the records' own time.
STEP_MS: Final = 60_000
#: Names of models that a piece of a batch tells.
MOST_SERVED: Final = 64
ARMS: Final[dict[str, Arm]] = {"pilot": "pilot", "holdout": "reference", "control": "reference"}
#: Tenants that are not configured.
OTHER: Final = "other"
_FAILED: Final = frozenset({"refused", "truncated"})


@dataclass(slots=True)
class Heard:
    """Of one pool in a piece of a batch: requests and nano-dollars saved by (stratum, arm, tenant, minute, slices), what was said of answers.

    ``served``: model and what its provider calls it -> the first time.
    """

    requests: dict[tuple[str, Arm, str, int, tuple[str, ...]], list[int]] = field(default_factory=dict)
    said: list[list[Any]] = field(default_factory=list)
    pairs: list[list[Any]] = field(default_factory=list)
    served: dict[tuple[str, str], int] = field(default_factory=dict)

    def attempt(self, found: Mapping[str, Any], arm: Arm, tenant: str, scale: int) -> None:
        """A record of ``usage``. Requests are counted by their first attempt."""
        at_ms, slices = found["at_ms"] * scale, known(found.get("slices"))
        if found["status"] in _FAILED:
            whose = [tenant, None, at_ms, at_ms, None, 1.0, slices]
            self.said.append([found["status"], 1.0, arm, found["stratum"], *whose])
        if (name := found.get("served_model")) and len(self.served) < MOST_SERVED:
            self.served.setdefault((found["model"], name), at_ms)
        if found["attempt"] != 1:
            return
        sums = self.requests.setdefault((found["stratum"], arm, tenant, at_ms // STEP_MS, slices), [0, 0])
        sums[0] += 1
        if arm == "pilot" and found["cost_nano_usd"] is not None:
            sums[1] += found["baseline_cost_nano_usd"] - found["cost_nano_usd"]

    def reward(self, found: Mapping[str, Any], arm: Arm, tenant: str, scale: int) -> None:
        """A record of ``rewards``; labels of a cascade's sample are about answers that the caller may not have got."""
        if found["label"] is not None:
            return
        at_ms = from_rfc3339(found["at"]) * scale
        asked_ms = at_ms if found.get("asked_at") is None else from_rfc3339(found["asked_at"]) * scale
        model = found["model"] if found["model"] == found["first_model"] else None
        slices = known(found.get("slices"))
        whose = [tenant, found["session"], asked_ms, at_ms, model, found["propensity"], slices]
        self.said.append([found["kind"], found["reward"], arm, found["stratum"], *whose])

    def pair(self, found: Mapping[str, Any], tenant: str, scale: int) -> None:
        """A record of ``pairs``."""
        slices = known(found.get("slices"))
        self.pairs.append([float(found["verdict"]), found["stratum"], tenant, found["at_ms"] * scale, slices])

    def dump(self) -> bytes:
        requests = [[*part, *sums, slices] for (*part, slices), sums in self.requests.items()]
        served = [[*names, at_ms] for names, at_ms in self.served.items()]
        return orjson.dumps({"requests": requests, "said": self.said, "pairs": self.pairs, "served": served})


def tell(guard: Guard, found: Mapping[str, Any]) -> Iterable[tuple[Place, float]]:
    """Tell a pool's guard what was collected; all verdicts on pairs are given back, too, for those of a unit that is fenced are no evidence to it."""
    for stratum, arm, tenant, minute, count, saved, *slices in found["requests"]:
        place = _place(stratum, tenant, *slices)
        guard.requests(place, arm, count, minute * STEP_MS)
        if saved:
            guard.saved(place, saved, minute * STEP_MS)
    for said in found["said"]:
        _say(guard, said)
    for model, name, at_ms in found.get("served", ()):
        guard.served(model, name, at_ms)
    pairs = [
        (_place(stratum, tenant, *slices), verdict, at_ms)
        for verdict, stratum, tenant, at_ms, *slices in found["pairs"]
    ]
    for place, verdict, at_ms in pairs:
        guard.pair(place, verdict, at_ms)
    return [(place, verdict) for place, verdict, _ in pairs]


def _say(guard: Guard, said: Sequence[Any]) -> None:
    signal, value, arm, stratum, tenant, session, asked_ms, at_ms, model, propensity, *slices = said
    place = _place(stratum, tenant, *slices)
    if signal in _FAILED:
        guard.happened(signal, arm, place, at_ms)
        return
    one = Opinion(
        signal=signal,
        value=value,
        arm=arm,
        place=place,
        asked_ms=asked_ms,
        session=session,
        model=model,
        propensity=propensity,
    )
    guard.opinion(one, at_ms)


def latest(found: Mapping[str, Any]) -> int | None:
    """The latest time in what was collected, ms; ``None`` if it holds nothing."""
    times = [(one[3] + 1) * STEP_MS - 1 for one in found["requests"]]
    times += [one[7] for one in found["said"]] + [one[3] for one in found["pairs"]]
    times += [one[2] for one in found.get("served", ())]
    return max(times, default=None)


def _place(stratum: str, tenant: str, slices: Iterable[str] = ()) -> Place:
    """``slices``: none in what an earlier release has collected. A tenant that is not configured has no slice: no order could name it."""
    names = [f"{PREFIX}{name}" for name in slices]
    return Place(stratum, tuple(names if tenant == OTHER else [*names, f"{PREFIX}tenant={tenant}"]), tenant)
