"""``[pools.X.cascade]``: the cheapest model answers first, and a better one is asked where its answer is not sure enough."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from router.config.kinds import Name, Percent, Share
from router.config.section import Section


class CascadeConfig(Section):
    """The cheapest model of the pool answers first; where its answer is not sure enough, a better one is asked.

    Confidence is 0..1: the geometric mean of the probabilities of the answer's tokens where the model tells them, or what a judge says
    of it, else 1; and 0 where a check fails. A worker of another language says its own. What it will cost: ``pointsman cascade plan``.
    """

    escalate_to: Name | None = None
    """Who is asked then; the baseline if absent."""
    signal: Literal["logprobs", "judge", "checks"] | None = None
    """``logprobs``: the model's own probabilities; ``judge``: the pool's judge is asked how good the answer is, which costs a call and
    its time; ``checks``: nothing but the checks. Not set: ``logprobs`` where the model has that capability, else ``checks``."""
    checks: frozenset[Literal["refusal", "length", "json"]] = frozenset({"refusal", "json"})
    """What makes an answer fail: it refuses; it was cut at the request's limit; it is not the JSON that was asked for (by its schema
    with the extra ``checks``)."""
    pattern: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    """An answer fails without a match of this regular expression (RE2; needs the extra ``checks``)."""
    threshold: Share = 0.5
    """Answers of less confidence escalate, in strata that are not calibrated yet."""
    target_risk: Annotated[Share, Field(gt=0, lt=1)] = 0.05
    """Of all requests that the cheap model gets, at most this share may get a bad answer of it."""
    delta: Annotated[Share, Field(gt=0, lt=1)] = 0.1
    """Probability with which a calibration may be wrong about that."""
    label_percent: Percent = 0
    """Of the cheap model's answers, drawn evenly: the sample to be labelled (topic ``reviews``), by which strata are calibrated."""
    stream: Literal["hold", "off"] = "hold"
    """A request with ``stream: true`` waits until its answer has passed, or (``off``) goes without the cascade."""
    observe: bool = False
    """Answers are checked and the sample is drawn, but nothing escalates: to see what it would cost."""
