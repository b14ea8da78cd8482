"""What calls would have cost elsewhere: exact, never less than the bound, never a model that could not."""

from hypothesis import given
from hypothesis import strategies as st

from router.contract.records import Usage
from router.core.hindsight import Hindsight, Past
from router.core.price import UNPRICED, Price
from router.core.snapshot import ModelFacts

SHARE = st.floats(0, 1)
COUNT = st.integers(0, 10**6)
NAMES = ("small", "mid", "large")


def model(name, price, *, window=10**9, longest=10**9, capabilities=(), **parts):
    return ModelFacts(
        name=name,
        provider_model=name,
        context_window=window,
        max_output_tokens=longest,
        capabilities=frozenset(capabilities),
        price=Price(input_nano_usd_per_token=price, output_nano_usd_per_token=4 * price, **parts)
        if price
        else UNPRICED,
    )


POOL = Hindsight([model("small", 1), model("mid", 5, cached_input_nano_usd_per_token=1), model("large", 20)], "large")


def usages():
    return st.builds(Usage, prompt_tokens=COUNT, completion_tokens=COUNT, cached_tokens=COUNT)


@given(usages(), st.fixed_dictionaries(dict.fromkeys(NAMES, SHARE)), SHARE, SHARE)
def test_a_larger_margin_never_costs_more_and_nothing_costs_less_than_the_bound(usage, p_ok, one, other):
    low, high = sorted((one, other))
    past = Past(usage, p_ok=p_ok)
    costs = POOL.costs(usage)
    able = POOL.able(past, costs)
    careful, bold = (POOL.choose(past, costs, able, margin) for margin in (low, high))
    assert min(costs[name] for name in able) <= costs[bold] <= costs[careful] <= costs["large"]
    assert POOL.gain(past, bold) >= -high - 1e-9
    assert POOL.gain(past, POOL.choose(past, costs, able, 0.0)) >= 0


def test_costs_are_whole_and_by_the_price_of_each():
    usage = Usage(prompt_tokens=100, completion_tokens=10, cached_tokens=50)
    assert POOL.costs(usage) == {"small": 140, "mid": 250 + 50 + 200, "large": 2000 + 800}


def test_a_model_takes_only_what_it_is_able_to():
    small = model("small", 1, window=1000, longest=100, capabilities=["tools"])
    pool = Hindsight([small, model("free", 0), model("large", 9, window=10)], "large")

    def able(needs=(), **usage):
        past = Past(Usage(**usage), needs)
        return pool.able(past, pool.costs(past.usage))

    assert able(prompt_tokens=900, completion_tokens=100) == ["small", "large"]
    assert able(prompt_tokens=901, completion_tokens=100) == ["large"]
    assert able(prompt_tokens=1, completion_tokens=101) == ["large"]
    assert able(("tools",), prompt_tokens=1) == ["small", "large"]
    assert able(("images", "tools"), prompt_tokens=1) == ["large"]


def test_where_the_baseline_is_unknown_nothing_moves_and_nothing_is_gained():
    past = Past(Usage(prompt_tokens=10), p_ok={"small": 1.0})
    costs = POOL.costs(past.usage)
    assert POOL.choose(past, costs, POOL.able(past, costs), 1.0) == "large"
    assert POOL.gain(past, "small") == 0.0
