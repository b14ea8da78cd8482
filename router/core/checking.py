"""A pool's cascade as it concerns one request: whether the cheapest model is on trial, and what that is expected to cost."""

from __future__ import annotations

from dataclasses import dataclass

from router.contract.records import Cohort
from router.core.cascade import USUAL_SHARE, Calibrated, CascadeFacts, Trial
from router.core.draw import LABEL, draw
from router.core.facts import USUAL_COMPLETION_TOKENS, Candidate, RequestFacts
from router.core.price import expected_cost_nano_usd
from router.core.snapshot import PoolFacts, Snapshot

#: Attempts that follow a check, and are not checked again.
_BEYOND = frozenset({"escalate", "judge"})


@dataclass(frozen=True, slots=True)
class Checking:
    """``calibrated``: what was found for the request's stratum, ``None`` as long as nothing was. ``judging``: cost of the judge's call."""

    cascade: CascadeFacts
    calibrated: Calibrated | None
    judging_nano_usd: int = 0

    def trial(self, facts: RequestFacts, model: str, candidates: tuple[Candidate, ...]) -> Trial | None:
        """The check of the answer, if this model is on trial and the request could go on to the other one."""
        cascade = self.cascade
        costs = {one.model: one.expected_cost_nano_usd for one in candidates if one.excluded is None}
        if model != cascade.cheap or cascade.to not in costs:
            return None
        most, theirs = facts.max_cost_nano_usd, costs[cascade.to] or 0
        both = (costs[model] or 0) - self._beyond(theirs) + self.judging_nano_usd + theirs
        if most is not None and both > most:
            return None  # both calls would cost more than the request allows
        held = cascade.threshold if self.calibrated is None else self.calibrated.threshold
        shown = self.calibrated is not None and self.calibrated.shown
        chance = cascade.label_percent / 100.0
        sampled = chance > 0.0 and draw(facts.tenant, facts.request_id, LABEL) < chance
        return Trial(
            to=cascade.to,
            threshold=None if cascade.observe else held,
            inclusion=chance if sampled else 0.0,
            judge=cascade.judge,
            scale=cascade.scale,
            calibrated=shown,
        )

    def priced(self, candidates: list[Candidate]) -> list[Candidate]:
        """The model on trial costs what the judge costs, and the other as often as its answers escalate; if that can be asked."""
        costs = {one.model: one.expected_cost_nano_usd for one in candidates}
        mine, theirs = costs.get(self.cascade.cheap), costs.get(self.cascade.to)
        if mine is None or theirs is None:
            return candidates
        both = mine + self._beyond(theirs)
        return [
            one._replace(expected_cost_nano_usd=both) if one.model == self.cascade.cheap else one for one in candidates
        ]

    def _beyond(self, theirs_nano_usd: int) -> int:
        """What is expected to be paid beyond the first call."""
        if self.cascade.observe:
            return round(self.cascade.label_percent / 100.0 * self.judging_nano_usd)
        share = USUAL_SHARE if self.calibrated is None else self.calibrated.escalates
        return self.judging_nano_usd + round(share * theirs_nano_usd)


def checking_of(
    facts: RequestFacts, snapshot: Snapshot, pool: PoolFacts, stratum: str, cohort: Cohort
) -> Checking | None:
    """The pool's cascade where it may try this request: of the pilot, with an answer that can be read, not escalated already."""
    cascade = pool.cascade
    if cascade is None or cohort != "pilot" or facts.reason in _BEYOND or pool.policy == "observe":
        return None
    if facts.form == "other" or (facts.form == "stream" and not cascade.hold_streams):
        return None
    if facts.first is not None and facts.first.model != cascade.cheap:
        return None
    published = snapshot.weights.get((pool.name, stratum))
    found = None if published is None else published.cascade
    judge, judging = snapshot.models.get(cascade.judge or ""), None
    if judge is not None:
        judging = expected_cost_nano_usd(judge.price, facts.prompt_tokens + USUAL_COMPLETION_TOKENS, 0)
    return Checking(cascade, found if found is not None and found.scale == cascade.scale else None, judging or 0)
