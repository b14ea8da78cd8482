"""What a rollout with the default success metrics would have decided on a recorded stream.

The stream's own shares stay what they were, so steps are answers to "was enough shown by then?", not to "what would have happened after that?". Latency is not in a stream.
A stratum that the guard has given back is at 0 %; where it is a slice, all wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from router.config import RolloutConfig
from router.core.guard.detector import DAY_MS
from router.core.guard.slices import PREFIX
from router.core.guard.unit import HOUR_MS, Arm
from router.core.rollout.ladder import Climb, Ladder, Plan, Step, Word

#: Statuses of an event with an answer; one that says nothing had one.
_ANSWERED: Final = frozenset({"ok", None})


class Course:
    """``margin`` 0..1; time begins at ``started_ms``."""

    def __init__(self, margin: float, started_ms: int) -> None:
        declared = RolloutConfig(latency_ratio=None)
        self._ladder = Ladder(Plan.of(declared, margin), started_ms)
        self.steps: list[tuple[float, Step]] = []

    def served(self, stratum: str, arm: Arm, status: Any, cost: float | None, now_ms: int) -> None:
        """An event that is no shadow's."""
        if (climb := self._climb(stratum, now_ms)) is None:
            return
        climb.evidence.served(arm, 1, int(status in _ANSWERED if isinstance(status, str | None) else 0), {})
        if cost is None:
            climb.evidence.unpriced(arm, 1)
        else:
            climb.evidence.spent(arm, now_ms // HOUR_MS * HOUR_MS, 1, round(cost))

    def reviewed(self, stratum: str, arm: Arm, value: float, now_ms: int) -> None:
        """A review of an answer, 0..1."""
        if (climb := self._climb(stratum, now_ms)) is not None:
            climb.evidence.reviewed(arm, 1, value)

    def pair(self, stratum: str, verdict: float, now_ms: int) -> None:
        """-1..1, above 0: the pilot's answer is worse."""
        if (climb := self._climb(stratum, now_ms)) is not None:
            climb.evidence.pair(verdict)

    def look(self, fenced: Mapping[str, int], now_ms: int) -> None:
        """An hour has ended; ``fenced``: what the guard has given back."""
        words = {name: Word("guard", "the guard has given it back") for name in fenced if not name.startswith(PREFIX)}
        slices = [name for name in fenced if name.startswith(PREFIX)]
        waits = f"the guard has given {slices[0]} back" if slices else None
        for step in self._ladder.decide(words, now_ms, waits):
            self.steps.append(((now_ms - self._ladder.started_ms) / DAY_MS, step))

    def document(self) -> dict[str, Any]:
        """Stages, where each stratum has come to, and every step."""
        return {
            "stages": list(self._ladder.plan.stages),
            "percent": {name: self._ladder.percent(name) for name in sorted(self._ladder.strata)},
            "steps": [
                {
                    "day": round(day, 3),
                    "stratum": step.stratum,
                    "kind": step.kind,
                    "before_percent": step.before,
                    "after_percent": step.after,
                    "reason": step.why,
                    "known": [gate._asdict() for gate in step.gates],
                }
                for day, step in self.steps
            ],
        }

    def _climb(self, stratum: str, now_ms: int) -> Climb | None:
        climb = self._ladder.climb(stratum, now_ms)
        return climb if climb is not None and self._ladder.hears(climb) else None
