"""How a stage's app stands, put as a ``Probe``: lag that it could work off, and a mark that moves when it does.

- Counted is the partition that is worst off: with lag, and its lane's last progress the longest ago.
- A partition of which nothing was ever fetched counts as behind by one: even an empty one is read to its end at once.
- A source that is held back on purpose (``readable`` false, ``holds`` true) and a stage that is not ready (no fresh
  snapshot) wait, and that is no standstill. Nor is it one while the ends are not known: the broker is away.
- A rebalance that never ends is: lag 1, no progress.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from faust.types import TP

#: The app asks for the ends every second or so; an answer this old is none.
ENDS_S = 5.0


class Staged(Protocol):
    """What is needed of ``router.kafka.stage.Stage``."""

    @property
    def name(self) -> str: ...


class App(Protocol):
    """What is needed of ``router.kafka.stage_app.StageApp``."""

    @property
    def stage(self) -> Staged: ...
    def readable(self, tp: TP) -> bool: ...
    def liveness(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class StageProbe:
    """A ``Probe`` of one stage's app in this process."""

    app: App

    @property
    def name(self) -> str:
        return self.app.stage.name

    def liveness(self) -> dict[str, Any]:
        said = self.app.liveness()
        standing = {"ready": bool(said["ready"]), "rebalancing": bool(said["rebalancing"])}
        standing |= {f"done_{figure}": value for figure, value in said.get("done", {}).items()}
        partitions: Mapping[str, Mapping[str, Any]] = said["partitions"]
        total = sum(one["lag"] or 0 for one in partitions.values())
        if said["rebalancing"]:
            return standing | {"lag": 1, "progress": "rebalancing", "lag_total": total}
        if not said["ready"] or said.get("ends_age_s", 0.0) > ENDS_S:
            return standing | {"lag": None, "progress": None, "lag_total": total}
        worst = max(self._behind(partitions), key=lambda at: partitions[at]["progress_age_s"], default=None)
        if worst is None:
            return standing | {"lag": 0, "progress": None, "lag_total": total}
        one = partitions[worst]
        return standing | {
            "lag": one["lag"] or 1,
            "progress": (worst, one["position"]),
            "worst": worst,
            "lag_total": total,
        }

    def _behind(self, partitions: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
        for at, one in partitions.items():
            topic, _, number = at.rpartition("/")
            unfetched = one["position"] is None and one["end"] is not None
            if (one["lag"] or unfetched) and self.app.readable(TP(topic, int(number))):
                yield at


@dataclass(frozen=True, slots=True)
class FreshProbe:
    """A ``Probe`` of a follower: never behind by itself, ready while it has confirmed the end lately."""

    name: str
    fresh: Callable[[], bool]

    def liveness(self) -> dict[str, Any]:
        return {"lag": 0, "progress": None, "ready": self.fresh()}
