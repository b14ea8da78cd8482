"""A cascade: the cheapest model of a pool answers first; where its answer is not sure enough, a better one is asked.

*Confidence* (0..1) is what the worker says of an answer: how probable the model thought its own words, 0 where a check failed.
An answer is given out if it has the confidence that the stratum asks for, its ``threshold``; ``core.risk`` finds that from
labelled answers. Choosing the cheapest model under a cascade is *one arm*: its cost is that of both calls, its quality that of
whatever the caller gets. So an escalation never speaks for the model that was asked second (``arm_of``).

Only the pilot's requests are tried like this, and only where the second model could be asked at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import xxhash

from router.contract.releases import by_place
from router.contract.values import value

#: Share of the answers that are taken to escalate, while nobody knows.
USUAL_SHARE: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadeFacts:
    """A pool's cascade as configured.

    ``threshold`` holds in strata that are not calibrated; ``label_percent`` of the answers of ``cheap`` are in the sample to be
    labelled; ``judge``: who says how good they are; ``scale``: of their confidence (``scale_of``); ``observe``: nothing escalates; ``hold_streams``: a stream waits for the check.
    """

    cheap: str
    to: str
    threshold: float
    label_percent: float = 0.0
    judge: str | None = None
    scale: str = ""
    observe: bool = False
    hold_streams: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """What was found for a stratum: its threshold, the share of answers below it, and of which scale it is.

    ``shown``: it keeps the target risk; else it is where a start was made.
    """

    threshold: float
    escalates: float
    scale: str = ""
    shown: bool = False


@value(frozen=True, slots=True)
class Trial:
    """An attempt whose answer is checked.

    ``to``: who is asked if it is not sure enough; ``threshold``: ``None`` if it is only observed; ``inclusion``: the probability with
    which the answer is in the sample to be labelled, 0 if it is not in it; ``judge``: a model that is asked first how good it is; ``scale`` of the confidence; ``calibrated``: the threshold
    was shown to keep the target risk.
    """

    to: str
    threshold: float | None
    inclusion: float = 0.0
    judge: str | None = None
    scale: str = ""
    calibrated: bool = False

    def values(self) -> list[Any]:
        """As JSON: slips and rows hold it like this."""
        return [self.to, self.threshold, self.inclusion, self.judge, self.scale, self.calibrated]

    def escalates(self, confidence: float | None) -> bool:
        """Whether an answer is not sure enough. One without a confidence never is, nor one that failed a check.

        >>> Trial("large", 0.5).escalates(0.7), Trial("large", 0.0).escalates(0.0), Trial("large", None).escalates(0.1)
        (False, True, False)
        """
        return too_low(confidence, self.threshold)


def too_low(confidence: float | None, threshold: float | None) -> bool:
    """Of an answer, for this threshold; ``None``: nothing is."""
    if threshold is None:
        return False
    return confidence is None or confidence <= 0.0 or confidence < threshold


def scale_of(*parts: object) -> str:
    """A name for what a confidence means: of which model, and found by what. Confidences of two scales cannot be compared."""
    return xxhash.xxh3_64_hexdigest(repr(parts).encode("utf-8", "surrogatepass"))[:8]


def trial_of(values: Any) -> Trial | None:
    """From JSON values: a list, as slips and rows have it."""
    return None if values is None else by_place(Trial, values)


def arm_of(cheap: str, to: str) -> str:
    """The name under which a cascade's rewards are learned; no model has such a name.

    >>> arm_of("small", "large")
    'small>large'
    """
    return f"{cheap}>{to}"
