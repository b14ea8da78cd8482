"""The labels of a stratum that count, and the threshold they lead to (``core/risk``).

- Labels are in the order of their answers. When the watch cries, those from before the change for the worse are dropped, and from then
  on only answers are watched that were given since: those before were given by the threshold that had failed.
- A new ``served_model`` starts without any. While several are served the strictest threshold holds, and that of the configuration for one
  that has too few labels. The ``MOST_SERVED`` newest are told apart, what else there may be is taken for one.
- ``scale`` names what a confidence means (``cascade.scale_of``): labels of another model, signal or check are others' and are dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import xxhash

from router.contract.records import Reward
from router.core.cascade import USUAL_SHARE, too_low
from router.core.risk import Calibration, Label, Later, calibrate, later

#: Labels that are kept, the newest.
MAX_LABELS: Final = 2000
#: A served model of which no label came for this long is no longer served.
GONE_MS: Final = 86_400_000
#: Served models told apart, and their names' length; of the rest: this.
MOST_SERVED, MAX_NAME, OTHERS = 8, 64, "others"
#: Labels that the prior share of escalations is worth.
_PRIOR: Final = 20.0


@dataclass(frozen=True, slots=True)
class InForce:
    """What holds in a stratum. ``calibrated`` only if every model that is served now has a threshold of its own."""

    threshold: float
    calibrated: bool
    escalates: float
    served: dict[str, Calibration]
    later: dict[str, Later]


@dataclass(frozen=True, slots=True)
class Labels:
    """In the order of their answers. ``watched_ms``: the watch looks at later ones only."""

    scale: str
    known: tuple[Label, ...] = ()
    watched_ms: int = 0

    def adding(self, news: Iterable[Label], target: float, now_ms: int) -> Labels:
        """With these, read at ``now_ms``."""
        ordered = tuple(sorted([*self.known, *news], key=_in_time)[-MAX_LABELS:])
        watched_ms, dropped = self.watched_ms, set[int]()
        for mine in by_served(ordered).values():
            fresh = [one for one in mine if one.at_ms > self.watched_ms]
            since = later(fresh, target).since
            if since is not None:
                watched_ms = now_ms
                dropped |= {id(one) for one in mine if _in_time(one) < _in_time(fresh[since])}
        return replace(self, known=tuple(one for one in ordered if id(one) not in dropped), watched_ms=watched_ms)

    def in_force(self, start: float, target: float, delta: float) -> InForce:
        """The threshold by these labels; ``start`` where a served model has too few of them."""
        newest_ms = max((one.at_ms for one in self.known), default=0)
        alive = {name: found for name, found in by_served(self.known).items() if found[-1].at_ms >= newest_ms - GONE_MS}
        served = {name: calibrate(found, target, delta) for name, found in alive.items()}
        thresholds = [start if one.threshold is None else one.threshold for one in served.values()]
        threshold = max(thresholds, default=start)
        counted = [one for found in alive.values() for one in found]
        below = sum(one.weight for one in counted if too_low(one.confidence, threshold))
        mean = sum(one.weight for one in counted) / len(counted) if counted else 1.0
        return InForce(
            threshold=threshold,
            calibrated=bool(served) and all(one.threshold is not None for one in served.values()),
            escalates=round((below / mean + USUAL_SHARE * _PRIOR) / (len(counted) + _PRIOR), 3),
            served=served,
            later={name: later(found, target) for name, found in alive.items()},
        )

    def dump(self) -> list[Any]:
        """JSON values."""
        return [self.scale, self.watched_ms, [tuple(one) for one in self.known]]


def load(values: Sequence[Any]) -> Labels:
    """The inverse of ``dump``."""
    scale, watched_ms, known = values
    return Labels(scale, tuple(Label(*one) for one in known), watched_ms)


def label_of(reward: Reward, scale: str) -> Label | None:
    """The label in a reward, if there is one of this scale."""
    label = reward.label
    if label is None or label.inclusion <= 0.0 or label.scale != scale:
        return None
    return Label(
        confidence=float(label.confidence),
        quality=float(reward.reward),
        weight=1.0 / float(label.inclusion),
        at_ms=label.at_ms,
        served_model=label.served_model,
        held=None if label.threshold is None else float(label.threshold),
        promised=label.calibrated,
        number=xxhash.xxh32_intdigest(reward.request_id.encode()),
    )


def by_served(labels: Sequence[Label]) -> dict[str, list[Label]]:
    """Labels by served model, those of the newest ``MOST_SERVED`` and of all others; each in the order given."""
    newest = dict.fromkeys(one.served_model for one in reversed(labels))
    apart = {name: name[:MAX_NAME] for name in list(newest)[:MOST_SERVED]}
    found: dict[str, list[Label]] = {}
    for one in labels:
        found.setdefault(apart.get(one.served_model, OTHERS), []).append(one)
    return found


def _in_time(label: Label) -> tuple[Any, ...]:
    """By time; labels of one time in an order that has nothing to do with what they say."""
    return (label.at_ms, label.number, label.served_model, *label[:3])
