"""Past calls added up: by model of the log, by stratum, and as other choices of models would have had them.

Memory: at most 128 strata and ``MOST_NAMES`` models of the log, however many lines there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from router.contract.records import Usage
from router.core.hindsight import Hindsight, Past, Plan
from router.core.price import Price, cost_nano_usd
from router.core.prompt import Prompt
from router.core.quantiles import Sketch, add
from router.history.import_calls import Call

MOST_NAMES = 200
#: Name of the models beyond that, and of the stratum of calls without a prompt.
OTHERS, NO_STRATUM = "(others)", "(no prompt)"


class Classed(NamedTuple):
    """A call and what the installation says of it; ``prompt`` is ``None`` and ``stratum`` empty where the log has no prompt.

    ``asks``: the model of the configuration that stands for the log's, empty where none does.
    """

    call: Call
    asks: str
    prompt: Prompt | None = None
    tokens: int = 0
    stratum: str = ""
    p_ok: Mapping[str, float] = {}


@dataclass(slots=True)
class Logged:
    """A model of the log. Costs in nano-dollars, each with how many calls it is of; ``by_price``: by the configuration's prices."""

    asks: str
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    logged: int = 0
    logged_calls: int = 0
    by_price: int = 0
    by_price_calls: int = 0


@dataclass(slots=True)
class Judged:
    """Calls of a model of the configuration that the log has a quality of; ``p_ok``: of ``p_ok_calls`` of them."""

    calls: int = 0
    quality: float = 0.0
    p_ok_calls: int = 0
    p_ok: float = 0.0
    quality_where_p_ok: float = 0.0


@dataclass(slots=True)
class Slice:
    """A stratum, or all. ``counted``: calls with token counts; ``known``: those of them with ``p_ok`` of the baseline.

    Of what was counted: ``on`` each model all of it, ``least``, and ``plans`` by margin (``core.hindsight``).
    """

    calls: int = 0
    counted: int = 0
    known: int = 0
    prompt_tokens: Sketch = field(default_factory=dict)
    completion_tokens: Sketch = field(default_factory=dict)
    on: dict[str, Plan] = field(default_factory=dict)
    least: Plan = field(default_factory=Plan)
    plans: dict[float, Plan] = field(default_factory=dict)


class Paired(NamedTuple):
    """Two costs of the same calls: what they cost, and what the baseline would have."""

    calls: int
    cost_nano_usd: int
    baseline_nano_usd: int

    def plus(self, cost: int, baseline: int) -> Paired:
        return Paired(self.calls + 1, self.cost_nano_usd + cost, self.baseline_nano_usd + baseline)


class Sums:
    """``margins``: ascending. ``prices``: of all models of the configuration."""

    def __init__(self, pool: Hindsight, prices: Mapping[str, Price], margins: Sequence[float]) -> None:
        self.pool, self.margins = pool, tuple(margins)
        self._prices = prices
        self.calls = 0
        self.from_ms: int | None = None
        self.to_ms: int | None = None
        self.models: dict[str, Logged] = {}
        self.judged: dict[str, Judged] = {}
        self.strata: dict[str, Slice] = {}
        self.all = Slice()
        self.logged = Paired(0, 0, 0)
        self.by_price = Paired(0, 0, 0)

    def add(self, one: Classed) -> None:
        """Count a call."""
        call = one.call
        self.calls += 1
        if call.at_ms is not None:
            self.from_ms = call.at_ms if self.from_ms is None else min(self.from_ms, call.at_ms)
            self.to_ms = call.at_ms if self.to_ms is None else max(self.to_ms, call.at_ms)
        own = None if call.usage is None or not one.asks else cost_nano_usd(self._prices[one.asks], call.usage)
        if call.model:
            self._log(one, own)
        if call.quality is not None and call.model:
            self._judge(one, call.quality)
        slices = (self.all, self.strata.setdefault(one.stratum or NO_STRATUM, Slice()))
        for each in slices:
            each.calls += 1
        if call.usage is not None:
            self._count(one, call.usage, own, slices)

    def _log(self, one: Classed, own: int | None) -> None:
        call = one.call
        name = call.model if call.model in self.models or len(self.models) < MOST_NAMES else OTHERS
        entry = self.models.setdefault(name, Logged("" if name == OTHERS else one.asks))
        entry.calls += 1
        if call.usage is not None:
            entry.prompt_tokens += call.usage.prompt_tokens
            entry.completion_tokens += call.usage.completion_tokens
        if call.cost_nano_usd is not None:
            entry.logged += call.cost_nano_usd
            entry.logged_calls += 1
        if own is not None:
            entry.by_price += own
            entry.by_price_calls += 1

    def _judge(self, one: Classed, quality: float) -> None:
        model = one.asks or one.call.model
        entry = self.judged.setdefault(
            model if model in self.judged or len(self.judged) < MOST_NAMES else OTHERS, Judged()
        )
        entry.calls += 1
        entry.quality += quality
        if model in one.p_ok:
            entry.p_ok_calls += 1
            entry.p_ok += one.p_ok[model]
            entry.quality_where_p_ok += quality

    def _count(self, one: Classed, usage: Usage, own: int | None, slices: tuple[Slice, Slice]) -> None:
        pool = self.pool
        for each in slices:
            each.counted += 1
            add(each.prompt_tokens, usage.prompt_tokens)
            add(each.completion_tokens, usage.completion_tokens)
        past = Past(usage, one.prompt.needs if one.prompt is not None else (), one.p_ok)
        costs = pool.costs(usage)
        baseline = costs.get(pool.baseline)
        if baseline is None:
            return
        if one.call.cost_nano_usd is not None:
            self.logged = self.logged.plus(one.call.cost_nano_usd, baseline)
        if own is not None:
            self.by_price = self.by_price.plus(own, baseline)
        able = pool.able(past, costs)
        cheapest = min(able, key=costs.__getitem__)
        chosen = [(margin, pool.choose(past, costs, able, margin)) for margin in self.margins]
        gains = {name: pool.gain(past, name) for name in costs}
        for each in slices:
            each.known += pool.baseline in past.p_ok
            for name, cost in costs.items():
                each.on.setdefault(name, Plan()).add(cost, gains[name], moved=name != pool.baseline)
            each.least.add(costs[cheapest], gains[cheapest], moved=cheapest != pool.baseline)
            for margin, name in chosen:
                each.plans.setdefault(margin, Plan()).add(costs[name], gains[name], moved=name != pool.baseline)
